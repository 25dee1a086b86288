"""How often a run should save: pure.

The interval that loses least time to saving and to repeating work is sqrt(2 d M) for a save that takes d and a mean
time M between failures (J. W. Young, "A first order approximation to the optimum checkpoint interval", 1974; refined by
J. T. Daly, 2006). Near it the cost is flat, so that a limit on lost work (seed 002: ten minutes) may bind instead; what
is lost is then the interval and the time until the save is durable.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Attempt, CheckpointRecord, TrainingRunState

SAVE_SECONDS: Final = 5.0
"""Taken for a save of which nobody has said how long it takes."""
PRIOR_SECONDS: Final = 24 * 3600.0
"""What a node is taken to run between failures before anything is known: a day counts as one failure."""
SAVES_COUNTED: Final = 5
SHORTEST_SECONDS: Final = 1.0
_OF_THE_NODE = frozenset({FaultClass.PREEMPTED, FaultClass.HARDWARE})
_OUTCOMES = frozenset({"lost", "reclaimed"})


Bound = Literal["failures", "limit", "save"]


@dataclass(frozen=True, slots=True)
class Advice:
    """How often to save, and by what.

    Attributes:
        seconds: from the end of one save to the beginning of the next.
        bound_by: `failures` (Daly's interval), `limit` (on lost work), or `save` (saves take so long that the limit
            cannot be kept).
        save_seconds, mtbf_seconds, limit_seconds: that it follows from.
        measured: whether save_seconds was measured.
    """

    seconds: float
    bound_by: Bound
    save_seconds: float
    mtbf_seconds: float
    limit_seconds: float
    measured: bool

    @property
    def overhead_ratio(self) -> float:
        """Share of the time that goes into saving and, on average, into work done twice."""
        return self.save_seconds / self.seconds + (self.seconds + self.save_seconds) / 2 / self.mtbf_seconds


def young(save_seconds: float, mtbf_seconds: float) -> float:
    """Young's interval, seconds."""
    return math.sqrt(2 * save_seconds * mtbf_seconds)


def daly(save_seconds: float, mtbf_seconds: float) -> float:
    """Daly's interval, seconds: Young's with the terms that matter when saves are not short."""
    if save_seconds >= 2 * mtbf_seconds:
        return mtbf_seconds
    share = save_seconds / (2 * mtbf_seconds)
    return young(save_seconds, mtbf_seconds) * (1 + math.sqrt(share) / 3 + share / 9) - save_seconds


def advise(save_seconds: float | None, mtbf_seconds: float, limit_seconds: float) -> Advice:
    """The interval to save at.

    Args:
        save_seconds: measured; None: not known.
        mtbf_seconds: mean time between failures of the nodes.
        limit_seconds: work that may be lost.
    """
    cost = SAVE_SECONDS if save_seconds is None else max(save_seconds, 0.001)
    best, bound = daly(cost, mtbf_seconds), limit_seconds - cost
    floor = max(SHORTEST_SECONDS, cost)
    by: Bound = "failures" if best <= bound else "limit" if bound >= floor else "save"
    seconds = max({"failures": best, "limit": bound, "save": floor}[by], SHORTEST_SECONDS)
    return Advice(seconds, by, cost, mtbf_seconds, limit_seconds, save_seconds is not None)


def save_cost(records: Sequence[CheckpointRecord]) -> float | None:
    """Seconds that a save takes: the median of the newest few; None: nobody measured one."""
    known = [r.save_seconds for r in records if r.save_seconds is not None][:SAVES_COUNTED]
    return statistics.median(known) if known else None


def mtbf(runs: Iterable[TrainingRunState], now: datetime, *, prior_seconds: float = PRIOR_SECONDS) -> float:
    """Mean seconds between failures of nodes, from what runs went through: a day without knowledge counts as well, so
    that one bad hour is no verdict."""
    seconds, failures = 0.0, 0
    for run in runs:
        for attempt in run.attempts:
            seconds += _lasted(attempt, now)
            failures += attempt.outcome in _OUTCOMES or attempt.fault_class in _OF_THE_NODE
    return (prior_seconds + seconds) / (1 + failures)


def _lasted(attempt: Attempt, now: datetime) -> float:
    end = datetime.fromisoformat(attempt.ended_at) if attempt.ended_at else now
    return max(0.0, (end - datetime.fromisoformat(attempt.started_at)).total_seconds())
