"""Counts of what only the moment knows, and how values are spread. Plain numbers: whoever shows them, reads them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

QUICK_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds for what takes milliseconds."""
LONG_SECONDS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
"""Upper bounds for what moves gigabytes."""
MOST_KINDS: Final = 500
"""Different things that are counted one by one; beyond that, a name that others chose could fill the memory."""


@dataclass(slots=True)
class Distribution:
    """How values are spread: how many lie at or below each bound, and above the last one."""

    bounds: tuple[float, ...]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Take one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound, the last one infinity, with how many values are not above it."""
        found, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            found.append((bound, below))
        return found


@dataclass(slots=True)
class Tally(Generic[K]):
    """How often each thing happened; after `MOST_KINDS` different ones, no new one is counted."""

    counts: Counter[K] = field(default_factory=Counter)

    def note(self, what: K, times: int = 1) -> None:
        """It happened."""
        if what in self.counts or len(self.counts) < MOST_KINDS:
            self.counts[what] += times
