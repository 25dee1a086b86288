"""Whether all is well, as the command line and the gateway say it."""

from datetime import UTC, datetime, timedelta

from tests.unit.cli.builders import held, node

from fleetcast.events.lifecycle import AuthorityState
from fleetcast.events.quarantine import NodeQuarantine
from fleetcast.registry.picture.condition import Beside, Condition
from fleetcast.registry.picture.live import Fleet

KEPT = AuthorityState(mode="daemon", node="node-1", at="2026-01-01T00:00:00Z")


def now(less_seconds: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=less_seconds)).isoformat()


def fleet(*daemons: str, silent: str = "") -> Fleet:
    """A fleet in which each of *daemons* was heard from just now, but for one that fell *silent* a minute ago."""
    made = Fleet(heartbeat_seconds=5.0)
    for daemon in ("distributor", *daemons):
        said = node("node-1").model_copy(update={"daemon": daemon, "at": now(60 if daemon == silent else 0)})
        made.take_status(said.model_dump_json().encode())
    return made


def wrong(of: Fleet, beside: Beside) -> tuple[str, ...]:
    return Condition(of, beside, ()).wrong


def test_a_fleet_whose_daemons_are_all_heard_is_well() -> None:
    assert wrong(fleet("registry", "monitor", "remedy", "trainer"), Beside(authority=KEPT)) == ()


def test_a_registry_that_is_away_is_no_all_is_well() -> None:
    (said,) = wrong(fleet("registry", silent="registry"), Beside(authority=KEPT))
    assert said.startswith("the registry's daemon is away: node-1 is lost")


def test_an_attendant_that_fell_silent_is_no_all_is_well() -> None:
    (said,) = wrong(fleet("remedy", silent="remedy"), Beside())
    assert said.endswith("no incident is opened and no playbook goes on")


def test_a_trainer_that_fell_silent_and_a_quarantine_are_no_all_is_well() -> None:
    kept = NodeQuarantine(
        node="node-1",
        until=now(-3600),
        gpu=True,
        reason="aborted",
        signature="HSA_X",
        last_fault=None,
        at=now(),
    )
    lost, held = wrong(fleet("trainer", silent="trainer"), Beside(faults={"node-1": kept}))
    assert lost.startswith("the trainer on node-1 is lost")
    assert "its GPUs get no training runs" in held


def test_dead_letters_are_no_all_is_well() -> None:
    assert wrong(fleet(), Beside(dead=2)) == ("2 dead letters",)


def test_a_heartbeat_that_says_nothing_new_changes_nothing_and_one_that_does_or_does_not_come_does() -> None:
    made = fleet("remedy")
    before = made.standing
    made.take_status(node("node-1").model_copy(update={"at": now(), "disk_free": 7}).model_dump_json().encode())
    assert made.standing == before
    moved = node("node-1", held("hex8", "2", 2)).model_copy(update={"at": now()})
    made.take_status(moved.model_dump_json().encode())
    after = made.standing
    assert after != before
    silent = fleet("remedy", silent="remedy")
    assert silent.changes == fleet("remedy").changes
    assert silent.standing != fleet("remedy").standing
