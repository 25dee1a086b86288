"""Who does not want to be told of what, and until when. Pure. An incident that is silenced is kept, counted and shown
like any other one; only nobody is told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from fleetcast.config.incidents import MaintenanceWindow
from fleetcast.events.incidents import IncidentState, ResourceType, SilenceState
from fleetcast.registry.commands import stamp


@dataclass(frozen=True, slots=True)
class Hush:
    """What silences an incident: the id of a silence, or `maintenance`, and in words why and until when."""

    by: str
    reason: str


def in_force(silence: SilenceState, at: datetime) -> bool:
    """Whether it holds at a moment."""
    return silence.ended_at is None and at < datetime.fromisoformat(silence.until)


def ended(silence: SilenceState, *, by: str, at: datetime) -> SilenceState:
    """The same silence, ended by somebody."""
    return silence.model_copy(update={"ended_at": stamp(at), "ended_by": by})


def nodes_of(incident: IncidentState) -> tuple[str, ...]:
    """The nodes that an incident names."""
    if incident.resource_type is ResourceType.NODE:
        return (incident.resource_id,)
    named = incident.context.get("node")
    return (*((named,) if isinstance(named, str) else ()), *incident.affected)


def _fits(pattern: str | None, names: Sequence[str]) -> bool:
    return pattern is None or any(fnmatchcase(name, pattern) for name in names)


def _covers(rule: SilenceState | MaintenanceWindow, incident: IncidentState) -> bool:
    return (
        _fits(rule.resource, (incident.resource_id,))
        and _fits(rule.node, nodes_of(incident))
        and _fits(rule.trigger, (incident.trigger,))
    )


def hush(
    incident: IncidentState, silences: Iterable[SilenceState], windows: Iterable[MaintenanceWindow], at: datetime
) -> Hush | None:
    """What silences an incident at a moment; None: nothing does."""
    for silence in silences:
        too_bad = silence.below is not None and incident.severity.rank >= silence.below.rank
        if in_force(silence, at) and not too_bad and _covers(silence, incident):
            return Hush(silence.silence, f"{silence.reason} (by {silence.by}, until {silence.until})")
    for window in windows:
        if window.hold_in_zone(at) and _covers(window, incident):
            return Hush("maintenance", f"{window.reason} (until {window.ends} {window.zone})")
    return None
