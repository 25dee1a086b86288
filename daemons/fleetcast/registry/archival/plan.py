"""The rules of archival (seed 001, section 6.1), most telling first. What is pinned stays, whatever they say."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from fleetcast.config.archival import ArchivalSettings
from fleetcast.events.ids import NO_ARTIFACT
from fleetcast.events.lifecycle import ArchiveRule, EntryState, RolloutState, StageName
from fleetcast.events.state import SlotState
from fleetcast.registry.archival.pins import pinned
from fleetcast.registry.gates import bounds
from fleetcast.registry.gates.strength import Measured, measured
from fleetcast.registry.transitions.slots import BARRED


@dataclass(frozen=True, slots=True)
class Proposal:
    """A version that should go to the archive, and why in words."""

    model: str
    version: str
    rule: ArchiveRule
    reason: str

    @property
    def folder(self) -> str:
        """The folder of the month that it goes to."""
        return self.rule.folder


@dataclass(frozen=True, slots=True)
class _Look:
    """A version that nothing pins, beside the others of its model."""

    entry: EntryState
    others: tuple[EntryState, ...]
    now: datetime
    policy: ArchivalSettings

    @property
    def days(self) -> float:
        """Since it came to its stage."""
        return (self.now - datetime.fromisoformat(self.entry.since)) / timedelta(days=1)

    @property
    def was_restored(self) -> bool:
        """Somebody took it out of the archive the last time that it moved."""
        stages = [change.stage for change in self.entry.stages]
        return len(stages) > 1 and stages[-2] is StageName.ARCHIVED


def plan(
    entries: Iterable[EntryState],
    slots: Mapping[str, SlotState],
    rollouts: Mapping[str, RolloutState],
    now: datetime,
    policy: ArchivalSettings,
) -> tuple[Proposal, ...]:
    """What should go to the archive, by model and version.

    Args:
        slots: by model.
        rollouts: by model, ended ones too.
    """
    by_model: dict[str, list[EntryState]] = defaultdict(list)
    for entry in entries:
        by_model[entry.model].append(entry)
    found: list[Proposal] = []
    for model, all_of_it in sorted(by_model.items()):
        staying = pinned(all_of_it, slots.get(model), rollouts.get(model))
        others = tuple(sorted(all_of_it, key=lambda e: (e.registered_at, e.version)))
        looks = (_Look(e, others, now, policy) for e in others if e.version not in staying)
        found.extend(p for look in looks if (p := _proposal(look)) is not None)
    return tuple(found)


def _proposal(look: _Look) -> Proposal | None:
    entry = look.entry
    if entry.stage is StageName.ARCHIVED or entry.archive is not None or entry.artifact == NO_ARTIFACT:
        return None
    if look.was_restored and look.days < look.policy.age_days:
        return None
    for rule, judge in RULES.items():
        reason = judge(look)
        if reason is not None:
            return Proposal(entry.model, entry.version, rule, reason)
    return None


def _experiment(look: _Look) -> str | None:
    entry, policy = look.entry, look.policy
    if look.days <= policy.experiment_days:
        return None
    names = (entry.version, entry.model, f"{entry.model}_{entry.version}", entry.facts.experiment_id or "")
    for pattern in policy.experiment_patterns:
        if any(fnmatchcase(name, pattern) for name in names):
            return f"its name is {pattern}, and it is {_days(look.days)} old, more than {policy.experiment_days:g}"
    return None


def _low_elo(look: _Look) -> str | None:
    policy, rating = look.policy, measured(look.entry.facts.rating)
    if rating is None or rating.games < policy.low_elo_games:
        return None
    _low, high = bounds.elo_bounds(rating.elo, rating.error, policy.confidence)
    if high >= policy.low_elo:
        return None
    return f"Elo {rating}, at most {high:.6g} at {policy.confidence * 100:.4g} %, below {policy.low_elo:g}"


def _superseded(look: _Look) -> str | None:
    own = measured(look.entry.facts.rating)
    if own is None or not look.policy.superseded:
        return None
    for other in look.others:
        rating = measured(other.facts.rating)
        if rating is None or other.stage in BARRED or not _is_newer(other, look.entry):
            continue
        lead = _least_lead(rating, own, look.policy.confidence)
        if lead > 0:
            return f"{other.model}@{other.version} is newer and leads by at least {lead:.4g} Elo ({rating} over {own})"
    return None


def _is_newer(one: EntryState, other: EntryState) -> bool:
    return datetime.fromisoformat(one.registered_at) > datetime.fromisoformat(other.registered_at)


def _least_lead(one: Measured, other: Measured, confidence: float) -> float:
    """Lower bound of the difference of two ratings, whose errors add up as squares."""
    return bounds.elo_bounds(one.elo - other.elo, math.hypot(one.error, other.error), confidence)[0]


def _age(look: _Look) -> str | None:
    if look.days <= look.policy.age_days:
        return None
    return f"at {look.entry.stage} for {_days(look.days)}, more than {look.policy.age_days:g}"


def _days(days: float) -> str:
    return f"{days:.1f} days"


RULES: Mapping[ArchiveRule, Callable[[_Look], str | None]] = {
    ArchiveRule.EXPERIMENT: _experiment,
    ArchiveRule.LOW_ELO: _low_elo,
    ArchiveRule.SUPERSEDED: _superseded,
    ArchiveRule.AGE: _age,
}
"""Each says why a version goes, or nothing; the first that says something names the folder."""
