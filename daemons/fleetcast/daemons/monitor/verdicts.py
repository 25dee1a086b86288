"""What a judge says: verdicts as events, triggers and health as reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fleetcast.events.incidents import (
    Health,
    IncidentCleared,
    IncidentRaised,
    ResourceType,
    RetrainRequested,
    RollbackRequested,
    Severity,
    Verdict,
    VerdictChanged,
)


class Remedy(StrEnum):
    """What the evidence calls for, whatever the mode allows."""

    NONE = "none"
    ROLL_BACK = "roll_back"
    DRAIN = "drain"
    PAGE = "page"
    RETRAIN = "retrain"


class Dropped(StrEnum):
    """Why a snapshot was not counted."""

    DUPLICATE = "duplicate"
    REPLACED = "replaced"
    UNKNOWN_VERSION = "unknown_version"
    FROM_THE_FUTURE = "from_the_future"
    FROM_THE_PAST = "from_the_past"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictEvent:
    """A trigger changed its mind, or its breach became worse or was explained otherwise.

    Attributes:
        at: stream time, in seconds of the epoch; `began_at`: first evidence.
        signal: `error_rate`, `latency_p95`, `latency_p95_reported`, `ood_rate`, `input_drift`, `snapshots`.
        remedy: what the evidence calls for; `action` is what the mode makes of it.
        incident: whether an incident is to be raised (a breach, or a version that went silent) or cleared.
        reasons: sentences with numbers, the seed's first.
        title, description: for an incident.
    """

    model: str
    version: str
    slot: str
    signal: str
    verdict: Verdict
    before: Verdict | None
    health: Health
    at: float
    began_at: float
    required: str
    actual: str
    node: str | None = None
    severity: Severity | None = None
    samples: int = 0
    generation: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: Remedy = Remedy.NONE
    action: str = "none"
    mode: str = "observe"
    incident: bool = False
    reasons: tuple[str, ...] = ()
    title: str = ""
    description: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    runbook: str | None = None

    def fact(self) -> VerdictChanged:
        """The fact that tells it."""
        return VerdictChanged(
            model=self.model,
            version=self.version,
            slot=self.slot,
            signal=self.signal,
            node=self.node,
            verdict=self.verdict,
            before=self.before,
            severity=self.severity,
            health=self.health,
            required=self.required,
            actual=self.actual,
            samples=self.samples,
            generation=self.generation,
            evidence=dict(self.evidence),
            action=self.action,
            mode=self.mode,
        )

    def raised(self) -> IncidentRaised | None:
        """The incident to raise; None: there is none."""
        if not self.incident or self.severity is None:
            return None
        return IncidentRaised(
            **self._about(),
            severity=self.severity,
            title=self.title,
            description=self.description,
            began_at=rfc3339(self.began_at),
            context=dict(self.context),
            runbook=self.runbook,
        )

    def cleared(self) -> IncidentCleared | None:
        """The incident to clear; None: there is none."""
        if not self.incident or self.severity is not None:
            return None
        return IncidentCleared(**self._about(), reason=self.actual, context=dict(self.context))

    def rollback(self) -> RollbackRequested | None:
        """The rollback to ask for; None: the mode or the evidence does not."""
        if self.remedy is not Remedy.ROLL_BACK or self.action not in ("ask", "roll_back"):
            return None
        evidence = dict(self.context) | ({"approval": "required"} if self.action == "ask" else {})
        return RollbackRequested(
            model=self.model,
            version=self.version,
            reasons=self.reasons,
            severity=self.severity or Severity.HIGH,
            requested_by="monitor",
            evidence=evidence,
        )

    def retrain(self) -> RetrainRequested | None:
        """The training to ask for; None: the mode or the evidence does not."""
        if self.remedy is not Remedy.RETRAIN or self.action != "retrain":
            return None
        return RetrainRequested(
            model=self.model, version=self.version, reasons=self.reasons, evidence=dict(self.context)
        )

    def _about(self) -> dict[str, Any]:
        about = {"resource_type": ResourceType.MODEL, "resource_id": self.model}
        if self.node is not None:
            about = {"resource_type": ResourceType.NODE, "resource_id": self.node}
        return {"source": "monitor", **about, "version": self.version, "trigger": self.signal}


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerReport:
    """How one trigger stands now."""

    version: str
    slot: str
    signal: str
    verdict: Verdict
    severity: Severity | None
    remedy: Remedy
    action: str
    required: str
    actual: str
    samples: int
    node: str | None = None
    since: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionReport:
    """How one version performs: seed 003's health summary, from counts.

    Attributes:
        metrics: `avg_error_rate`, `avg_latency_p95_ms`, `avg_ood_rate`, `snapshot_count`, and `num_requests`; None
            where nobody said.
        reasons: of the triggers in breach, as the seed words them; `explanations` are ours, with counts and bounds.
        weights: requests by where their number comes from (`Weight`).
    """

    version: str
    slot: str
    health: Health
    since: str | None
    last_snapshot_at: str | None
    nodes: tuple[str, ...]
    metrics: Mapping[str, float | int | None]
    reasons: tuple[str, ...]
    explanations: tuple[str, ...]
    triggers: tuple[TriggerReport, ...]
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """How a model performs.

    Attributes:
        health: of what is served: the worse of production and canary.
        should_rollback: whether a trigger that may roll back is in breach and the version is the cause.
        comparison: canary and production over the same minutes, by signal; None: there is no canary.
    """

    model: str
    generation: int
    mode: str
    health: Health
    should_rollback: bool
    window_minutes: int
    comparison: Mapping[str, Any] | None
    versions: tuple[VersionReport, ...]
    dropped: Mapping[str, int]


def rfc3339(seconds: float) -> str:
    """A moment as events write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
