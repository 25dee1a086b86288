"""Incidents, and what asks for a remedy: facts and requests of monitor, remedy and trainers, and what is kept of them.

An incident is something that somebody must know about. Whoever notices says `incident.raised`, as often as it holds,
and `incident.cleared` once it does not; the remedy daemon makes one incident of it, and tells what becomes of that.
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AliasChoices, Field, StringConstraints

from fleetcast.events.content import Stored
from fleetcast.events.ids import Name, Version
from fleetcast.events.lifecycle import Text, Words
from fleetcast.events.payloads import Moment, Payload

TriggerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
ResourceId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@+-]*$")]
"""A model, a node, a lane, a run, a transfer or a channel of the notifier, by its name."""
Facts = Annotated[dict[str, Any], Field(max_length=100)]
"""The numbers that were decided by, by name."""


class Severity(StrEnum):
    """How much an incident matters, least first; `high` and above interrupt people."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class ResourceType(StrEnum):
    """What an incident is about."""

    MODEL = "ml_model"
    NODE = "node"
    LANE = "lane"
    RUN = "run"
    TRANSFER = "transfer"
    CHANNEL = "channel"


def named(resource_type: ResourceType, resource_id: str, version: str | None) -> str:
    """A resource for people: `hex8_2p@43`, `gpu-2`, `gpu-2 (version 43)`, because a node has no versions."""
    if version is None:
        return resource_id
    return f"{resource_id} (version {version})" if resource_type is ResourceType.NODE else f"{resource_id}@{version}"


class IncidentPhase(StrEnum):
    """Where an incident stands. Only `resolved` is its end."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    MITIGATING = "mitigating"
    MITIGATED = "mitigated"
    RESOLVED = "resolved"


class AboutResource(Payload):
    """What an incident is about, and what noticed it: together they are its identity.

    Attributes:
        source: what noticed: `monitor`, `distributor`, `trainer`, `operator`, …
        resource_id: the model, node, lane, run or transfer.
        version: of a model.
        trigger: what was noticed: `error_rate`, `latency_p95`, `node_lost`, …
    """

    source: Text
    resource_type: ResourceType = ResourceType.MODEL
    resource_id: ResourceId
    version: Version | None = None
    trigger: TriggerName


class IncidentRaised(AboutResource):
    """Something is wrong; said again while it lasts, it changes the incident that it opened.

    Attributes:
        began_at: first evidence; None: when it was said.
        context: the numbers; `reasons` is a list of sentences.
        runbook: link for people.
    """

    severity: Severity
    title: Text
    description: Words | None = None
    began_at: Moment | None = None
    context: Facts = {}
    runbook: Text | None = None


def is_around(about: "IncidentRaised | IncidentFact") -> bool:
    """Whether what is wrong is the surroundings' fault and no model's: what the monitor calls critical is bad on both
    versions, so that no version cures it."""
    return about.source == "monitor" and about.severity is Severity.CRITICAL


class IncidentCleared(AboutResource):
    """What was wrong is not any more: the incident resolves after its hold-down."""

    reason: Words
    context: Facts = {}


class IncidentFact(Payload):
    """Fields shared by what is told of an incident.

    Attributes:
        incident: its id.
        occurrences: how often it was said that it holds.
        opened_at: of the incident.
    """

    incident: Name
    source: Text
    resource_type: ResourceType
    resource_id: ResourceId
    version: Version | None = None
    trigger: TriggerName
    severity: Severity
    title: Text
    phase: IncidentPhase
    occurrences: int = Field(default=1, ge=1)
    opened_at: Moment
    by: str
    reason: str | None = None


class IncidentOpened(IncidentFact):
    """A new incident, or one that came back after it was resolved long enough ago to be another one.

    Attributes:
        silenced: somebody said beforehand not to be told.
    """

    description: Words | None = None
    context: Facts = {}
    runbook: Text | None = None
    silenced: bool = False


class IncidentChanged(IncidentFact):
    """An incident came to another phase, became worse or milder, or something was done about it.

    Attributes:
        what: `acknowledged`, `mitigating`, `mitigated`, `resolved`, `reopened`, `severity`, `note`, `silenced`,
            `unsilenced`, `flapping`, `steady`.
        detail: what was done, in one line.
        time_to_detect_seconds, time_to_mitigate_seconds, time_to_resolve_seconds: since the first evidence; None:
            not yet.
    """

    from_phase: IncidentPhase
    what: str
    detail: str | None = None
    time_to_detect_seconds: float | None = None
    time_to_mitigate_seconds: float | None = None
    time_to_resolve_seconds: float | None = None
    silenced: bool = False


class RollbackRequested(Payload):
    """Somebody asks that a model serve its last good version again: starts the playbook `model_rollback`.

    Attributes:
        model: `model_id` is taken as well (seed 004).
        version: the bad one; None: what is served, the canary where there is one.
        to: the version to go back to; None: the last verified one that is not quarantined.
        reasons: sentences with numbers, or what a person says.
        requested_by: a person, or `monitor`; the breaker holds for whatever is asked by an event.
        incident: that it is to remedy.
        evidence: what the decision was made from.
    """

    model: Name = Field(validation_alias=AliasChoices("model", "model_id"))
    version: Version | None = None
    to: Version | None = Field(default=None, validation_alias=AliasChoices("to", "target_version"))
    reasons: tuple[Words, ...] = Field(default=(), max_length=50)
    severity: Severity = Severity.HIGH
    requested_by: Text = "operator"
    incident: Name | None = None
    evidence: Facts = {}


class RetrainRequested(Payload):
    """A model should be trained again, because its inputs are no longer those that it was trained on.

    Attributes:
        lane: that trains it; None: the one of the model's name.
    """

    model: Name
    version: Version | None = None
    lane: Name | None = None
    reasons: tuple[Words, ...] = Field(default=(), max_length=50)
    incident: Name | None = None
    evidence: Facts = {}


class Verdict(StrEnum):
    """What a trigger says: `insufficient` (too little was seen) and `stale` (nothing was) are neither good nor bad."""

    OK = "ok"
    BREACH = "breach"
    INSUFFICIENT = "insufficient"
    STALE = "stale"


class Health(StrEnum):
    """A model's health in words: `critical` ones are what a fleet summary counts as failing."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class VerdictChanged(Payload):
    """A trigger changed its mind about a version.

    Attributes:
        slot: `production`, `canary` or `previous`, as it was then.
        signal: what is looked at: `error_rate`, `latency_p95`, `ood_rate`, `input_drift`.
        node: the one that it is about; None: all nodes that serve the version.
        severity: of a breach.
        required, actual: sentences with numbers.
        samples: requests that it rests on.
        generation: of the slot order that was judged; a verdict about another one is void.
        evidence: the counts and bounds, enough to decide it again.
        action: what the monitor does about it: `observe`, `ask`, `roll_back`, `drain`, `page`, `retrain`, `none`.
        mode: of the model: `observe`, `approve` or `auto`.
    """

    model: Name
    version: Version
    slot: str
    signal: TriggerName
    node: Name | None = None
    verdict: Verdict
    before: Verdict | None = None
    severity: Severity | None = None
    health: Health
    required: str
    actual: str
    samples: int = Field(default=0, ge=0)
    generation: int = Field(default=0, ge=0)
    evidence: Facts = {}
    action: str = "none"
    mode: str = "observe"


class TimelineEntry(Stored):
    """One thing that happened to an incident."""

    at: Moment
    what: str
    by: str
    detail: str | None = None


class IncidentState(Stored):
    """An incident as the remedy daemon keeps it.

    Attributes:
        began_at: first evidence; opened_at - began_at is the time to detect.
        cleared_at: since when it is said not to hold any more; resolved once the hold-down is over.
        raised_at: when it was said last that it holds.
        reopened: how often it was said again after it had been resolved, or mitigated.
        affected: what of the resource is concerned where that can be counted: nodes of a model, versions on a node; it
            is cleared once none is left. At most 100.
        silenced: somebody said beforehand not to be told; `silenced_by`: the silence or maintenance window.
        flapping: it came and went so often that its changes are not told any more, until it holds still.
        flips: when it came or went, the newest 20.
        sequence: of the newest event in FC_EVENTS that said whether it holds; older ones change nothing of that.
        seen: ids of the newest events and requests that were taken into account, at most 50: none counts twice.
        runs: playbook runs that were started for it.
        timeline: the newest 100 entries, oldest first.
        correlation: of the event that opened it.
    """

    schema_: int = Field(default=1, alias="schema")
    incident: Name
    source: str
    resource_type: ResourceType
    resource_id: ResourceId
    version: Version | None = None
    trigger: TriggerName
    severity: Severity
    title: str
    description: str | None = None
    context: dict[str, Any] = {}
    runbook: str | None = None
    phase: IncidentPhase = IncidentPhase.OPEN
    began_at: Moment
    opened_at: Moment
    updated_at: Moment
    acknowledged_at: Moment | None = None
    acknowledged_by: str | None = None
    mitigated_at: Moment | None = None
    cleared_at: Moment | None = None
    resolved_at: Moment | None = None
    raised_at: Moment | None = None
    occurrences: int = 1
    reopened: int = 0
    affected: tuple[str, ...] = ()
    silenced: bool = False
    silenced_by: str | None = None
    flapping: bool = False
    flips: tuple[Moment, ...] = ()
    sequence: int = 0
    seen: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    correlation: str = ""

    @property
    def ended(self) -> bool:
        return self.phase is IncidentPhase.RESOLVED

    @property
    def what(self) -> str:
        """What it is about, for people: `hex8_2p@43`, `gpu-2`, `gpu-2 (version 43)`."""
        return named(self.resource_type, self.resource_id, self.version)


class SilenceState(Stored):
    """That nobody wants to be told of certain incidents for a while. They are opened and kept all the same.

    Attributes:
        resource: pattern of resource ids, with `*` and `?`; `node` and `trigger` likewise. None: any. `node` is the
            resource of incidents about nodes, and what the others name in their context.
        below: incidents of this severity or above are told all the same; None: none is.
        until: when it ends by itself.
        ended_at, ended_by: when somebody ended it before that.
    """

    schema_: int = Field(default=1, alias="schema")
    silence: Name
    resource: str | None = None
    node: str | None = None
    trigger: str | None = None
    below: Severity | None = None
    at: Moment
    until: Moment
    by: str
    reason: str
    ended_at: Moment | None = None
    ended_by: str | None = None


INCIDENT_STATE: Final = "fc.rem.state.incident."
PAST_STATE: Final = "fc.rem.state.past."
SILENCE_STATE: Final = "fc.rem.state.silence."


def incident_key(about: AboutResource) -> str:
    """What is one incident: the same resource, version and trigger, whoever noticed."""
    named = "\n".join((about.resource_type, about.resource_id, about.version or "", about.trigger))
    return hashlib.sha256(named.encode()).hexdigest()[:20]


def incident_subject(key: str) -> str:
    """Where the newest incident of a key is kept; `*` makes a filter."""
    return f"{INCIDENT_STATE}{key}"


def past_subject(incident: str) -> str:
    """Where an incident is kept once a later one has its key; `*` makes a filter."""
    return f"{PAST_STATE}{incident}"


def silence_subject(silence: str) -> str:
    """*silence* `*` makes a filter."""
    return f"{SILENCE_STATE}{silence}"
