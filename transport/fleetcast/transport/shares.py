"""How one cap is shared by all that move bytes under it: pure, over bytes per second.

Every part asks for what it could use; the cap is divided so that nobody gets less than an equal part unless it asks for
less, and what is not asked for goes to those who want more (max-min fairness, Bertsekas and Gallager, Data Networks,
6.5.2).
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

FLOOR_SHARE = 256
"""Whoever asks for nothing holds 1/256 of the cap: enough to begin, and to be seen."""
BEGINNERS_PART = 0.25
"""Part of what nobody asks for that is shared by all."""
USED_UP = 0.85
"""Who uses this much of its share would use more; limiters let a little less pass than they are told."""
HEADROOM = 1.25
"""Room above what is used, so that a part that speeds up shows it before it is held back."""
CHANGE = 0.02
"""Shares that differ less from those in force are not worth telling anybody."""
BEGINS = 4.0
"""A rate that multiplies by so much from one look to the next is a beginning, not a ripple."""
TRIM_SECONDS = 5.0
"""What passed too much or too little is made good for within this time."""
TRIM_UP, TRIM_DOWN = 0.05, 0.25
"""Most that is added to the cap, and taken from it, for that."""
TRIM_RIPPLE_SECONDS = 1.0
"""What passed is smoothed over this time before anything is made good for. aria2 receives once a second, in bursts of a
second; that less is given at once for each, than more after it, cost 0.05 of the cap (measured)."""
SMOOTHING_SECONDS = 0.5
"""The weight of the past falls to 1/e in this time: some ticks of libtorrent's limiter, which works in bursts."""

PEAK_SECONDS = 1.5
"""What a part used lately is what it could use: aria2 looks at its limit once a second and rests in between, and was
taken for one that asks for less (0.91 of the cap)."""


def divide(cap: int, demands: Mapping[str, float]) -> dict[str, int]:
    """Divide a cap: never more than the cap in sum, and nothing left over as long as somebody is there to use it.

    Args:
        cap: bytes per second, at least 256 per part.
        demands: what each part could use, in bytes per second; `inf`: all it gets; 0: nothing now.

    Returns:
        Shares of at least 1/256 of the cap each. Who asks for more than that has at least its equal part of the rest,
        or what it asks for.
    """
    floor = cap // FLOOR_SHARE
    shares = dict.fromkeys(demands, float(floor))
    left = float(cap - floor * len(shares))
    hungry = {name: demand - floor for name, demand in demands.items() if demand > floor}
    rest = dict(hungry)
    while rest and left > 0:
        equal = left / len(rest)
        modest = {name: wanted for name, wanted in rest.items() if wanted <= equal}
        for name in tuple(modest or rest):
            given = min(rest.pop(name), equal)
            shares[name] += given
            left -= given
    # Whoever moves bytes may soon want more. The others may begin at once: with its floor alone a swarm took seconds to
    # be seen.
    left, takers = max(0.0, left), hungry or demands
    anybody = left * BEGINNERS_PART / len(shares)
    taker = left * (1 - BEGINNERS_PART) / len(takers)
    return {name: int(share + anybody + (taker if name in takers else 0)) for name, share in shares.items()}


def demand(share: int, rate: float) -> float:
    """What a part could use that has *share* and uses *rate*: all it gets, when the share is used up."""
    return math.inf if rate >= USED_UP * share else HEADROOM * rate


def is_worth_telling(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    """Whether shares changed by more than the ripple of measuring."""
    return before.keys() != after.keys() or any(abs(after[n] - before[n]) > CHANGE * before[n] for n in after)


@dataclass(slots=True)
class Trim:
    """Makes good for limiters that let a little more or less pass than they are told: the cap is that of all seconds
    together, within limits that keep every one of them near it."""

    _ahead_seconds: float = 0.0
    _smooth_seconds: float = 0.0

    def sample(self, cap: int, moved: int, elapsed_seconds: float, *, used_up: bool) -> int:
        """Take how many bytes have moved since the last look; returns what to divide now.

        Args:
            used_up: somebody would have used more; otherwise the cap is not what holds anybody back.
        """
        passed = moved / cap
        ahead = self._ahead_seconds + passed - (elapsed_seconds if used_up else max(elapsed_seconds, passed))
        most = TRIM_DOWN * TRIM_SECONDS
        self._ahead_seconds = max(-most if used_up else 0.0, min(most, ahead))
        weight = math.exp(-elapsed_seconds / TRIM_RIPPLE_SECONDS)
        self._smooth_seconds = weight * self._smooth_seconds + (1 - weight) * self._ahead_seconds
        return int(cap * (1 - max(-TRIM_UP, self._smooth_seconds / TRIM_SECONDS)))


@dataclass(slots=True)
class Rate:
    """Bytes per second of a count that only grows, smoothed."""

    value: float = 0.0
    _count: int | None = field(default=None, repr=False)

    def sample(self, count: int, elapsed_seconds: float) -> float:
        """Take the count *elapsed_seconds* after the last one; returns the rate."""
        if self._count is not None and elapsed_seconds > 0:
            now = max(0, count - self._count) / elapsed_seconds
            # Whoever begins is not held back by its past.
            begins = now > BEGINS * self.value
            weight = 0.0 if begins else math.exp(-elapsed_seconds / SMOOTHING_SECONDS)
            self.value = weight * self.value + (1 - weight) * now
        self._count = count
        return self.value


@dataclass(slots=True)
class Peak:
    """The highest of the rates of the last PEAK_SECONDS."""

    _now: float = 0.0
    _seen: deque[tuple[float, float]] = field(default_factory=deque, repr=False)

    def sample(self, rate: float, elapsed_seconds: float) -> float:
        """Take the rate *elapsed_seconds* after the last one; returns the peak."""
        self._now += elapsed_seconds
        self._seen.append((self._now, rate))
        while self._seen[0][0] < self._now - PEAK_SECONDS:
            self._seen.popleft()
        return max(rate for _, rate in self._seen)
