"""`fleetcast check`: how bad what was found is, and how it is said to a monitoring system."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.cli.builders import NOW, held, slot
from tests.unit.cli.builders import node as status

from fleetcast.cli.check import shown
from fleetcast.cli.check.rules import (
    CONVERGING_SECONDS,
    MANY_DEAD,
    Backup,
    Check,
    Found,
    Slot,
    State,
    aged,
    checks,
    worst,
)
from fleetcast.events.content import Kind
from fleetcast.events.state import ModelStatus
from fleetcast.registry.picture.nodes import NodeView, rollout, views
from fleetcast.registry.picture.truth import LEAST_ROOM_BYTES, Stored, Truth

GIB = 2**30
WELL = Truth((Stored("FC_REGISTRY", 1, 1, 1, None, 1, "", led=True),))


def node(name: str, *models: ModelStatus, age: float = 1.0) -> NodeView:
    return views([status(name, *models, age=age)], now=NOW, heartbeat_seconds=5.0)[0]


def found(**changes: Any) -> Found:
    nodes = (node("node-1", held("m", "2", 7)), node("node-2", held("m", "2", 7)))
    given: dict[str, Any] = {
        "rtt_seconds": 0.001,
        "nodes": nodes,
        "slots": (Slot(rollout(slot("m", "2", 7), nodes), 5.0),),
        "dead_letters": 0,
        "incidents": (),
        "truth": WELL,
        "rooms": (("node-1", 9 * GIB), ("node-2", 8 * GIB)),
    }
    return Found(**(given | changes))


def states(of: Found) -> dict[str, State]:
    return {each.name: each.state for each in checks(of)}


def test_a_fleet_that_is_well_is_ok_everywhere() -> None:
    assert set(states(found()).values()) == {State.OK}


def test_nodes_that_are_behind_are_a_warning_at_first_and_critical_once_they_should_have_come() -> None:
    nodes = (node("node-1", held("m", "2", 7)), node("node-2", held("m", "1", 6)))
    behind = rollout(slot("m", "2", 7), nodes)

    assert states(found(nodes=nodes, slots=(Slot(behind, 5.0),)))["slots"] is State.WARNING
    late = found(nodes=nodes, slots=(Slot(behind, CONVERGING_SECONDS + 1),))
    assert states(late)["slots"] is State.CRITICAL
    assert "node-2" in next(each for each in checks(late) if each.name == "slots").said[0]
    assert states(replace(late, node="node-1"))["slots"] is State.OK
    assert states(replace(late, node="node-2"))["slots"] is State.CRITICAL


def test_a_lane_that_is_called_like_a_model_does_not_lend_it_its_age() -> None:
    model, lane = slot("m", "2", 7), slot("m", "d1", 3, Kind.DATASET)
    old = model.model_copy(update={"at": (NOW - timedelta(hours=1)).isoformat()})
    orders = (old, lane)
    ages = {each.rollout.kind: each.age_seconds for each in aged([rollout(o, ()) for o in orders], orders, NOW)}
    assert ages == {Kind.MODEL: 3600.0, Kind.DATASET: 0.0}


def test_a_lost_node_is_critical_for_the_fleet_and_for_itself_and_not_for_others() -> None:
    lost = found(nodes=(node("node-1"), node("node-2", age=60.0)), slots=())

    assert states(lost)["nodes"] is State.CRITICAL
    assert states(replace(lost, node="node-2"))["nodes"] is State.CRITICAL
    assert states(replace(lost, node="node-1"))["nodes"] is State.OK
    assert states(replace(lost, node="node-9"))["nodes"] is State.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "check", "state"),
    [
        ({"nodes": ()}, "nodes", State.CRITICAL),
        ({"dead_letters": 1}, "dead_letters", State.WARNING),
        ({"dead_letters": MANY_DEAD}, "dead_letters", State.CRITICAL),
        ({"rooms": (("node-1", LEAST_ROOM_BYTES - 1),)}, "disk", State.CRITICAL),
        ({"rooms": (("node-1", LEAST_ROOM_BYTES + 1),)}, "disk", State.WARNING),
        ({"rooms": ()}, "disk", State.UNKNOWN),
        ({"undecided": ("the registry is away",)}, "daemons", State.CRITICAL),
        ({"unattended": ("the notifier is away",)}, "daemons", State.WARNING),
        ({"truth": Truth((replace(WELL.streams[0], led=False),))}, "streams", State.CRITICAL),
        ({"truth": Truth((replace(WELL.streams[0], copies=3),))}, "streams", State.WARNING),
    ],
)
def test_what_is_wrong_has_its_weight(changes: dict[str, Any], check: str, state: State) -> None:
    assert states(found(**changes))[check] is state


def test_not_to_know_is_worse_than_a_warning_and_better_than_what_is_critical() -> None:
    assert worst([State.OK, State.WARNING, State.UNKNOWN]) is State.UNKNOWN
    assert worst([State.UNKNOWN, State.CRITICAL]) is State.CRITICAL
    assert worst([]) is State.UNKNOWN


def test_a_plugin_says_one_line_whatever_is_in_a_name() -> None:
    line = shown.nagios((Check("nodes", State.CRITICAL, ("node | evil\nsecond line",)), *checks(found())))

    assert line.startswith("FLEETCAST CRITICAL - node / evil second line | ")
    assert "\n" not in line
    assert line.count("|") == 1
    assert "nodes_up=2" in line
    assert "disk_free_least=8589934592B" in line


def test_a_plugin_does_not_say_a_hundred_sentences() -> None:
    many = Check("nodes", State.CRITICAL, tuple(f"node-{n} is lost" for n in range(100)))
    assert shown.nagios((many,)).endswith("node-4 is lost; and 95 more")


def test_prometheus_reads_the_textfile() -> None:
    families = {f.name: f for f in text_string_to_metric_families(shown.prometheus(checks(found())) + "\n")}

    assert {s.labels["check"]: s.value for s in families["fleetcast_check_state"].samples} == {
        each.name: 0.0 for each in checks(found())
    }
    measures = {s.labels["measure"]: s.value for s in families["fleetcast_check_measure"].samples}
    assert measures["disk_free_least_bytes"] == 8 * GIB


def test_a_backup_that_is_missing_or_too_old_is_a_warning_and_nothing_where_nobody_set_backups_up() -> None:
    assert "backup" not in states(found())
    assert states(found(backup=Backup(None, 100.0)))["backup"] is State.WARNING
    assert states(found(backup=Backup(101.0, 100.0)))["backup"] is State.WARNING
    assert states(found(backup=Backup(99.0, 100.0)))["backup"] is State.OK
