"""When a channel is told, and of what together: pure, on the stream's time.

News waits `group_wait_seconds` for what belongs to it, messages of one channel keep `group_interval_seconds` apart, and
no more go out in an hour than the channel takes; what comes beyond shares the next message. Channels with alerts get
one per incident, or one for all where there are too many at once.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fleetcast.bus.retry import Backoff
from fleetcast.config.notifier import NotifierSettings
from fleetcast.daemons.notifier import compose
from fleetcast.daemons.notifier.routing import PAGING
from fleetcast.daemons.notifier.state import Member, Message, Outbox, Parked, Told, Topic, Wish
from fleetcast.events.incidents import Severity
from fleetcast.registry.commands import stamp

MEMBERS: Final = 200
"""Topics in one message; what is beyond goes into the next one."""
PARKED: Final = 5
"""Messages that are kept of those that were given up; all of them are events."""
LOOK_SECONDS: Final = 30.0
"""Longest time between looks at what waits for a time of the day."""
RETRY_AFTER_SECONDS: Final = 3600.0
"""Longest delay that a server may ask for: whoever asks for a week is mistaken."""


@dataclass(frozen=True, slots=True)
class Say:
    """Send this."""

    message: Message


@dataclass(frozen=True, slots=True)
class Settle:
    """Nothing is to be said of these, and that is to be noted."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing yet; look again at `until`, and when something changes. None: only then."""

    until: datetime | None = None


Turn = Say | Settle | Wait


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def _member(topic: Topic, alert: str = "") -> Member:
    return Member(
        topic=topic.topic,
        step=topic.step,
        over=topic.over,
        acknowledged=topic.acknowledged,
        severity=topic.severity,
        alert=alert,
    )


class Turns:
    """What one channel is to do next."""

    def __init__(self, channel: str, settings: NotifierSettings) -> None:
        self.channel = channel
        self._settings = settings
        self._own = settings.channels[channel]
        self._pages = self._own.kind in PAGING

    def next(self, topics: Iterable[Topic], outbox: Outbox, now: datetime, local: datetime) -> Turn:
        """The channel's next turn, when nothing is under way.

        Args:
            topics: all that are not over, and all that somebody is to be told of.
            now: of the stream.
            local: of the clock on the wall, for quiet hours.
        """
        known = list(topics)
        wanted = [each for each in known if self.channel in each.wishes]
        wanted.sort(key=lambda each: (-each.severity.rank, each.wishes[self.channel].at, each.topic))
        if self._pages:
            return self._alerts(wanted, known, outbox, now, local)
        return self._tidings(wanted, known, outbox, now, local)

    # -- channels that are told

    def _tidings(
        self, wanted: Sequence[Topic], known: Sequence[Topic], outbox: Outbox, now: datetime, local: datetime
    ) -> Turn:
        heard = self._audible(wanted, local)
        said = [each for each in heard if not self._is_brief(each)]
        times = [self._ready(each, outbox) for each in said]
        repeats, later = self._repeats(known, now)
        if not said and not repeats:
            return self._until([*later, *self._daybreak(wanted, heard, now)])
        ready = max(min([*times, *([now] if repeats else [])]), self._allowance(outbox))
        if ready > now:
            return self._until([ready, *later])
        chosen = [*heard, *repeats][:MEMBERS]
        brief = sum(self._is_brief(each) for each in chosen)
        told = [each for each in chosen if not self._is_brief(each)]
        if not told:
            return Settle(tuple(_member(each) for each in chosen))
        notes = [*self._notes(known, outbox), *self._brief_note(brief)]
        return Say(self._message(told, [_member(each) for each in chosen], now, notes))

    def _ready(self, topic: Topic, outbox: Outbox) -> datetime:
        """When a topic may be told: soon where it is critical news, else not too soon after the last message."""
        ready = _at(topic.wishes[self.channel].at) + _seconds(self._settings.group_wait_seconds)
        told = topic.told.get(self.channel)
        urgent = topic.severity is Severity.CRITICAL and (told is None or told.over)
        if outbox.last_sent_at and not urgent:
            ready = max(ready, _at(outbox.last_sent_at) + _seconds(self._settings.group_interval_seconds))
        return ready

    def _repeats(self, known: Sequence[Topic], now: datetime) -> tuple[list[Topic], list[datetime]]:
        """Critical ones that nobody looks after and that are told again now; and when others will be."""
        due, later = [], []
        for topic in known:
            told = topic.told.get(self.channel)
            if not self._settings.repeat_seconds or told is None or not topic.repeats or topic.acknowledged:
                continue
            if topic.silenced or self.channel in topic.wishes:
                continue
            at = _at(told.at) + _seconds(self._settings.repeat_seconds)
            if at <= now:
                due.append(topic)
            else:
                later.append(at)
        return due, later

    def _is_brief(self, topic: Topic) -> bool:
        """Whether it was over before anybody was to be told of it: worth a count, not a message."""
        if not topic.over or topic.kind == "decisions" or topic.told.get(self.channel) or not topic.steps:
            return False
        lasted = _at(topic.steps[-1].at) - _at(topic.wishes[self.channel].at)
        return lasted < _seconds(self._settings.group_wait_seconds)

    def _brief_note(self, count: int) -> list[str]:
        return [f"{count} more came and went within seconds: fleetcast incidents"] if count else []

    # -- channels that keep alerts

    def _alerts(
        self, wanted: Sequence[Topic], known: Sequence[Topic], outbox: Outbox, now: datetime, local: datetime
    ) -> Turn:
        idle = [each for each in wanted if self._alert_action(each) is None]
        if idle:
            return Settle(tuple(self._kept(each) for each in idle[:MEMBERS]))
        for topic in wanted:
            action = self._alert_action(topic)
            if action in {"resolve", "acknowledge"}:
                return self._followed(topic, str(action), known, now)
        heard = self._audible(wanted, local)
        if not heard:
            return self._until(self._daybreak(wanted, heard, now))
        wait = _seconds(self._settings.group_wait_seconds)
        ready = max(min(_at(each.wishes[self.channel].at) for each in heard) + wait, self._allowance(outbox))
        if ready > now:
            return self._until([ready])
        return self._triggered(heard, known, outbox, now)

    def _alert_action(self, topic: Topic) -> str | None:
        told = topic.told.get(self.channel)
        if told is None or not told.alert or told.over:
            return None if topic.over or (told is None and topic.kind == "decisions") else "trigger"
        if topic.over:
            return "resolve"
        if topic.severity.rank > told.severity.rank:
            return "trigger"
        return "acknowledge" if topic.acknowledged and not told.acknowledged else None

    def _kept(self, topic: Topic) -> Member:
        told = topic.told.get(self.channel)
        return _member(topic, told.alert if told else "")

    def _followed(self, topic: Topic, action: str, known: Sequence[Topic], now: datetime) -> Turn:
        """An alert goes on: one that stands for several topics is over when all of them are."""
        alert = topic.told[self.channel].alert
        sharing = [each for each in known if (told := each.told.get(self.channel)) and told.alert == alert]
        done = all(each.over if action == "resolve" else each.acknowledged or each.over for each in sharing)
        if not done:
            return Settle((self._kept(topic),))
        chosen = [each for each in sharing if self.channel in each.wishes][:MEMBERS]
        members = [self._kept(each) for each in chosen]
        return Say(self._message(chosen, members, now, (), action=action, alert=alert))

    def _triggered(self, heard: Sequence[Topic], known: Sequence[Topic], outbox: Outbox, now: datetime) -> Turn:
        notes = self._notes(known, outbox)
        if len(heard) <= self._settings.alert_limit:
            worst = max(heard, key=lambda each: each.severity.rank)
            members = [_member(worst, worst.topic)]
            return Say(self._message([worst], members, now, notes, action="trigger", alert=worst.topic))
        chosen = list(heard)[:MEMBERS]
        made = self._message(chosen, [_member(each) for each in chosen], now, notes, action="trigger")
        alert = f"storm-{made.id}"
        named = tuple(each.model_copy(update={"alert": alert}) for each in made.members)
        return Say(made.model_copy(update={"alert": alert, "members": named}))

    # -- both

    def _message(
        self,
        chosen: Sequence[Topic],
        members: Sequence[Member],
        now: datetime,
        notes: Sequence[str],
        *,
        action: str = "tell",
        alert: str = "",
    ) -> Message:
        return compose.message(
            self.channel,
            chosen,
            members,
            now=now,
            runbooks=self._settings.runbooks,
            notes=notes,
            action=action,
            alert=alert,
        )

    def _audible(self, wanted: Sequence[Topic], local: datetime) -> list[Topic]:
        """What may be told at this time of the day."""
        if not any(hours.hold_at(local) for hours in self._own.quiet):
            return list(wanted)
        return [each for each in wanted if each.severity is Severity.CRITICAL]

    def _daybreak(self, wanted: Sequence[Topic], heard: Sequence[Topic], now: datetime) -> list[datetime]:
        return [now + _seconds(LOOK_SECONDS)] if len(wanted) > len(heard) else []

    def _allowance(self, outbox: Outbox) -> datetime:
        """From when on the channel takes another message."""
        limit = self._own.messages_per_hour
        if len(outbox.sent) < limit:
            return datetime.min.replace(tzinfo=_at("2000-01-01T00:00:00Z").tzinfo)
        return _at(outbox.sent[-limit]) + _seconds(3600)

    def _notes(self, known: Sequence[Topic], outbox: Outbox) -> list[str]:
        silenced = sum(each.silenced and not each.over for each in known)
        notes = [f"{silenced} more silenced: fleetcast incidents"] if silenced else []
        if outbox.unsaid:
            count = f"{outbox.unsaid} message{'' if outbox.unsaid == 1 else 's'}"
            notes.append(f"{count} before this could not be delivered here: fleetcast notify status {self.channel}")
        return notes

    def _until(self, times: Sequence[datetime]) -> Wait:
        return Wait(min(times)) if times else Wait()


# -- what a delivery led to


@dataclass(frozen=True, slots=True)
class Sent:
    """The channel has it."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """It may be delivered by a later attempt.

    Attributes:
        after_seconds: what the server asked for.
        unsure: it may have been delivered all the same.
    """

    reason: str
    after_seconds: float | None = None
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """This message can never be delivered here."""

    reason: str


Outcome = Sent | Later | Refused


def begun(outbox: Outbox, message: Message, claim: str, now: datetime) -> Outbox:
    """The outbox with a message under way."""
    fresh = {"message": message, "claim": claim, "since": stamp(now), "attempts": 0, "next_at": None}
    return outbox.model_copy(update=fresh)


def taken(outbox: Outbox, claim: str) -> Outbox:
    """The outbox of somebody who died: the message may have been delivered."""
    assert outbox.message is not None
    again = outbox.message.model_copy(update={"again": True})
    return outbox.model_copy(update={"message": again, "claim": claim})


def delivered(outbox: Outbox, now: datetime) -> Outbox:
    """The outbox after a delivery."""
    hour = now - _seconds(3600)
    at = stamp(now)
    return outbox.model_copy(
        update={
            **_IDLE,
            "failing_since": None,
            "last_sent_at": at,
            "sent": (*(each for each in outbox.sent if _at(each) > hour), at),
            "sent_total": outbox.sent_total + 1,
            "unsaid": 0,
        }
    )


_IDLE: Final = {"message": None, "claim": "", "since": None, "attempts": 0, "next_at": None}


def failed(
    outbox: Outbox,
    outcome: Later | Refused,
    settings: NotifierSettings,
    now: datetime,
    uniform: Callable[[float, float], float] = random.uniform,
) -> tuple[Outbox, Parked | None]:
    """The outbox after an attempt that failed, and the message if it is given up."""
    message = outbox.message
    assert message is not None
    since = _at(outbox.since or stamp(now))
    update: dict[str, object] = {
        "attempts": outbox.attempts + 1,
        "last_error": outcome.reason[:500],
        "last_error_at": stamp(now),
        "failing_since": outbox.failing_since or stamp(now),
    }
    if isinstance(outcome, Refused) or now - since >= _seconds(settings.give_up_seconds):
        parked = Parked(
            message=message,
            since=stamp(since),
            parked_at=stamp(now),
            attempts=outbox.attempts + 1,
            reason=outcome.reason[:500],
        )
        kept = (*outbox.parked, parked)[-PARKED:]
        counts = {"parked": kept, "parked_total": outbox.parked_total + 1, "unsaid": outbox.unsaid + 1}
        return outbox.model_copy(update={**update, **_IDLE, **counts}), parked
    backoff = Backoff(settings.retry_base_seconds, settings.retry_cap_seconds, floor_ratio=0.5)
    delay = max(backoff.delay(outbox.attempts + 1, uniform), min(outcome.after_seconds or 0.0, RETRY_AFTER_SECONDS))
    update["next_at"] = stamp(now + _seconds(delay))
    if outcome.unsure:
        update["message"] = message.model_copy(update={"again": True})
    return outbox.model_copy(update=update), None


def alarming(outbox: Outbox, settings: NotifierSettings, now: datetime) -> bool:
    """Whether a channel fails for so long that it is an incident of its own."""
    since = outbox.failing_since
    return since is not None and (outbox.unsaid > 0 or now - _at(since) >= _seconds(settings.alarm_seconds))


def noted(topic: Topic, channel: str, member: Member, now: datetime) -> Topic:
    """The topic once a channel has been told of it, or was given up for it."""
    told = Told(
        step=member.step,
        at=stamp(now),
        alert=member.alert,
        over=member.over,
        acknowledged=member.acknowledged,
        severity=member.severity,
    )
    wish = topic.wishes.get(channel)
    left = {name: each for name, each in topic.wishes.items() if name != channel}
    if wish is not None and wish.step > member.step:
        # Something happened while the message was under way; it waits from now on.
        left[channel] = Wish(step=wish.step, at=stamp(now))
    return topic.model_copy(update={"wishes": left, "told": {**topic.told, channel: told}})
