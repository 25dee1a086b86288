"""What is told of an event, and to whom: pure."""

from typing import Any

import pytest
from tests.unit.notifier.builders import World, changed, opened, settings

from fleetcast.daemons.notifier.topics import EVENTS, line
from fleetcast.events.decisions import PromotionRefused
from fleetcast.events.names import find
from fleetcast.events.payloads import SlotOrdered
from fleetcast.events.remedies import PlaybookRunChanged


def run(phase: str, **changes: object) -> PlaybookRunChanged:
    fields = {"run": "run-7", "playbook": "model_rollback", "phase": phase, "resource_id": "fraud", "by": "remedy"}
    return PlaybookRunChanged.model_validate({**fields, "model": "fraud", "version": "3.2.1", **changes})


def test_opened_incident_is_told_with_its_numbers_and_commands() -> None:
    topic = World().takes(opened())

    assert topic is not None
    assert topic.numbers == ("error rate 8.50 %, limit 5 %",)
    assert topic.command == ("act", "fleetcast rollback fraud --reason inc-1")
    assert topic.look == "fleetcast incident inc-1"
    assert set(topic.wishes) == {"team", "oncall"}


def test_event_that_is_delivered_twice_changes_nothing() -> None:
    world = World()
    world.takes(opened(), sequence=7)

    assert world.takes(opened(), sequence=7) is None
    assert world.takes(opened(), sequence=6) is None
    assert world.topics["inc-1"].step == 1


@pytest.mark.parametrize("what", ["note", "mitigating"])
def test_what_was_done_is_no_news_by_itself_but_stands_in_the_next_message(what: str) -> None:
    world = World()
    world.takes(opened())
    world.tells("team", ())
    world.topics["inc-1"] = world.topics["inc-1"].model_copy(update={"wishes": {}})

    topic = world.takes(changed(what, "mitigating", detail="model_rollback: order sent"))

    assert topic is not None
    assert topic.step == 1
    assert not topic.wishes
    assert topic.done == ("model_rollback: order sent",)


def test_only_those_that_heard_of_an_incident_hear_how_it_went_on() -> None:
    world = World()
    world.takes(opened(severity="medium"))
    assert world.wishes_of() == {"team"}

    world.takes(changed("resolved", "resolved", severity="medium"))

    assert world.wishes_of() == {"team"}


def test_incident_that_becomes_worse_reaches_those_that_page() -> None:
    world = World()
    world.takes(opened(severity="medium"))

    world.takes(changed("severity", "open", severity="critical"))

    assert world.wishes_of() == {"team", "oncall"}


def test_incident_that_becomes_milder_is_no_news() -> None:
    world = World()
    world.takes(opened())

    topic = world.takes(changed("severity", "open", severity="low"))

    assert topic is not None
    assert topic.step == 1


def test_silenced_incident_is_told_to_nobody_until_it_is_not_silenced_any_more() -> None:
    world = World()
    world.takes(opened(silenced=True))
    assert not world.wishes_of()

    world.takes(changed("note", "open", silenced=False))

    assert world.wishes_of() == {"team", "oncall"}


def test_end_of_a_silenced_incident_is_told_to_those_that_heard_of_it_before() -> None:
    from fleetcast.daemons.notifier.state import Member

    world = World()
    world.takes(opened())
    world.tells("oncall", (Member(topic="inc-1", step=1, alert="inc-1"),))
    world.tells("team", (Member(topic="inc-1", step=1),))
    world.takes(changed("mitigated", "mitigated", silenced=True))
    assert not world.wishes_of()

    world.takes(changed("resolved", "resolved", silenced=True))

    assert world.wishes_of() == {"team", "oncall"}


def test_incident_of_a_channel_is_never_told_through_that_channel() -> None:
    world = World()
    failing: dict[str, Any] = {
        "source": "notifier",
        "resource_type": "channel",
        "resource_id": "oncall",
        "version": None,
    }
    world.takes(opened(trigger="notification_failed", **failing))

    assert world.wishes_of() == {"team"}


def test_run_of_a_playbook_is_told_only_when_somebody_is_needed() -> None:
    world = World()
    assert world.takes(run("running")) is None
    assert world.takes(run("succeeded")) is None

    topic = world.takes(run("approval"))

    assert topic is not None
    assert topic.command == ("approve", "fleetcast playbook approve run-7 --reason run-7")
    assert world.wishes_of("run-7") == {"team", "oncall"}


def test_approved_run_is_over_for_those_that_were_asked() -> None:
    world = World()
    world.takes(run("approval"))

    topic = world.takes(run("running"))

    assert topic is not None
    assert topic.over
    assert topic.steps[-1].what == "approved"


def test_run_that_failed_after_its_approval_needs_somebody_again() -> None:
    world = World()
    for phase in ("approval", "running", "failed"):
        world.takes(run(phase, detail="no node answers"))

    topic = world.topics["run-7"]
    assert not topic.over
    assert [step.what for step in topic.steps] == ["approval", "approved", "failed"]


def test_drill_is_told_to_nobody() -> None:
    assert World().takes(run("approval", drill=True)) is None


def test_decisions_go_only_where_a_route_asks_for_them() -> None:
    ordered = SlotOrdered(model="fraud", slot="production", version="4", artifact="a" * 64, generation=2, previous="3")
    quiet, asked = World(), World(settings(routes=[{"channels": ["team"], "tell": ["decisions"]}]))

    topic = asked.takes(ordered)

    assert not (quiet.takes(ordered) or topic).wishes  # type: ignore[union-attr]
    assert topic is not None
    assert set(topic.wishes) == {"team"}
    assert topic.command == ("undo", "fleetcast rollback fraud --to 3 --reason TEXT")


def test_refused_promotion_says_which_gates() -> None:
    gate = {"gate": "elo", "verdict": "fail", "required": "at least 1500", "actual": "1432"}
    world = World(settings(routes=[{"channels": ["team"], "tell": ["decisions"]}]))
    fields = {"model": "fraud", "version": "4", "stage": "production", "by": "ana", "reason": "gates", "n": 3}

    topic = world.takes(PromotionRefused.model_validate({**fields, "gates": [gate]}))

    assert topic is not None
    assert "elo fail: 1432, required at least 1500" in topic.numbers


def test_nobody_is_woken_twice_by_a_run_that_failed_because_it_has_an_incident() -> None:
    world = World()
    world.takes(run("refused", severity="high"))
    assert world.wishes_of("run-7") == {"team"}

    waits = World()
    waits.takes(run("approval", severity="high"))
    assert waits.wishes_of("run-7") == {"team", "oncall"}


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"trigger": "ood_rate"}, ("act", "fleetcast playbook run retrain_requested fraud --reason inc-1")),
        ({"severity": "critical"}, None),
        ({"severity": "critical", "source": "remedy"}, ("act", "fleetcast rollback fraud --reason inc-1")),
        ({"trigger": "frozen"}, None),
        ({"trigger": "snapshots", "phase": "mitigated"}, None),
        ({"phase": "mitigated"}, ("undo", "fleetcast release fraud@3.2.1 --reason inc-1")),
        (
            {"resource_type": "node", "resource_id": "gpu-1", "phase": "mitigated"},
            ("undo", "fleetcast undrain gpu-1 --reason inc-1"),
        ),
        ({"resource_type": "node", "resource_id": "gpu-1", "source": "distributor", "phase": "mitigated"}, None),
    ],
)
def test_the_command_is_one_that_helps_against_what_was_noticed(
    changes: dict[str, Any], command: tuple[str, str] | None
) -> None:
    topic = World().takes(opened(**changes))

    assert topic is not None
    assert topic.command == command


def test_details_do_not_say_the_numbers_again() -> None:
    said = "fraud, since 15:21 UTC:\n- error rate 8.50 %, limit 5 %\nno other version answered"
    topic = World().takes(opened(description=said))

    assert topic is not None
    assert topic.description == "fraud, since 15:21 UTC: no other version answered"


def test_routes_look_at_resource_and_trigger() -> None:
    routes = [{"channels": ["team"], "resources": ["other*"]}, {"channels": ["oncall"], "triggers": ["error_*"]}]
    world = World(settings(routes=routes))
    world.takes(opened())

    assert world.wishes_of() == {"oncall"}


def test_every_event_that_is_told_of_is_one() -> None:
    assert [find(name).name for name in EVENTS] == list(EVENTS)


def test_text_from_elsewhere_becomes_one_harmless_line() -> None:
    assert line("a\r\nBcc: x@y\x00\x1b[31m\u2028b\x85c") == "a Bcc: x@y [31m b c"
    assert len(line("x" * 5000)) == 300
    assert line("x" * 5000).endswith("…")
