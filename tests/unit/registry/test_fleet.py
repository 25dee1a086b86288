"""Who counts, who serves what, who is behind and who is a stranger: from heartbeats and one slot order alone."""

import hashlib
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.daemons.testing import heartbeat
from fleetcast.events.content import Kind
from fleetcast.events.payloads import Checks, DaemonState, Wants
from fleetcast.events.state import (
    CanaryEntry,
    CanaryForm,
    Cause,
    InstalledVersion,
    ModelStatus,
    NodeStatus,
    SlotEntry,
    SlotState,
)
from fleetcast.registry.fleet import FleetView, Lag, Served, canary_nodes, count_document

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def artifact(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def entry(version: str) -> SlotEntry:
    return SlotEntry(version=version, artifact=artifact(version))


def slot(
    production: str | None, generation: int, *, previous: str | None = None, canary: CanaryEntry | None = None
) -> SlotState:
    return SlotState(
        model="hex8",
        generation=generation,
        production=entry(production) if production else None,
        previous=entry(previous) if previous else None,
        canary=canary,
        cause=Cause(event="e", sequence=1, by="/t", correlation="e"),
        at="now",
    )


def canary(version: str, *nodes: str, percent: int = 33) -> CanaryEntry:
    return CanaryEntry(**entry(version).model_dump(), percent=percent, nodes=nodes)


def node(
    name: str,
    current: str | None = None,
    generation: int = 0,
    *,
    held: tuple[str, ...] = (),
    age: float = 1.0,
    beside: str | None = None,
    wants: Wants | None = None,
    state: DaemonState = DaemonState.READY,
    old: bool = False,
) -> NodeStatus:
    """A heartbeat; *beside*: the canary that stands ready there; *old*: it does not say which artifact is current."""
    checks = Checks(size="ok", sha256="ok", format="ok")
    installed = tuple(
        InstalledVersion(
            version=v, artifact=artifact(v), bytes=1, checks=checks, transport="t", seconds=0, installed_at="now"
        )
        for v in dict.fromkeys((*held, *([current] if current else []), *([beside] if beside else [])))
    )
    model = ModelStatus(
        model="hex8",
        generation=generation,
        current=current,
        artifact=artifact(current) if current and not old else None,
        canary=beside,
        path="/data",
        installed=installed,
    )
    return heartbeat(
        name,
        at=(NOW - timedelta(seconds=age)).isoformat(),
        state=state,
        wants=wants or Wants(),
        models=(model,) if installed or generation else (),
    )


def seen(*statuses: NodeStatus) -> FleetView:
    return FleetView.at(NOW, statuses, silent_after_seconds=15)


# -- who counts


def test_nodes_whose_wants_match_and_that_were_heard_from_within_a_day_count() -> None:
    fleet = seen(
        node("a"),
        node("b", age=23 * 3600),
        node("c", age=25 * 3600),
        node("d", wants=Wants(models=("fraud_*",))),
        node("e", state=DaemonState.DRAINING),
        node("f", state=DaemonState.STOPPED),
    )
    assert fleet.wanting("hex8") == ("a", "b", "f")
    assert fleet.wanting("hex8", Kind.DATASET) == ("a", "b", "d", "f")


def test_daemons_of_other_kinds_are_no_nodes() -> None:
    assert seen(node("a").model_copy(update={"daemon": "registry"})).wanting("hex8") == ()


def test_holders_are_those_that_report_the_artifact_as_installed() -> None:
    fleet = seen(node("a", held=("1", "2")), node("b", held=("2",), age=100), node("c"))
    assert fleet.holders(artifact("2")) == ("a", "b")
    assert fleet.holders(artifact("3")) == ()


def test_what_is_served_is_said_with_artifact_and_generation_also_by_nodes_of_an_older_fleetcast() -> None:
    fleet = seen(node("a", "1", 4), node("b", "2", 5, old=True), node("c", held=("2",)))
    assert fleet.serving("hex8") == {"a": Served("1", artifact("1"), 4), "b": Served("2", artifact("2"), 5)}


# -- N of M


def test_production_is_counted_by_artifact_and_generation() -> None:
    fleet = seen(node("a", "2", 7), node("b", "2", 8), node("c", "1", 7), node("d", "2", 6))
    count = fleet.production_count(slot("2", 7, previous="1"))
    assert (count.serving, len(count.wanting)) == (("a", "b"), 4)
    assert not count.complete


@pytest.mark.parametrize(
    ("status", "lag", "words"),
    [
        (node("x", "1", 6), Lag.NOT_VERIFIED, "has not verified 2"),
        (node("x", "1", 6, held=("2",)), Lag.OLD_GENERATION, "serves 1 at generation 6"),
        (node("x", held=("2",)), Lag.OLD_GENERATION, "serves nothing yet"),
        (node("x", "1", 7, held=("2",)), Lag.OTHER_VERSION, "serves 1 at generation 7"),
        (node("x", "1", 6, age=60), Lag.SILENT, "silent since 2026-11-21T11:59:00"),
        (node("x", "1", 6, state=DaemonState.STOPPED), Lag.SILENT, "silent since"),
    ],
)
def test_a_straggler_is_named_with_its_reason(status: NodeStatus, lag: Lag, words: str) -> None:
    (straggler,) = seen(status).production_count(slot("2", 7, previous="1")).stragglers
    assert (straggler.node, straggler.lag) == ("x", lag)
    assert words in str(straggler)


def test_a_silent_node_that_last_reported_the_ordered_version_still_counts_as_serving_it() -> None:
    assert seen(node("a", "2", 7, age=3600)).production_count(slot("2", 7)).serving == ("a",)


def test_nodes_of_the_canary_are_among_the_m_and_neither_serving_production_nor_behind() -> None:
    fleet = seen(node("a", "2", 7), node("b", "3", 7), node("c", "2", 7, beside="3"))
    count = fleet.production_count(slot("2", 7, canary=canary("3", "b")))
    assert (count.serving, count.wanting, count.canaries) == (("a", "c"), ("a", "b", "c"), ("b",))
    assert (count.stragglers, count.strangers, count.complete) == ((), (), True)


def test_who_serves_what_no_slot_names_is_a_stranger_whether_or_not_it_wants_the_model() -> None:
    away = Wants(models=("fraud_*",))
    fleet = seen(node("a", "2", 7), node("b", "9", 3, wants=away), node("c", "1", 6), node("d", "8", 7))
    count = fleet.production_count(slot("2", 7, previous="1"))
    assert [(s.node, s.served.version) for s in count.strangers] == [("b", "9"), ("d", "8")]
    assert "which no slot names" in str(count.strangers[0])


def test_nobody_serving_is_not_completion_and_nothing_ordered_has_no_stragglers() -> None:
    assert not seen().production_count(slot("2", 7)).complete
    assert seen(node("a")).production_count(slot(None, 7)).stragglers == ()


def test_a_count_in_json_names_everybody() -> None:
    fleet = seen(node("a", "2", 7), node("b"), node("c", "9", 1))
    told = count_document(fleet.production_count(slot("2", 7)))
    assert (told["serving"], told["wanting"]) == (["a"], ["a", "b", "c"])
    assert told["stragglers"] == [
        {"node": "b", "lag": "not verified", "detail": "has not verified 2"},
        {"node": "c", "lag": "not verified", "detail": "has not verified 2"},
    ]
    assert told["strangers"] == [{"node": "c", "version": "9", "artifact": artifact("9"), "generation": 1}]


# -- canaries


def test_a_canary_by_nodes_counts_those_whose_current_holds_it() -> None:
    fleet = seen(node("a", "3", 7), node("b", "2", 7, held=("3",)), node("c", "2", 7, beside="3"))
    count = fleet.canary_count(slot("2", 7, canary=canary("3", "a", "b", "gone")))
    assert count is not None
    assert (count.form, count.percent) == (CanaryForm.NODES, 33)
    assert (count.serving, count.assigned) == (("a",), ("a", "b", "gone"))
    assert {s.node: s.lag for s in count.stragglers} == {"b": Lag.OTHER_VERSION, "gone": Lag.SILENT}


def test_a_canary_by_requests_counts_all_that_have_it_ready() -> None:
    fleet = seen(node("a", "2", 7, beside="3"), node("b", "2", 7), node("c", "2", 6, beside="3"))
    count = fleet.canary_count(slot("2", 7, canary=canary("3")))
    assert count is not None
    assert (count.form, count.serving, count.assigned) == (CanaryForm.REQUESTS, ("a",), ("a", "b", "c"))
    assert {s.node: s.lag for s in count.stragglers} == {"b": Lag.NOT_VERIFIED, "c": Lag.OLD_GENERATION}


def test_without_a_canary_there_is_nothing_to_count() -> None:
    assert seen(node("a", "2", 7)).canary_count(slot("2", 7)) is None


# -- which nodes are a canary's

NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), unique=True, min_size=1, max_size=40)
PERCENT = st.integers(1, 100)


@given(nodes=NAMES, one=PERCENT, other=PERCENT, generation=st.integers(1, 10**6))
def test_a_larger_percentage_keeps_the_nodes_of_a_smaller_one(
    nodes: list[str], one: int, other: int, generation: int
) -> None:
    small, large = sorted((one, other))
    assert set(canary_nodes("hex8", generation, small, nodes)) <= set(canary_nodes("hex8", generation, large, nodes))


@given(nodes=NAMES, percent=PERCENT, generation=st.integers(1, 10**6))
def test_it_is_one_node_at_least_and_never_all_below_100_percent(
    nodes: list[str], percent: int, generation: int
) -> None:
    chosen = canary_nodes("hex8", generation, percent, nodes)
    share = math.ceil(percent * len(nodes) / 100)
    assert len(chosen) == max(1, share if percent == 100 else min(share, len(nodes) - 1))
    assert set(chosen) <= set(nodes)


@given(nodes=NAMES, percent=PERCENT, generation=st.integers(1, 10**6), draw=st.randoms())
def test_the_order_in_which_nodes_are_named_does_not_matter(
    nodes: list[str], percent: int, generation: int, draw: st.DataObject
) -> None:
    shuffled = sorted(nodes, key=lambda _: draw.random())  # type: ignore[attr-defined]
    assert canary_nodes("hex8", generation, percent, nodes) == canary_nodes("hex8", generation, percent, shuffled)


def test_a_node_that_joins_takes_at_most_its_own_place() -> None:
    before = set(canary_nodes("hex8", 7, 50, [f"n{i}" for i in range(20)]))
    after = set(canary_nodes("hex8", 7, 50, [f"n{i}" for i in range(21)]))
    assert len(before - after) <= 1


def test_another_generation_draws_other_nodes() -> None:
    nodes = [f"node-{n}" for n in range(100)]
    drawn = {canary_nodes("hex8", generation, 5, nodes) for generation in range(1, 20)}
    assert len(drawn) > 10


def test_nodes_are_drawn_as_documented() -> None:
    nodes = ["node-1", "node-2", "node-3"]
    first = min(nodes, key=lambda n: hashlib.sha256(f"hex8/7/{n}".encode()).hexdigest())
    assert canary_nodes("hex8", 7, 33, nodes) == (first,)


def test_a_fleet_of_one_is_its_own_canary() -> None:
    assert canary_nodes("hex8", 7, 10, ["only"]) == ("only",)


@pytest.mark.parametrize("percent", [0, 101, -5])
def test_percentages_out_of_range_are_refused(percent: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        canary_nodes("hex8", 7, percent, ["a"])


def test_node_whose_heartbeat_has_no_room_for_a_model_is_not_called_one_that_has_not_got_it() -> None:
    full = node("a").model_copy(update={"left_out": 400})
    [straggler] = seen(full, node("b", current="2", generation=2)).production_count(slot("2", 2)).stragglers
    assert str(straggler) == "a: has no room in its heartbeat to say whether it has 2"
