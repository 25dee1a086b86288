"""What other rules would have said of the minutes that were kept: the judge itself, over the past."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from fleetcast.daemons.monitor.judge import Judge
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.verdicts import Remedy, VerdictEvent
from fleetcast.events.incidents import Severity, Verdict
from fleetcast.events.lifecycle import Facts
from fleetcast.events.performance import Minute
from fleetcast.events.state import Cause, SlotEntry, SlotState

_TRIED: Final = Cause(event="replay-rules", sequence=0, by="replay-rules", correlation="replay-rules")
_MINUTE: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A breach that there would have been.

    Attributes:
        at, began_at, ended_at: when it would have been said, its first evidence, and when it would have been over while
            the version was still served, in seconds of the epoch; `ended_at` None: it was not.
        remedy: what the evidence calls for; `action` is what the mode would have made of it.
    """

    version: str
    slot: str
    signal: str
    node: str | None
    at: float
    began_at: float
    ended_at: float | None
    remedy: Remedy
    action: str
    severity: Severity | None
    required: str
    actual: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What rules would have said of a model.

    Attributes:
        minutes: that were judged, of all nodes together; `requests` in them.
        first_at, last_at: the time that they span, in seconds of the epoch.
        happenings: oldest first.
    """

    model: str
    minutes: int
    requests: float
    first_at: float
    last_at: float
    happenings: tuple[Happening, ...]

    def count(self, remedy: Remedy) -> int:
        """How often the evidence would have called for a remedy."""
        return sum(each.remedy is remedy for each in self.happenings)

    @property
    def passing(self) -> int:
        """Rollbacks that would have been for something that passed while the version was still served."""
        return sum(each.remedy is Remedy.ROLL_BACK and each.ended_at is not None for each in self.happenings)


def try_rules(
    model: str, minutes: Iterable[Minute], policy: ModelPolicy, facts: Mapping[str, Facts | None] | None = None
) -> Trial:
    """Judge kept minutes of a model by a policy.

    A minute counts as one snapshot of a node at its end, so that what happens within it is seen up to a minute later
    than it was in truth.

    Args:
        minutes: in any order; those of other models are left out.
        facts: what the versions say of themselves.
    """
    kept = sorted((each for each in minutes if each.model == model), key=lambda each: (each.minute, each.node))
    judge = Judge(policy, model)
    for version, said in (facts or {}).items():
        judge.expect(version, said)
    open_ones: dict[tuple[str, str, str | None], Happening] = {}
    over: list[Happening] = []
    slots: dict[str, str] = {}
    for minute, group in groupby(kept, key=lambda each: each.minute):
        batch = list(group)
        began, ended = float(minute * _MINUTE), float((minute + 1) * _MINUTE)
        if _served(batch, slots):
            judge.order(_order(model, batch, slots), began)
        # As in the stream, where they come one after the other.
        events = [event for each in batch for snapshot in each.as_snapshots() for event in judge.take(snapshot)]
        events += judge.tick(ended)
        judge.minutes()
        for event in events:
            _note(event, open_ones, over)
    found = sorted([*over, *open_ones.values()], key=lambda each: each.at)
    first = float(kept[0].minute * _MINUTE) if kept else 0.0
    last = float((kept[-1].minute + 1) * _MINUTE) if kept else 0.0
    requests = sum(each.requests for each in kept)
    return Trial(
        model=model, minutes=len(kept), requests=requests, first_at=first, last_at=last, happenings=tuple(found)
    )


def _served(batch: Iterable[Minute], slots: dict[str, str]) -> bool:
    """Take over what minutes say is served; whether that is new. The newest generation of a minute holds."""
    before = dict(slots)
    for each in sorted(batch, key=lambda each: each.generation):
        slot = each.slot or "production"
        if slots.get("canary" if slot == "production" else "production") == each.version:
            slots.pop("canary" if slot == "production" else "production")
        slots[slot] = each.version
    return slots != before


def _order(model: str, batch: Iterable[Minute], slots: Mapping[str, str]) -> SlotState:
    entries = {
        slot: {"version": version, "artifact": hashlib.sha256(version.encode()).hexdigest()}
        for slot, version in slots.items()
    }
    production = entries.get("production")
    canary = entries.get("canary")
    return SlotState.model_validate(
        {
            "model": model,
            "generation": max(1, *(each.generation for each in batch)),
            "production": SlotEntry.model_validate(production) if production else None,
            "canary": {**canary, "percent": 1} if canary else None,
            "cause": _TRIED,
            "at": "1970-01-01T00:00:00Z",
        }
    )


def _note(event: VerdictEvent, open_ones: dict[tuple[str, str, str | None], Happening], over: list[Happening]) -> None:
    key = (event.version, event.signal, event.node)
    known = open_ones.get(key)
    if event.verdict is Verdict.BREACH:
        open_ones[key] = Happening(
            version=event.version,
            slot=event.slot,
            signal=event.signal,
            node=event.node,
            at=event.at if known is None or known.remedy is not event.remedy else known.at,
            began_at=event.began_at,
            ended_at=None,
            remedy=event.remedy,
            action=event.action,
            severity=event.severity,
            required=event.required,
            actual=event.actual,
            reasons=event.reasons,
        )
    elif known is not None and event.verdict is Verdict.OK:
        del open_ones[key]
        over.append(replace(known, ended_at=event.at))
