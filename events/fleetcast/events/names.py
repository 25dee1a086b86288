"""The one table of events: names, types, aliases and subjects. Parser, CLI, streams and documents are made from it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from fleetcast.events import backups as b
from fleetcast.events import decisions as d
from fleetcast.events import hooks as h
from fleetcast.events import incidents as i
from fleetcast.events import letters as w
from fleetcast.events import notices as n
from fleetcast.events import payloads as p
from fleetcast.events import remedies as m
from fleetcast.events import runs as r
from fleetcast.events import training as t
from fleetcast.events.errors import UnknownEventType, close_matches
from fleetcast.events.ids import is_name

__all__ = [
    "CATALOGUE",
    "EVENT_PREFIX",
    "FACT_PREFIX",
    "REMEDY_PREFIX",
    "TRAINING_PREFIX",
    "UNKNOWN_KEY",
    "EventType",
    "UnknownEventType",
    "find",
    "from_subject",
    "of",
]

EVENT_PREFIX: Final = "fc.ev."
FACT_PREFIX: Final = "fc.reg.fact."
"""Facts are published here inside a registry batch, and sourced into FC_EVENTS below `fc.ev.`."""
REMEDY_PREFIX: Final = "fc.rem.fact."
"""The same for the batches of a remedy daemon."""
TRAINING_PREFIX: Final = "fc.trn.fact."
"""The same for the batches of a trainer."""
UNKNOWN_KEY: Final = "unknown"
"""Key of an event about something that has no usable name."""

_VERSIONED = re.compile(r"(?P<name>.+)\.v(?P<major>[0-9]{1,4})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One entry of the catalogue.

    Attributes:
        name: dotted, past tense: `model.promoted`.
        payload: the class of its data.
        key_field: where the key (last token of the subject) stands in the payload, dotted; None: the emitter
            chooses the key.
        manual: whether people type it by hand, or only daemons emit it.
    """

    name: str
    payload: type[p.Payload]
    key_field: str | None
    manual: bool = False

    @property
    def type(self) -> str:
        """CloudEvents type: the name and the major version of the payload."""
        return f"{self.name}.v1"

    @property
    def alias(self) -> str:
        """The spelling of older documents and scripts: `MODEL_PROMOTED`."""
        return self.name.upper().replace(".", "_")

    @property
    def stem(self) -> str:
        """The two middle tokens of the subject: `model.promoted`, `model.rollback_requested`."""
        domain, event = self.name.split(".", 1)
        return f"{domain}.{event.replace('.', '_')}"

    def subject(self, key: str) -> str:
        """Where an event about *key* is published; *key* `*` makes a filter."""
        return f"{EVENT_PREFIX}{self.stem}.{key}"

    def fact_subject(self, key: str, prefix: str = FACT_PREFIX) -> str:
        """Where a registry, or with another prefix a remedy daemon or a trainer, publishes the event within a batch; it
        reaches FC_EVENTS as `subject(key)`."""
        return f"{prefix}{self.stem}.{key}"

    def filters(self, key: str = "*") -> tuple[str, str]:
        """Both subjects that a consumer of this type has to ask for: the dotted one and the alias."""
        return self.subject(key), f"{EVENT_PREFIX}{self.alias}.{key}"

    def key_of(self, payload: p.Payload) -> str:
        """The key that *payload* belongs under; `unknown` where it names nothing usable."""
        value = attrgetter(self.key_field or "node")(payload)
        return value if isinstance(value, str) and is_name(value) else UNKNOWN_KEY


def _entry(name: str, payload: type[p.Payload], key: str | None, *, manual: bool = False) -> EventType:
    return EventType(name=name, payload=payload, key_field=key, manual=manual)


CATALOGUE: Final[tuple[EventType, ...]] = (
    _entry("model.promoted", p.ModelPromoted, "model", manual=True),
    _entry("model.registered", p.ModelRegistered, "model", manual=True),
    _entry("export.completed", p.ExportCompleted, "lane", manual=True),
    _entry("distribution.requested", p.DistributionRequested, "model", manual=True),
    _entry("artifact.available", p.ArtifactAvailable, "envelope.statement.model"),
    _entry("transfer.started", p.TransferStarted, "node"),
    _entry("transfer.moved", p.TransferMoved, "node"),
    _entry("transfer.verified", p.TransferVerified, "node"),
    _entry("transfer.failed", p.TransferFailed, "node"),
    _entry("version.reserved", p.VersionReserved, "model"),
    _entry("version.installed", p.VersionInstalled, "model"),
    _entry("version.activated", p.VersionActivated, "model"),
    _entry("version.removed", p.VersionRemoved, "model"),
    _entry("slot.ordered", p.SlotOrdered, "model"),
    _entry("distribution.ordered", p.DistributionOrdered, "model"),
    _entry("stage.changed", d.StageChanged, "model"),
    _entry("promotion.refused", d.PromotionRefused, "model"),
    _entry("rollout.changed", d.RolloutChanged, "model"),
    _entry("evidence.recorded", d.EvidenceRecorded, "model"),
    _entry("approval.recorded", d.ApprovalRecorded, "model"),
    _entry("freeze.changed", d.FreezeChanged, "model"),
    _entry("archive.changed", d.ArchiveChanged, "model"),
    _entry("node.drain.changed", d.DrainChanged, "node"),
    _entry("hook.failed", h.HookFailed, "node"),
    _entry("hook.recovered", h.HookRecovered, "node"),
    _entry("model.rollback.requested", i.RollbackRequested, "model", manual=True),
    _entry("model.retrain.requested", i.RetrainRequested, "model", manual=True),
    _entry("verdict.changed", i.VerdictChanged, "model"),
    _entry("incident.raised", i.IncidentRaised, "resource_id", manual=True),
    _entry("incident.cleared", i.IncidentCleared, "resource_id", manual=True),
    _entry("incident.opened", i.IncidentOpened, "resource_id"),
    _entry("incident.changed", i.IncidentChanged, "resource_id"),
    _entry("trust.changed", d.TrustChanged, "model"),
    _entry("playbook.requested", m.PlaybookRequested, "resource_id", manual=True),
    _entry("playbook.run.changed", m.PlaybookRunChanged, "resource_id"),
    _entry("notification.failed", n.NotificationFailed, "channel"),
    _entry("backup.taken", b.BackupTaken, "node"),
    _entry("integrity.failed", p.IntegrityFailed, "node"),
    _entry("peer.banned", p.PeerBanned, "node"),
    _entry("event.rejected", p.EventRejected, None),
    _entry("letter.settled", w.LetterSettled, "consumer"),
    _entry("node.started", p.NodeStarted, "node"),
    _entry("node.stopped", p.NodeStopped, "node"),
    _entry("run.started", r.RunStarted, "run_id", manual=True),
    _entry("run.epoch.logged", r.RunEpochLogged, "run_id", manual=True),
    _entry("run.metrics.logged", r.RunMetricsLogged, "run_id", manual=True),
    _entry("run.checkpoint.saved", r.RunCheckpointSaved, "run_id", manual=True),
    _entry("run.degraded", r.RunDegraded, "run_id", manual=True),
    _entry("run.fault.recorded", r.RunFaultRecorded, "run_id", manual=True),
    _entry("run.finished", r.RunFinished, "run_id", manual=True),
    _entry("run.moved", t.RunMoved, "run_id"),
    _entry("run.fallback", t.RunFellBack, "run_id"),
    _entry("run.returned", t.RunReturned, "run_id"),
    _entry("run.node.allowed", t.RunNodeAllowed, "run_id"),
    _entry("lane.triggered", t.LaneTriggered, "lane", manual=True),
    _entry("lane.changed", t.LaneChanged, "lane"),
    _entry("node.quarantined", t.NodeQuarantined, "node"),
    _entry("node.reclaim.notice", t.ReclaimNotice, "node", manual=True),
)

_BY_PAYLOAD: Final = {entry.payload: entry for entry in CATALOGUE}


def _index(*spellings: Callable[[EventType], str]) -> dict[str, EventType]:
    return {spelling(entry): entry for entry in CATALOGUE for spelling in spellings}


_BY_SPELLING: Final = _index(attrgetter("name"), attrgetter("type"), attrgetter("alias"), attrgetter("stem"))


def find(spelling: str) -> EventType:
    """The event type of any *spelling*: `model.promoted`, `model.promoted.v1`, `MODEL_PROMOTED`.

    Raises:
        UnknownEventType: no event is called so; carries close matches.
    """
    entry = _BY_SPELLING.get(spelling)
    if entry is None:
        raise _unknown(spelling)
    return entry


def of(payload: p.Payload) -> EventType:
    """The event type that carries *payload*.

    Raises:
        UnknownEventType: the class is not in the catalogue.
    """
    entry = _BY_PAYLOAD.get(type(payload))
    if entry is None:
        raise UnknownEventType(type(payload).__name__)
    return entry


def from_subject(subject: str) -> tuple[EventType, str]:
    """Event type and key of *subject*: `fc.ev.model.promoted.<key>`, `fc.ev.MODEL_PROMOTED.<key>`, or a fact's.

    Raises:
        UnknownEventType: the subject is not one of an event; carries close matches.
    """
    prefix = next(
        (each for each in (EVENT_PREFIX, FACT_PREFIX, REMEDY_PREFIX, TRAINING_PREFIX) if subject.startswith(each)), None
    )
    if prefix is None:
        raise UnknownEventType(subject, reason=f"{subject[:80]!r} is not below {EVENT_PREFIX}")
    spelling, _, key = subject.removeprefix(prefix).rpartition(".")
    entry = _BY_SPELLING.get(spelling)
    if entry is None or spelling == entry.type:
        raise _unknown_subject(subject, spelling, key)
    if not is_name(key):
        raise UnknownEventType(subject, reason=f"the last token of {subject[:120]!r} is not a name (a-z 0-9 _ -)")
    return entry, key


def _unknown_subject(subject: str, spelling: str, key: str) -> UnknownEventType:
    whole = _BY_SPELLING.get(f"{spelling}.{key}" if spelling else key)
    if whole is not None:
        return UnknownEventType(
            subject, reason=f"{subject!r} lacks its last token, the {whole.key_field or 'key'}: {whole.subject('NAME')}"
        )
    return _unknown(spelling)


def _unknown(spelling: str) -> UnknownEventType:
    versioned = _VERSIONED.match(spelling)
    if versioned and versioned["name"] in _BY_SPELLING and int(versioned["major"]) > 1:
        return UnknownEventType(
            spelling, reason=f"{spelling!r} is newer than this fleetcast, which knows version 1 of it"
        )
    dotted = spelling.lower().replace("_", ".").removesuffix(".v1")
    return UnknownEventType(spelling, close_matches(dotted, (entry.name for entry in CATALOGUE)))
