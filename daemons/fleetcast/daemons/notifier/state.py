"""What the notifier keeps in FC_REMEDY: topics, with what each channel was told of them, and one outbox per channel.

A topic is written once for every event that changes it, with the wishes of all channels; only then the event is
acknowledged. An outbox holds the message that is under way as it is sent, so that a successor sends the same one.
"""

from typing import Any, Final

from fleetcast.events.content import Stored
from fleetcast.events.incidents import Severity
from fleetcast.events.payloads import Moment

TOPIC_STATE: Final = "fc.rem.state.notice."
OUTBOX_STATE: Final = "fc.rem.state.outbox."


def topic_subject(topic: str) -> str:
    """Where a topic is kept; `*` makes a filter."""
    return f"{TOPIC_STATE}{topic}"


def outbox_subject(channel: str) -> str:
    """Where the outbox of a channel is kept; `*` makes a filter."""
    return f"{OUTBOX_STATE}{channel}"


class Wish(Stored):
    """A channel is to be told. `step`: up to which; `at`: when the first news came that it has not been told."""

    step: int
    at: Moment


class Told(Stored):
    """What a channel was told last.

    Attributes:
        alert: key of the alert that it stands in, on channels that have alerts; empty: none was made.
        over, acknowledged, severity: as it was told.
    """

    step: int
    at: Moment
    alert: str = ""
    over: bool = False
    acknowledged: bool = False
    severity: Severity = Severity.LOW


class Step(Stored):
    """One thing that happened: `opened`, `acknowledged`, `mitigated`, `resolved`, `approval`, …"""

    n: int
    what: str
    at: Moment
    by: str = ""
    detail: str = ""


class Topic(Stored):
    """An incident, a run of a playbook that needs somebody, or a decision, as it is told.

    Attributes:
        topic: id of the incident or run; of a decision, one made from its event.
        kind: `incidents`, `playbooks` or `decisions`.
        seen: place in FC_EVENTS of the newest event that is in here.
        step: grows with everything that is worth a message.
        steps: the newest of these, oldest first.
        done: what was done about it, newest last.
        numbers: the reasons, sentences with numbers.
        subject: the model, node, lane, run, transfer or channel that it is about; `about`: which of these.
        over: nothing is left to do.
        wishes, told: by channel.
        command: what to type, and what that does: `act`, `undo` or `approve`; `look`: to see more.
    """

    schema_: int = 1
    topic: str
    kind: str
    seen: int
    title: str
    severity: Severity
    phase: str
    subject: str
    about: str
    version: str = ""
    to: str = ""
    trigger: str = ""
    source: str = ""
    description: str = ""
    numbers: tuple[str, ...] = ()
    runbook: str = ""
    since: Moment
    updated: Moment
    occurrences: int = 1
    step: int = 0
    steps: tuple[Step, ...] = ()
    done: tuple[str, ...] = ()
    acknowledged: bool = False
    silenced: bool = False
    over: bool = False
    command: tuple[str, str] | None = None
    look: str = ""
    wishes: dict[str, Wish] = {}
    told: dict[str, Told] = {}

    @property
    def repeats(self) -> bool:
        """Whether it is critical and looked after by nobody, so that it is told again after a while."""
        return self.kind == "incidents" and self.severity is Severity.CRITICAL and self.phase == "open"


class Member(Stored):
    """What a message says of a topic, to be noted once it is delivered."""

    topic: str
    step: int
    over: bool = False
    acknowledged: bool = False
    severity: Severity = Severity.LOW
    alert: str = ""


class Section(Stored):
    """One topic in words. `lines`: facts, each with its name; `commands`: what to type."""

    topic: str
    kind: str
    what: str
    title: str
    severity: Severity
    lines: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    runbook: str = ""
    facts: dict[str, Any] = {}


class Message(Stored):
    """What goes out at once on one channel.

    Attributes:
        id: made from its members, so that a message that is sent again has the same.
        action: `tell`, and for alerts `trigger`, `acknowledge` or `resolve`.
        alert: key of the alert.
        more: topics beyond those that have a section; `counts`: all of them, by what happened.
        notes: what else is to be said: silenced ones, messages that were given up.
        again: it may have been delivered before: whoever sent it died before that was known.
    """

    id: str
    channel: str
    action: str = "tell"
    alert: str = ""
    title: str
    severity: Severity
    sections: tuple[Section, ...] = ()
    more: int = 0
    counts: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    made_at: Moment
    again: bool = False


class Parked(Stored):
    """A message that was given up, and why."""

    message: Message
    since: Moment
    parked_at: Moment
    attempts: int
    reason: str


class Outbox(Stored):
    """One channel: what is under way, and how it goes.

    Attributes:
        message: under way; None: nothing is.
        claim: the life of a notifier that sends it; only the one that wrote it last may.
        since: the first attempt; attempts, next_at: the next is not before.
        failing_since: of the channel, over messages; None: the last delivery went well.
        sent: when the messages of the last hour went out, oldest first.
        sent_total, parked_total: ever.
        parked: the newest, oldest first; `unsaid`: how many were given up since the last that went out.
        raised: it is an incident that it fails.
    """

    schema_: int = 1
    channel: str
    message: Message | None = None
    claim: str = ""
    since: Moment | None = None
    attempts: int = 0
    next_at: Moment | None = None
    last_error: str = ""
    last_error_at: Moment | None = None
    failing_since: Moment | None = None
    last_sent_at: Moment | None = None
    sent: tuple[Moment, ...] = ()
    sent_total: int = 0
    parked: tuple[Parked, ...] = ()
    parked_total: int = 0
    unsaid: int = 0
    raised: bool = False
