"""Who counts, who is ready, and what is degraded, from heartbeats and slots alone."""

import io

import pytest
from rich.console import Console
from tests.unit.cli.builders import NOW, held, node, slot, transfer

from fleetcast.cli.status import _model_table
from fleetcast.events.content import Kind
from fleetcast.events.payloads import DaemonState, Wants
from fleetcast.events.state import CanaryEntry, NodeStatus, SlotState
from fleetcast.registry.picture.nodes import NodeView, problems, rollout, rollout_document, views


def seen(*statuses: NodeStatus) -> tuple[NodeView, ...]:
    return views(statuses, now=NOW, heartbeat_seconds=5.0)


def test_a_node_is_lost_after_three_silent_heartbeats() -> None:
    quiet, lost = seen(node("a", age=14.9), node("b", age=15.1))
    assert (quiet.state, quiet.alive) == ("ready", True)
    assert (lost.state, lost.alive) == ("lost", False)


def test_a_node_that_stopped_in_order_is_stopped_however_long_ago() -> None:
    (stopped,) = seen(node("a", age=9999, state=DaemonState.STOPPED))
    assert (stopped.state, stopped.alive) == ("stopped", False)


def test_only_nodes_whose_wants_match_are_counted() -> None:
    nodes = seen(
        node("a", held("hex8", "2", 7)),
        node("b", held("hex8", "2", 7)),
        node("c", wants=Wants(models=("fraud_*",))),
    )
    progress = rollout(slot("hex8", "2", 7), nodes)
    assert (progress.ready, progress.wanted, progress.complete) == (("a", "b"), 2, True)


def test_the_right_version_at_an_older_generation_does_not_count() -> None:
    progress = rollout(slot("hex8", "2", 7), seen(node("a", held("hex8", "2", 6))))
    assert not progress.complete
    assert progress.waiting[0].reason == "has it, and is about to serve it"


def test_a_model_and_a_lane_of_the_same_name_are_told_apart() -> None:
    nodes = seen(node("a", held("hex8", "2", 7, kind="dataset")))
    assert not rollout(slot("hex8", "2", 7), nodes).complete
    assert rollout(slot("hex8", "2", 7, Kind.DATASET), nodes).complete


def test_nobody_wanting_a_model_is_not_completion() -> None:
    assert not rollout(slot("hex8", "2", 7), ()).complete


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (node("a", age=60), "lost, last heard 1 m 0 s ago"),
        (node("a"), "has no version yet"),
        (node("a", transfers=(transfer("a"),)), "fetching 40 %"),
        (node("a", transfers=(transfer("a", state="failed", reason="disk full"),)), "failed 40 %: disk full"),
        (node("a", held("hex8", "1", 6)), "serves 1 at generation 6"),
    ],
)
def test_a_node_that_is_behind_says_why(status: NodeStatus, reason: str) -> None:
    (behind,) = rollout(slot("hex8", "2", 7), seen(status)).waiting
    assert behind.reason == reason


def test_a_healthy_fleet_has_no_problems() -> None:
    nodes = seen(node("a", held("hex8", "2", 7)))
    assert problems(nodes, [rollout(slot("hex8", "2", 7), nodes)], 0) == ()


def test_every_kind_of_trouble_is_named_once() -> None:
    nodes = seen(
        node("a", held("hex8", "2", 7), state=DaemonState.DEGRADED),
        node("b", age=60),
        node("c", held("hex8", "2", 7), transfers=(transfer("c", version="3", state="failed", reason="no source"),)),
    )
    found = problems(nodes, [rollout(slot("hex8", "2", 7), nodes)], 2)
    assert [words for words in found if words.startswith("node b is lost")]
    assert [words for words in found if words.startswith("node a is degraded")]
    assert [words for words in found if words.startswith("hex8@2 is on 2 of 3 nodes: b lost")]
    assert [words for words in found if words == "hex8@3 on c: transfer failed: no source"]
    assert found[-1] == "2 dead letters"


def test_an_empty_fleet_is_a_problem() -> None:
    assert problems((), (), 0) == ("no node has been heard from",)


def canaries(percent: int, *nodes: str) -> SlotState:
    canary = CanaryEntry(version="3", artifact="b" * 64, percent=percent, nodes=nodes)
    return slot("hex8", "2", 7).model_copy(update={"canary": canary})


def on_canary(name: str) -> NodeStatus:
    status = held("hex8", "3", 7)
    installed = tuple(v.model_copy(update={"artifact": "b" * 64}) for v in status.installed)
    return node(name, status.model_copy(update={"installed": installed, "canary": "3"}))


def test_nodes_of_a_canary_are_counted_for_it_and_the_rollout_is_complete_with_them() -> None:
    progress = rollout(
        canaries(33, "c"), seen(node("a", held("hex8", "2", 7)), node("b", held("hex8", "2", 7)), on_canary("c"))
    )
    assert (progress.ready, progress.wanted, progress.complete) == (("a", "b"), 3, True)
    assert progress.canary is not None
    assert (progress.canary.ready, progress.canary.wanted, progress.canary.form) == (("c",), 1, "nodes")
    assert rollout_document(progress)["canary"] == {
        "version": "3",
        "percent": 33,
        "form": "nodes",
        "ready": ["c"],
        "waiting": [],
    }


def test_a_canary_that_is_missing_somewhere_is_a_problem_with_the_reason() -> None:
    nodes = seen(node("a", held("hex8", "2", 7)), node("b", held("hex8", "2", 7)))
    progress = rollout(canaries(50, "b"), nodes)
    assert not progress.complete
    assert problems(nodes, [progress], 0) == (
        "canary hex8@3 is on 0 of 1 nodes: b serves 2 at generation 7 (not verified)",
    )


def test_a_stranger_is_named() -> None:
    nodes = seen(node("a", held("hex8", "2", 7)), on_canary("b"))
    found = problems(nodes, [rollout(slot("hex8", "2", 7), nodes)], 0)
    assert "hex8 on b: serves 3 at generation 7, which no slot names" in found


def test_the_table_says_n_of_m_at_which_generation_and_what_a_canarys_percentage_is_of() -> None:
    nodes = seen(node("a", held("hex8", "2", 7)), node("b", held("hex8", "2", 7)), on_canary("c"))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(_model_table([rollout(canaries(33, "c"), nodes)], nodes))
    header, line = console.export_text().splitlines()[:2]
    assert header.split()[:4] == ["MODEL", "VERSION", "PRODUCTION", "CANARY"]
    assert "2 of 3 at generation 7" in line
    assert "3: 1 of 1 (33 % of nodes)" in line
    console.print(_model_table([rollout(canaries(10), nodes)], nodes))
    assert "(10 % of requests)" in console.export_text()
