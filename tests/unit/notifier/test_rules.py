"""When a channel is told, and of what together: pure, in virtual time."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.notifier.builders import PAGES, SLACK, START, World, after, changed, opened, settings

from fleetcast.daemons.notifier import rules
from fleetcast.daemons.notifier.state import Message, Outbox
from fleetcast.events.payloads import SlotOrdered
from fleetcast.registry.commands import stamp

EMPTY = Outbox(channel="team")


def turn(world: World, channel: str, seconds: float, outbox: Outbox | None = None) -> rules.Turn:
    turns = rules.Turns(channel, world.settings)
    now = after(seconds)
    return turns.next(list(world.topics.values()), outbox or Outbox(channel=channel), now, now)


def said(world: World, channel: str, seconds: float, outbox: Outbox | None = None) -> Message:
    """The message of a turn; noted as told."""
    found = turn(world, channel, seconds, outbox)
    assert isinstance(found, rules.Say), found
    world.tells(channel, found.message.members, seconds=seconds)
    return found.message


def sent_at(*seconds: float, channel: str = "team") -> Outbox:
    times = tuple(stamp(after(each)) for each in seconds)
    return Outbox(channel=channel, sent=times, last_sent_at=times[-1])


def test_news_waits_for_what_belongs_to_it() -> None:
    world = World()
    world.takes(opened())

    assert turn(world, "team", 3) == rules.Wait(after(10))

    world.takes(changed("mitigated", "mitigated", detail="3 of 3 nodes serve 3.1.5"), seconds=2)
    message = said(world, "team", 10)
    assert message.title == "[HIGH] opened, mitigated: fraud@3.2.1: error rate above its limit"
    assert ("done", "3 of 3 nodes serve 3.1.5") in message.sections[0].lines


def test_a_storm_becomes_one_message_with_counts() -> None:
    world = World()
    for number in range(300):
        world.takes(opened(f"inc-{number}", resource_id=f"m{number}"), seconds=number / 100)

    message = said(world, "team", 10)

    assert len(message.members) == rules.MEMBERS
    assert len(message.sections) == 10
    assert message.more == 190
    assert message.title == "[HIGH] 200 at once: 200 opened"
    rest = said(world, "team", 71, sent_at(10))
    assert rest.counts == {"opened": 100}
    assert turn(world, "team", 500) == rules.Wait()


def test_messages_of_a_channel_keep_their_distance_but_critical_news_does_not_wait() -> None:
    world = World()
    world.takes(opened())
    assert turn(world, "team", 20, sent_at(15)) == rules.Wait(after(75))

    world.takes(opened("inc-2", severity="critical"), seconds=20)

    assert turn(world, "team", 20, sent_at(15)) == rules.Wait(after(30))
    assert len(said(world, "team", 30, sent_at(15)).members) == 2


def test_more_messages_than_the_channel_takes_in_an_hour_wait_and_share_one() -> None:
    world = World(settings(channels={"team": {**SLACK, "messages_per_hour": 2}}))
    world.takes(opened(severity="critical"), seconds=100)

    full = sent_at(5, 90)

    assert turn(world, "team", 120, full) == rules.Wait(after(3605))
    assert said(world, "team", 3605, full).severity == "critical"


def test_incident_that_came_and_went_within_seconds_is_counted_not_told() -> None:
    world = World()
    world.takes(opened())
    world.takes(changed("resolved", "resolved"), seconds=4)
    assert turn(world, "team", 60) == rules.Wait()

    world.takes(opened("inc-2"), seconds=60)
    message = said(world, "team", 70)

    assert len(message.sections) == 1
    assert message.notes == ("1 more came and went within seconds: fleetcast incidents",)
    assert turn(world, "team", 500) == rules.Wait()


def test_incident_that_was_over_before_a_broken_channel_worked_again_is_told_once() -> None:
    world = World()
    world.takes(opened())
    world.takes(changed("resolved", "resolved"), seconds=900)

    message = said(world, "team", 901)

    assert message.sections[0].what == "opened and resolved"
    assert "for 15 min" in dict(message.sections[0].lines)["since"]


def test_critical_incident_that_nobody_acknowledged_is_told_again() -> None:
    world = World()
    world.takes(opened(severity="critical"))
    said(world, "team", 10)
    assert turn(world, "team", 100, sent_at(10)) == rules.Wait(after(1810))

    again = said(world, "team", 1810, sent_at(10))

    assert again.sections[0].what == "still open"
    assert turn(world, "team", 1811, sent_at(10, 1810)) == rules.Wait(after(3610))


@pytest.mark.parametrize(
    ("what", "phase"), [("acknowledged", "acknowledged"), ("mitigated", "mitigated"), ("resolved", "resolved")]
)
def test_what_is_looked_after_is_not_repeated(what: str, phase: str) -> None:
    world = World()
    world.takes(opened(severity="critical"))
    said(world, "team", 10)
    world.takes(changed(what, phase, severity="critical"), seconds=20)
    said(world, "team", 100, sent_at(10))

    assert turn(world, "team", 10_000, sent_at(10, 100)) == rules.Wait()


def test_silenced_incident_is_counted_in_the_messages_about_others() -> None:
    world = World()
    world.takes(opened("inc-9", silenced=True))
    world.takes(opened())

    assert said(world, "team", 10).notes == ("1 more silenced: fleetcast incidents",)


def test_quiet_hours_let_only_critical_news_through() -> None:
    quiet = {**SLACK, "quiet": [{"from": "09:00", "to": "10:00"}]}
    world = World(settings(channels={"team": quiet}, repeat_seconds=0))
    world.takes(opened())
    assert turn(world, "team", 60) == rules.Wait(after(90))

    world.takes(opened("inc-2", severity="critical"), seconds=60)
    assert [each.topic for each in said(world, "team", 70).members] == ["inc-2"]

    assert [each.topic for each in said(world, "team", 1900).members] == ["inc-1"]


def test_pager_gets_one_alert_per_incident_under_its_id() -> None:
    world = World()
    world.takes(opened())
    world.takes(opened("inc-2", severity="critical"))

    first, second = said(world, "oncall", 10), said(world, "oncall", 10)

    assert [(each.action, each.alert) for each in (first, second)] == [("trigger", "inc-2"), ("trigger", "inc-1")]


def test_pager_hears_of_acknowledging_and_resolving_at_once_and_of_nothing_else() -> None:
    world = World()
    world.takes(opened())
    said(world, "oncall", 10)

    world.takes(changed("mitigated", "mitigated"), seconds=11)
    assert isinstance(turn(world, "oncall", 11), rules.Settle)
    world.tells("oncall", turn(world, "oncall", 11).members)  # type: ignore[union-attr]
    world.takes(changed("acknowledged", "mitigated"), seconds=12)
    assert said(world, "oncall", 12).action == "acknowledge"
    world.takes(changed("resolved", "resolved"), seconds=13)
    done = said(world, "oncall", 13)

    assert (done.action, done.alert) == ("resolve", "inc-1")
    assert turn(world, "oncall", 14) == rules.Wait()


def test_pager_is_not_woken_for_what_was_over_before_it_rang() -> None:
    world = World()
    world.takes(opened())
    world.takes(changed("resolved", "resolved"), seconds=5)

    found = turn(world, "oncall", 20)

    assert isinstance(found, rules.Settle)
    world.tells("oncall", found.members)
    assert turn(world, "oncall", 20) == rules.Wait()


def test_incident_that_comes_back_triggers_again() -> None:
    world = World()
    world.takes(opened())
    said(world, "oncall", 10)
    world.takes(changed("resolved", "resolved"), seconds=11)
    said(world, "oncall", 11)
    world.takes(changed("reopened", "open"), seconds=20)

    again = said(world, "oncall", 30)

    assert (again.action, again.alert) == ("trigger", "inc-1")


def test_storm_is_one_alert_that_ends_with_the_last_of_its_incidents() -> None:
    world = World()
    names = [f"inc-{number}" for number in range(30)]
    for name in names:
        world.takes(opened(name, resource_id=name))

    storm = said(world, "oncall", 10)

    assert storm.action == "trigger"
    assert storm.alert.startswith("storm-")
    assert len(storm.members) == 30
    for name in names[:-1]:
        world.takes(changed("resolved", "resolved", incident=name, resource_id=name), seconds=20)
        quiet = turn(world, "oncall", 20)
        assert isinstance(quiet, rules.Settle)
        world.tells("oncall", quiet.members)
    world.takes(changed("resolved", "resolved", incident=names[-1], resource_id=names[-1]), seconds=30)
    end = said(world, "oncall", 30)
    assert (end.action, end.alert) == ("resolve", storm.alert)


def test_decisions_page_nobody() -> None:
    world = World(settings(routes=[{"channels": ["oncall"], "tell": ["decisions"]}]))
    world.takes(SlotOrdered(model="fraud", slot="production", version="4", artifact="a" * 64, generation=2))

    assert isinstance(turn(world, "oncall", 20), rules.Settle)


# -- deliveries


def under_way() -> Outbox:
    world = World()
    world.takes(opened())
    return rules.begun(EMPTY, said(world, "team", 10), "gpu-1:x", after(10))


def failing(outbox: Outbox, outcome: rules.Later | rules.Refused, seconds: float) -> tuple[Outbox, object]:
    return rules.failed(outbox, outcome, settings(), after(seconds), lambda low, high: high)


def test_failed_delivery_waits_longer_each_time_up_to_a_cap() -> None:
    outbox, delays = under_way(), []
    for _ in range(9):
        outbox, parked = failing(outbox, rules.Later("down"), 20)
        assert parked is None
        assert outbox.next_at is not None
        delays.append((datetime.fromisoformat(outbox.next_at) - after(20)).total_seconds())

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_server_that_asks_for_time_gets_it_but_not_a_week() -> None:
    later, _ = failing(under_way(), rules.Later("429", after_seconds=120), 20)
    week, _ = failing(under_way(), rules.Later("429", after_seconds=7 * 86400), 20)

    assert later.next_at == stamp(after(140))
    assert week.next_at == stamp(after(20 + 3600))


def test_message_is_parked_after_four_hours_and_the_next_one_says_so() -> None:
    outbox, parked = failing(under_way(), rules.Later("down"), 10 + 14_399)
    assert parked is None
    outbox, parked = failing(outbox, rules.Later("down"), 10 + 14_400)

    assert parked is not None
    assert outbox.message is None
    assert outbox.parked[-1].attempts == 2
    world = World()
    world.takes(opened("inc-2"), seconds=20_000)
    note = "1 message before this could not be delivered here: fleetcast notify status team"
    assert note in said(world, "team", 20_010, outbox).notes


def test_message_that_can_never_be_delivered_is_parked_at_once() -> None:
    outbox, parked = failing(under_way(), rules.Refused("hooks.slack.com answers 400"), 11)

    assert parked is not None
    assert rules.alarming(outbox, settings(), after(11))


def test_channel_that_fails_for_minutes_is_an_incident_of_its_own() -> None:
    outbox, _ = failing(under_way(), rules.Later("down"), 20)

    assert not rules.alarming(outbox, settings(), after(319))
    assert rules.alarming(outbox, settings(), after(320))
    assert not rules.alarming(rules.delivered(outbox, after(400)), settings(), after(5000))


def test_message_whose_fate_is_not_known_says_that_it_may_be_a_repetition() -> None:
    sure, _ = failing(under_way(), rules.Later("refused"), 20)
    unsure, _ = failing(under_way(), rules.Later("no answer", unsure=True), 20)

    assert sure.message is not None
    assert unsure.message is not None
    assert (sure.message.again, unsure.message.again) == (False, True)
    assert sure.message.id == unsure.message.id


def test_what_happened_while_a_message_was_under_way_is_told_in_the_next_one() -> None:
    world = World()
    world.takes(opened())
    found = turn(world, "team", 10)
    assert isinstance(found, rules.Say)
    world.takes(changed("mitigated", "mitigated"), seconds=11)
    world.tells("team", found.message.members, seconds=12)

    following = said(world, "team", 80, sent_at(12))

    assert following.sections[0].what == "mitigated"


STEPS = st.sampled_from(
    [
        ("acknowledged", "acknowledged"),
        ("mitigated", "mitigated"),
        ("resolved", "resolved"),
        ("reopened", "open"),
        ("note", "open"),
        ("severity", "open"),
    ]
)


class Life:
    """A channel that delivers everything, in virtual time."""

    def __init__(self, channel: str) -> None:
        self.world = World(settings(channels={"team": SLACK, "oncall": PAGES}, repeat_seconds=0))
        self.channel, self.now = channel, 0.0
        self.alerts: set[str] = set()
        self._outbox = Outbox(channel=channel)

    def happens(self, name: str, what: str, phase: str, severity: str) -> None:
        about = {"resource_id": name, "severity": severity}
        payload = changed(what, phase, name, **about) if name in self.world.topics else opened(name, **about)
        self.world.takes(payload, seconds=self.now)

    def until_quiet(self) -> None:
        for _ in range(200):
            match turn(self.world, self.channel, self.now, self._outbox):
                case rules.Say(message):
                    self._deliver(message)
                case rules.Settle(members):
                    self.world.tells(self.channel, members, seconds=self.now)
                case rules.Wait(None):
                    return
                case rules.Wait(until):
                    assert until is not None
                    self.now = max(self.now + 0.001, (until - START) / timedelta(seconds=1))
        raise AssertionError("it never comes to rest")

    def _deliver(self, message: Message) -> None:
        self.world.tells(self.channel, message.members, seconds=self.now)
        self._outbox = rules.delivered(rules.begun(self._outbox, message, "c", after(self.now)), after(self.now))
        if message.action == "trigger":
            self.alerts.add(message.alert)
        elif message.action == "resolve":
            assert message.alert in self.alerts
            self.alerts.discard(message.alert)


@given(
    st.lists(st.tuples(st.integers(0, 14), STEPS, st.sampled_from(["low", "high", "critical"]), st.floats(0, 90))),
    st.sampled_from(["team", "oncall"]),
)
def test_whatever_happens_every_wish_is_met_in_the_end_and_alerts_end_as_often_as_they_begin(
    steps: list[tuple[int, tuple[str, str], str, float]], channel: str
) -> None:
    life = Life(channel)
    for number, (what, phase), severity, pause in steps:
        life.happens(f"inc-{number}", what, phase, severity)
        life.now += pause
        if pause > 45:
            life.until_quiet()
    life.now += 30
    for name in list(life.world.topics):
        life.happens(name, "resolved", "resolved", "high")
    life.until_quiet()

    # What came and went within seconds waits for a message to be counted in.
    assert all(channel not in each.told for each in life.world.topics.values() if channel in each.wishes)
    assert not life.alerts
