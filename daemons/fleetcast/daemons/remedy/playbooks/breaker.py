"""The breaker: how many automatic rollbacks there may be. Pure.

A broken monitor must not roll back the fleet: what events ask for is counted, per model and over the fleet, and beyond
the limits nothing is done but to call a person. What a person starts by `fleetcast playbook run` or approves is neither
counted nor stopped.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetcast.config.remedy import RemedySettings
from fleetcast.events.remedies import FleetRuns, ResourceRuns, RunNote, RunPhase

NOT_COUNTED = frozenset({RunPhase.REFUSED, RunPhase.NOTHING})
"""Runs that changed nothing by their own decision."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many within so many seconds."""

    count: int
    seconds: float

    def exceeded(self, notes: tuple[RunNote, ...], now: datetime) -> tuple[RunNote, ...]:
        """The runs that use it up; none: there is room for one more."""
        since = now - timedelta(seconds=self.seconds)
        counted = tuple(
            note
            for note in notes
            if note.automatic and note.phase not in NOT_COUNTED and datetime.fromisoformat(note.at) > since
        )
        return counted if len(counted) >= self.count else ()

    def reached(self, notes: tuple[RunNote, ...], now: datetime) -> bool:
        return self.count == 0 or bool(self.exceeded(notes, now))


@dataclass(frozen=True, slots=True)
class Breaker:
    """The limits in force."""

    per_model: Limit
    per_fleet: Limit

    @classmethod
    def of(cls, settings: RemedySettings) -> "Breaker":
        """As the settings say."""
        return cls(
            Limit(settings.rollbacks_per_model, settings.rollback_model_seconds),
            Limit(settings.rollbacks_per_fleet, settings.rollback_fleet_seconds),
        )

    def objection(self, resource: ResourceRuns, fleet: FleetRuns, now: datetime) -> str:
        """Why one more automatic run must not begin; empty: it may."""
        if self.per_model.reached(resource.recent, now):
            return _sentence(f"of {resource.resource_id}", self.per_model, resource.recent, now)
        if self.per_fleet.reached(fleet.recent, now):
            return _sentence("over the fleet", self.per_fleet, fleet.recent, now)
        return ""


def _sentence(whose: str, limit: Limit, notes: tuple[RunNote, ...], now: datetime) -> str:
    found = limit.exceeded(notes, now)
    shown = ", ".join(f"{note.run} at {note.at}" for note in found[:3])
    allowed = f"at most {limit.count} automatic rollback{'' if limit.count == 1 else 's'} {whose} within"
    there = f"there were {len(found)} ({shown})" if found else "automatic ones are switched off"
    return f"the breaker is open: {allowed} {_span(limit.seconds)}; {there}"


def _span(seconds: float) -> str:
    for unit, name in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= unit and seconds % unit == 0:
            count = round(seconds / unit)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds:g} s"
