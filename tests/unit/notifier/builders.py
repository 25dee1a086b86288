"""Events, topics and outboxes for tests, with what a test is about as arguments."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fleetcast.config.notifier import NotifierSettings
from fleetcast.daemons.notifier.routing import routes_in_force, wishes
from fleetcast.daemons.notifier.rules import noted
from fleetcast.daemons.notifier.state import Member, Topic
from fleetcast.daemons.notifier.topics import fold, topic_of
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.incidents import IncidentChanged, IncidentOpened
from fleetcast.events.payloads import Payload
from fleetcast.registry.commands import stamp

START = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SLACK = {"kind": "slack", "url": "/run/secrets/slack"}
PAGES = {"kind": "pagerduty", "routing_key": "/run/secrets/pagerduty"}
BASE: dict[str, Any] = {
    "incident": "inc-1",
    "source": "monitor",
    "resource_type": "ml_model",
    "resource_id": "fraud",
    "version": "3.2.1",
    "trigger": "error_rate",
    "severity": "high",
    "title": "fraud@3.2.1: error rate above its limit",
    "opened_at": stamp(START),
    "by": "monitor",
}


def settings(**changes: Any) -> NotifierSettings:
    return NotifierSettings.model_validate({"channels": {"team": SLACK, "oncall": PAGES}, **changes})


def event(payload: Payload) -> Event:
    return new_event(payload, source="/test")


def opened(incident: str = "inc-1", **changes: Any) -> IncidentOpened:
    context = {"reasons": ["error rate 8.50 %, limit 5 %"]}
    return IncidentOpened.model_validate(
        {**BASE, "incident": incident, "phase": "open", "context": context, "runbook": "error-rate.md", **changes}
    )


def changed(what: str, phase: str, incident: str = "inc-1", **changes: Any) -> IncidentChanged:
    return IncidentChanged.model_validate(
        {**BASE, "incident": incident, "what": what, "phase": phase, "from_phase": "open", **changes}
    )


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class World:
    """What the intake would have stored of some events, and what channels were told."""

    def __init__(self, chosen: NotifierSettings | None = None) -> None:
        self.settings = chosen or settings()
        self.topics: dict[str, Topic] = {}
        self._sequence = 0

    def takes(self, payload: Payload, *, seconds: float = 0.0, sequence: int | None = None) -> Topic | None:
        self._sequence = sequence or self._sequence + 1
        said = event(payload)
        name = topic_of(said)
        if name is None:
            return None
        folded = fold(self.topics.get(name), said, sequence=self._sequence, at=after(seconds))
        if folded is None:
            return None
        made, what = folded
        wanted = wishes(made, what, routes_in_force(self.settings), stamp(after(seconds)))
        self.topics[name] = made.model_copy(update={"wishes": dict(wanted)})
        return self.topics[name]

    def tells(self, channel: str, members: tuple[Member, ...], *, seconds: float = 0.0) -> None:
        for member in members:
            self.topics[member.topic] = noted(self.topics[member.topic], channel, member, after(seconds))

    def wishes_of(self, name: str = "inc-1") -> set[str]:
        return set(self.topics[name].wishes)
