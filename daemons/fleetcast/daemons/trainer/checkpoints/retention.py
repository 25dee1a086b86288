"""Which checkpoints of a run are kept: pure.

Kept are the last few, the best by a metric, one of each interval, and what somebody pinned; a byte quota gives up the
oldest of an interval first, then the oldest of the last, then the best. The newest is never given up: it may be the
only one that the run can go on from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from fleetcast.events.training import CheckpointRecord

MOST_INTERVALS: Final = 100
"""Checkpoints kept for their interval: fifty days of one each twelve hours; a run's record stays a message."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many are kept.

    Attributes:
        last: the newest so many.
        best: `min` or `max` of the metric that records carry; None: no best one is kept.
        every_seconds: one of each such interval; None: none.
        quota_bytes: that all checkpoints of the lane may take on a node; None: no limit.
    """

    last: int = 3
    best: Literal["min", "max"] | None = None
    every_seconds: float | None = 43200.0
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A checkpoint and why it stays; no reason: it may go. `given_up`: it would have stayed but for the quota."""

    record: CheckpointRecord
    reasons: tuple[str, ...]
    given_up: bool = False

    @property
    def stays(self) -> bool:
        return bool(self.reasons) and not self.given_up


def judge(records: Sequence[CheckpointRecord], policy: Retention, *, others_bytes: int = 0) -> tuple[Judgement, ...]:
    """Every checkpoint with the reasons for which it stays.

    Args:
        records: durable ones, in the order of their commits, newest first.
        others_bytes: what other runs of the lane take of the quota.
    """
    reasons: list[list[str]] = [[] for _ in records]
    for place, record in enumerate(records):
        if place == 0:
            reasons[place].append("the newest")
        elif place < policy.last:
            reasons[place].append(f"one of the last {policy.last}")
        reasons[place] += [f"pinned: {why}" for why in record.pins]
    if (best := _best(records, policy.best)) is not None:
        reasons[best].append(f"the best, {records[best].metric:g}")
    for place in _intervals(records, policy.every_seconds):
        reasons[place].append(f"the first in {policy.every_seconds:g} s")
    kept = [Judgement(record, tuple(why)) for record, why in zip(records, reasons, strict=True)]
    return tuple(_within(kept, policy.quota_bytes, others_bytes, best))


def _best(records: Sequence[CheckpointRecord], mode: str | None) -> int | None:
    measured = [(record.metric, -place) for place, record in enumerate(records) if record.metric is not None]
    if mode is None or not measured:
        return None
    # Of equals the older one: the best does not change hands without being better.
    sign = 1 if mode == "max" else -1
    return -min(measured, key=lambda m: (-sign * m[0], m[1]))[1]


def _intervals(records: Sequence[CheckpointRecord], every: float | None) -> list[int]:
    """The oldest of each interval: once kept for it, it stays the one that is kept."""
    if every is None:
        return []
    first: dict[int, int] = {}
    for place, record in enumerate(records):
        first[int(datetime.fromisoformat(record.at).timestamp() // every)] = place
    return sorted(first.values())[:MOST_INTERVALS]


def _within(kept: list[Judgement], quota: int | None, others: int, best: int | None) -> list[Judgement]:
    if quota is None:
        return kept
    used = others + sum(each.record.size for each in kept if each.stays)
    by_age = range(len(kept) - 1, 0, -1)
    interval_only = [p for p in by_age if p != best and all(why.startswith("the first in") for why in kept[p].reasons)]
    rest = [p for p in by_age if p not in interval_only and p != best]
    for place in [*interval_only, *rest, *([best] if best else [])]:
        if used <= quota:
            break
        each = kept[place]
        if each.stays and not each.record.pins:
            kept[place] = Judgement(each.record, each.reasons, given_up=True)
            used -= each.record.size
    return kept
