"""Who serves a version, who lags and why, who is unreachable, and who is out of service."""

from datetime import UTC, datetime

from tests.unit.registry.test_fleet import NOW, artifact, canary, node, slot

from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import HookStatus, NodeStatus
from fleetcast.registry.fleet import FleetView, Lag, served_by


def seen(*statuses: NodeStatus, drained: tuple[str, ...] = ()) -> FleetView:
    return FleetView.at(NOW, statuses, silent_after_seconds=15, drained=drained)


def hooked(status: NodeStatus, state: str, version: str, detail: str = "") -> NodeStatus:
    """A heartbeat with how far the node's hook is."""
    said = {"state": state, "version": version, "generation": 8, "detail": detail}
    hook = HookStatus.model_validate(said | {"at": datetime.now(UTC).isoformat()})
    (model,) = status.models
    return status.model_copy(update={"models": (model.model_copy(update={"hook": hook}),)})


BACK = slot("1", 8, previous=None)
"""Version 1 again, after version 2 was served at generation 7."""


def test_rollback_is_done_when_every_node_that_can_be_reached_serves_the_former_version() -> None:
    fleet = seen(node("a", "1", 8), node("b", "1", 9), node("c", "2", 7, held=("1",), age=100))
    answer = served_by(fleet, BACK)
    assert (answer.serving, answer.expected, answer.lagging) == (("a", "b"), ("a", "b", "c"), ())
    assert [s.node for s in answer.unreachable] == ["c"]
    assert answer.done
    assert not answer.complete
    assert answer.sentence.startswith("2 of 3 nodes serve hex8@1 at generation 8; c: silent since ")


def test_node_that_still_serves_the_bad_version_is_named_and_blocks() -> None:
    answer = served_by(seen(node("a", "1", 8), node("b", "2", 7, held=("1",))), BACK)
    assert [(s.node, s.lag) for s in answer.lagging] == [("b", Lag.OLD_GENERATION)]
    assert not answer.done


def test_node_whose_former_version_is_damaged_is_named_as_not_verified() -> None:
    answer = served_by(seen(node("a", "1", 8), node("b", "2", 7)), BACK)
    assert [str(s) for s in answer.lagging] == ["b: has not verified 1"]


def test_silent_node_that_served_it_when_it_was_heard_last_counts() -> None:
    assert served_by(seen(node("a", "1", 8, age=100)), BACK).serving == ("a",)


def test_node_that_has_stopped_is_unreachable_and_blocks_nothing() -> None:
    fleet = seen(node("a", "1", 8), node("b", "2", 7, state=DaemonState.STOPPED))
    answer = served_by(fleet, BACK)
    assert answer.done
    assert [s.node for s in answer.unreachable] == ["b"]


def test_nobody_that_can_be_reached_is_not_done() -> None:
    assert not served_by(seen(node("a", "2", 7, age=100)), BACK).done
    assert not served_by(seen(), BACK).done


def test_drained_node_is_none_of_the_m_and_is_named() -> None:
    fleet = seen(node("a", "1", 8), node("b", "2", 7), drained=("b",))
    answer = served_by(fleet, BACK)
    assert (answer.expected, answer.drained) == (("a",), ("b",))
    assert answer.complete
    assert answer.sentence == "1 of 1 nodes serve hex8@1 at generation 8; drained: b"
    assert fleet.production_count(BACK).wanting == ("a",)
    assert fleet.holders(artifact("2")) == ("b",)


def test_process_that_was_not_told_does_not_serve_it() -> None:
    failed = hooked(node("a", "1", 8), "failed", "1", "exit 3: port 8080 is taken")
    running = hooked(node("b", "1", 8), "running", "1")
    behind = hooked(node("c", "1", 8), "ok", "2")
    told = hooked(node("d", "1", 8), "ok", "1")
    answer = served_by(seen(failed, running, behind, told), BACK)
    assert answer.serving == ("d",)
    assert [(s.node, s.lag) for s in answer.lagging] == [
        ("a", Lag.HOOK_FAILED),
        ("b", Lag.HOOK_RUNS),
        ("c", Lag.HOOK_RUNS),
    ]
    assert "exit 3: port 8080 is taken" in answer.sentence


def test_silent_node_whose_hook_failed_is_unreachable() -> None:
    answer = served_by(seen(hooked(node("a", "1", 8, age=100), "failed", "1", "exit 3")), BACK)
    assert [s.node for s in answer.unreachable] == ["a"]


def test_canary_is_served_by_its_own_nodes_alone() -> None:
    order = slot("1", 8, canary=canary("2", "a"))
    fleet = seen(node("a", "2", 8), node("b", "1", 8))
    assert served_by(fleet, order).expected == ("b",)
    assert served_by(fleet, order, version="2").serving == ("a",)


def test_version_that_no_slot_names_is_served_by_nobody() -> None:
    answer = served_by(seen(node("a", "1", 8)), BACK, version="9")
    assert (answer.serving, [s.lag for s in answer.lagging]) == ((), [Lag.OTHER_VERSION])


def test_earlier_generation_may_be_asked_for() -> None:
    assert served_by(seen(node("a", "1", 6)), BACK, generation=6).done


def test_last_node_that_serves_a_model_is_alone() -> None:
    fleet = seen(node("a", "1", 8), node("b", "1", 8, age=100), node("c", "1", 8), drained=("c",))
    assert fleet.alone("a") == ("hex8",)
    assert fleet.alone("b") == ()
    assert seen(node("a", "1", 8), node("b", "2", 7)).alone("a") == ()


def test_answer_is_json() -> None:
    document = served_by(seen(node("a", "1", 8), node("b", "2", 7)), BACK).document()
    assert document["done"] is False
    assert document["lagging"] == [{"node": "b", "lag": "not verified", "detail": "has not verified 1"}]
