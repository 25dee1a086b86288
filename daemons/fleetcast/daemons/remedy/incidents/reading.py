"""Incidents and silences as they are stored: what a daemon and, where none answers, the command line read."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase

import structlog

from fleetcast.bus import Bus, Entry
from fleetcast.bus.errors import NotFound
from fleetcast.bus.streams import REMEDY
from fleetcast.daemons.remedy.incidents.commands import GetIncident, IncidentAnswer, ListIncidents
from fleetcast.daemons.remedy.incidents.rules import ranked
from fleetcast.daemons.remedy.incidents.silences import in_force, nodes_of
from fleetcast.events.incidents import (
    IncidentState,
    SilenceState,
    incident_subject,
    past_subject,
    silence_subject,
)
from fleetcast.registry.book import V, read
from fleetcast.registry.errors import RecordDamaged

log = structlog.get_logger("fleetcast.remedy")

NEWEST = incident_subject("*")
PAST = past_subject("*")
SILENCES = silence_subject("*")


async def incidents(bus: Bus, *, ended: bool = False) -> list[IncidentState]:
    """The newest incident of each key; with *ended*, also those before it.

    Raises:
        TransportFailed: the bus does not answer.
    """
    entries = await bus.newest(REMEDY, (NEWEST, PAST) if ended else (NEWEST,))
    return readable(entries, IncidentState)


async def unresolved(bus: Bus) -> list[IncidentState]:
    """Incidents that have not ended, what matters most first; none in a fleet that never had a remedy daemon. Errors as
    `incidents`."""
    try:
        return sorted((each for each in await incidents(bus) if not each.ended), key=ranked)
    except NotFound:
        return []


async def silences(bus: Bus) -> list[SilenceState]:
    """All silences that there were; errors as `incidents`."""
    return readable(await bus.newest(REMEDY, (SILENCES,)), SilenceState)


def readable(entries: Iterable[Entry], kind: type[V]) -> list[V]:
    """The values that can be read: one that a newer fleetcast wrote must not hide all the others."""
    found = []
    for entry in entries:
        try:
            found.append(read(kind, entry))
        except RecordDamaged as damaged:
            log.warning("record.unreadable", subject=entry.subject, sequence=entry.sequence, reason=str(damaged))
    return found


def chosen(states: Iterable[IncidentState], wanted: ListIncidents) -> IncidentAnswer:
    """The incidents that are asked for, what matters most first."""
    found = sorted((each for each in states if _wanted(each, wanted)), key=ranked)
    return IncidentAnswer(incidents=tuple(found[: wanted.limit]), more=max(0, len(found) - wanted.limit))


def _wanted(state: IncidentState, wanted: ListIncidents) -> bool:
    since = datetime.fromisoformat(wanted.since) if wanted.since else None
    return (
        (wanted.ended or not state.ended)
        and _fits(wanted.resource, (state.resource_id,))
        and _fits(wanted.node, nodes_of(state))
        and _fits(wanted.trigger, (state.trigger,))
        and wanted.resource_type in {None, state.resource_type}
        and (wanted.severity is None or state.severity.rank >= wanted.severity.rank)
        and (since is None or datetime.fromisoformat(state.updated_at) >= since)
    )


def _fits(pattern: str | None, names: Sequence[str]) -> bool:
    return pattern is None or any(fnmatchcase(name, pattern) for name in names)


def named(states: Iterable[IncidentState], wanted: GetIncident) -> IncidentAnswer:
    """The incident of an id, or of the unique start of one, with or without its `inc-`."""
    start = wanted.incident if wanted.incident.startswith("inc") else f"inc-{wanted.incident}"
    found = [each for each in states if each.incident.startswith(start)]
    exact = [each for each in found if each.incident == start]
    if len(exact or found) == 1:
        return IncidentAnswer(incidents=tuple(exact or found))
    if found:
        names = ", ".join(sorted(each.incident for each in found)[:5])
        return IncidentAnswer(outcome="ambiguous", message=f"{len(found)} incidents begin with {start}: {names}")
    return IncidentAnswer(
        outcome="unknown",
        message=f"there is no incident {wanted.incident}",
        next_step="fleetcast incidents --all",
    )


def holding(states: Iterable[SilenceState], at: datetime, *, ended: bool) -> IncidentAnswer:
    """Silences that hold at a moment; with *ended*, all that there were."""
    found = [each for each in states if ended or in_force(each, at)]
    return IncidentAnswer(silences=tuple(sorted(found, key=lambda each: each.until)))
