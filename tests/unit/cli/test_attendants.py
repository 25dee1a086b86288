"""Who serves the whole fleet beside the registry, and who is missed."""

from fleetcast.daemons.testing import heartbeat
from fleetcast.events.payloads import DaemonState
from fleetcast.registry.picture.attendants import Attendants
from fleetcast.registry.picture.nodes import NodeView


def one(
    node: str, state: DaemonState = DaemonState.READY, *, silent: bool = False, status: str = "at work"
) -> NodeView:
    said = heartbeat(node, at="2026-11-21T12:00:00Z", daemon="monitor", state=state, status=status)
    return NodeView(said, 40.0 if silent else 1.0, silent, None)


def test_a_fleet_without_any_is_not_degraded() -> None:
    nobody = Attendants({"monitor": (), "remedy": ()})
    assert (nobody.sentences, nobody.problems, nobody.document()) == ((), (), [])


def test_each_says_what_it_does() -> None:
    assert Attendants({"monitor": (one("a"), one("b"))}).sentences == ("monitor: a (at work); b (at work)",)


def test_one_that_is_lost_is_missed_with_what_is_not_done_meanwhile() -> None:
    (problem,) = Attendants({"monitor": (one("a", silent=True),)}).problems
    assert problem.startswith("the monitor daemon is away (a is lost, last heard 40 s ago)")
    assert problem.endswith("nobody judges how models perform")


def test_nobody_is_missed_while_another_one_is_there_or_where_it_stopped_in_order() -> None:
    assert Attendants({"monitor": (one("a", silent=True), one("b"))}).problems == ()
    stopped = Attendants({"monitor": (one("a", DaemonState.STOPPED),)})
    assert stopped.problems == ()
    assert "a is stopped" in stopped.sentences[0]


def test_a_monitor_that_hears_nothing_degrades_the_fleet_in_its_own_words() -> None:
    quiet = Attendants({"monitor": (one("a", DaemonState.DEGRADED, status="no snapshot since 11:00:00 UTC"),)})
    assert quiet.problems == ("monitor on a is degraded: no snapshot since 11:00:00 UTC",)
