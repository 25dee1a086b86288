"""What is said when a verdict changes: the fact itself, the incident, and what is asked for. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from fleetcast.daemons.monitor.verdicts import Remedy, VerdictEvent, rfc3339
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.ids import derived_id
from fleetcast.events.incidents import AboutResource, IncidentCleared, ResourceType, Severity, Verdict
from fleetcast.events.names import of
from fleetcast.events.payloads import Payload
from fleetcast.events.remedies import PlaybookRequested
from fleetcast.events.verdicts import ModelVerdicts, RaisedIncident, SaidVerdict

DRAIN: Final = "node_drain"
"""The playbook that takes a node out of service."""

SignalKey = tuple[str, str, str | None]
"""Version, signal, node."""


@dataclass(frozen=True, slots=True)
class Retired:
    """A version is not served any more: what was said of it holds no longer."""

    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Saying:
    """Who says it, when, and with which fence. The ids of facts are made of the model and of how often something was
    said of it, so that saying it again after a lost answer says nothing twice."""

    source: str
    at: datetime
    fence: int


@dataclass(frozen=True, slots=True)
class Said:
    """A model after something was said of it, and the facts that say it."""

    after: ModelVerdicts
    facts: tuple[Event, ...] = ()


@dataclass(slots=True)
class _Making:
    known: ModelVerdicts
    saying: Saying
    facts: list[Event] = field(default_factory=list)

    def first(self, payload: Payload, discriminator: str = "") -> None:
        """A fact that follows from nothing but snapshots."""
        place = f"verdicts/{self.known.model}/{self.known.n + 1}"
        name = derived_id(place, of(payload).type, discriminator)
        self.facts.append(new_event(payload, source=self.saying.source, event_id=name, time=self.saying.at))

    def follows(self, payload: Payload, discriminator: str = "") -> None:
        """A fact that follows from the verdict."""
        self.facts.append(
            new_event(
                payload,
                source=self.saying.source,
                cause=self.facts[0],
                discriminator=discriminator,
                time=self.saying.at,
            )
        )


def key_of(said: SaidVerdict | VerdictEvent) -> SignalKey:
    """What a verdict is about, within its model."""
    return (said.version, said.signal, said.node)


def is_news(before: SaidVerdict | None, event: VerdictEvent) -> bool:
    """Whether an event says anything that was not said: by us, by who judged the model before us, or before a
    replay, which may find the same breach at another snapshot and so weigh it a little differently."""
    if before is None:
        return event.verdict is not Verdict.INSUFFICIENT
    if event.verdict is not before.verdict:
        # Too little was seen since a breach: that takes nothing back.
        return not (event.verdict is Verdict.INSUFFICIENT and before.verdict is Verdict.BREACH)
    if event.verdict is not Verdict.BREACH:
        return event.slot != before.slot
    return event.action != before.action or _rank(event.severity) > _rank(before.severity)


def _rank(severity: Severity | None) -> int:
    return -1 if severity is None else severity.rank


def _asks(before: SaidVerdict | None, event: VerdictEvent) -> bool:
    """Whether something is to be asked for that was not asked for in the same breach."""
    return before is None or before.verdict is not Verdict.BREACH or before.action != event.action


def changed(known: ModelVerdicts, event: VerdictEvent, saying: Saying) -> Said:
    """What is said of a verdict; nothing, where it is no news."""
    before = next((said for said in known.said if key_of(said) == key_of(event)), None)
    if not is_news(before, event):
        return Said(known)
    making = _Making(known, saying)
    payload = event.fact()
    making.first(payload.model_copy(update={"before": before.verdict if before else None}))
    raised = _incident(making, before, event)
    if _asks(before, event):
        for request in (event.rollback(), event.retrain(), _drain(event)):
            if request is not None:
                making.follows(request)
    said = SaidVerdict(
        version=event.version,
        slot=event.slot,
        signal=event.signal,
        node=event.node,
        verdict=event.verdict,
        severity=event.severity,
        since=rfc3339(event.at),
        raised=raised,
        required=event.required,
        actual=event.actual,
        samples=event.samples,
        generation=event.generation,
        action=event.action,
    )
    others = (each for each in known.said if key_of(each) != key_of(event))
    return _said(making, (*others, said))


def retired(known: ModelVerdicts, gone: Retired, saying: Saying) -> Said:
    """What is said when a version is not served any more: its incidents are over, as far as a monitor can tell."""
    making = _Making(known, saying)
    left = [said for said in known.said if said.version == gone.version]
    if not left:
        return Said(known)
    for raised in dict.fromkeys(said.raised for said in left if said.raised is not None):
        making.first(_cleared(raised, gone.reason), _name(raised))
    return _said(making, tuple(each for each in known.said if each.version != gone.version))


def _said(making: _Making, said: tuple[SaidVerdict, ...]) -> Said:
    known, saying = making.known, making.saying
    at = rfc3339(saying.at.timestamp())
    after = ModelVerdicts(model=known.model, n=known.n + 1, fence=saying.fence, said=said, at=at)
    return Said(after, tuple(making.facts))


def _incident(making: _Making, before: SaidVerdict | None, event: VerdictEvent) -> RaisedIncident | None:
    """The incident that is open after *event*; says what is raised, and what is over."""
    known = before.raised if before else None
    raised = event.raised()
    new = known if raised is None else _identity(raised)
    if raised is not None:
        making.follows(raised)
    elif event.verdict is Verdict.OK:
        new = None
    if known is not None and known != new:
        making.follows(
            _cleared(known, f"{event.signal} of {event.model}@{event.version}: {event.actual}"), _name(known)
        )
    return new


def _cleared(raised: RaisedIncident, reason: str) -> IncidentCleared:
    return IncidentCleared(source="monitor", reason=reason[:2000], **raised.model_dump())


def _name(raised: RaisedIncident) -> str:
    return f"{raised.resource_type}/{raised.resource_id}/{raised.version}/{raised.trigger}"


def _identity(about: AboutResource) -> RaisedIncident:
    return RaisedIncident(
        resource_type=about.resource_type,
        resource_id=about.resource_id,
        version=about.version,
        trigger=about.trigger,
    )


def _drain(event: VerdictEvent) -> PlaybookRequested | None:
    """The request to take a node out of service; None: the mode or the evidence does not ask for it."""
    if event.remedy is not Remedy.DRAIN or event.node is None or event.action not in {"ask", "drain"}:
        return None
    asked = {"approval": "required"} if event.action == "ask" else {}
    return PlaybookRequested(
        playbook=DRAIN,
        resource_type=ResourceType.NODE,
        resource_id=event.node,
        version=event.version,
        params={"model": event.model},
        reasons=event.reasons,
        requested_by="monitor",
        evidence=dict(event.context) | asked,
    )
