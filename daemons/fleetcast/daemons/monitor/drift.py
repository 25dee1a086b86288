"""How far inputs are from their reference: KL divergence and PSI of binned counts, with what so few requests can tell.

Of n requests without any drift over k bins, KL is about (k-1)/(2n) all the same: that is taken off, and what remains is
compared by a bound. Half a request is added to each bin, so that an empty one is no infinity.
Source of bias and variance: Paninski, Neural Computation 15 (2003); the delta method.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from fleetcast.daemons.monitor.budget import CLEAR_CONFIDENCE, MINUTES_A_YEAR
from fleetcast.events.incidents import Verdict
from fleetcast.events.performance import DriftInput

SMOOTHING: Final = 0.5
ASSUMED_BINS: Final = 30
"""Of a score that a node computed itself: what drift tools take by default."""
FULL_VOTE: Final = 200
"""Requests from which a node's own score is a full vote: from there on it never exceeds 0.3 without drift."""
_CLEAR: Final = NormalDist().inv_cdf(CLEAR_CONFIDENCE)


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far a feature is from its reference.

    Attributes:
        kl: KL divergence of now from the reference, in nats, without what the sample size alone makes.
        psi: population stability index, the same way.
        error: standard error of `kl`.
        size: requests.
    """

    kl: float
    psi: float
    error: float
    size: int

    def lower(self, false_alarm: float) -> float:
        """Bound that the true KL lies above, but for this chance."""
        return self.kl - NormalDist().inv_cdf(1 - false_alarm) * self.error

    @property
    def upper(self) -> float:
        """Bound that it lies below, at 95 %."""
        return self.kl + _CLEAR * self.error


def divergence(counts: Sequence[int], reference: Sequence[int]) -> Divergence:
    """Compare two samples of the same bins."""
    bins, n, m = len(counts), sum(counts), sum(reference)
    if not n:
        return Divergence(0.0, 0.0, math.inf, 0)
    now = [(count + SMOOTHING) / (n + SMOOTHING * bins) for count in counts]
    then = [(count + SMOOTHING) / (m + SMOOTHING * bins) for count in reference]
    logs = [math.log(p / q) for p, q in zip(now, then, strict=True)]
    kl = sum(p * log for p, log in zip(now, logs, strict=True))
    back = -sum(q * log for q, log in zip(then, logs, strict=True))
    bias = (bins - 1) / 2 * (1 / n + 1 / m)
    spread = sum(p * log * log for p, log in zip(now, logs, strict=True)) - kl * kl
    chi = sum(p * p / q for p, q in zip(now, then, strict=True)) - 1
    variance = spread / n + chi / m + (bins - 1) / 2 * (1 / n + 1 / m) ** 2
    return Divergence(max(0.0, kl - bias), max(0.0, kl + back - 2 * bias), math.sqrt(max(variance, 0.0)), n)


def vote(score: float, requests: float, limit: float) -> tuple[float, float]:
    """What a node's own score counts: how much of a vote, and how much of that says drift."""
    weight = min(1.0, requests / FULL_VOTE)
    bias = (ASSUMED_BINS - 1) / (2 * max(requests, 1.0))
    return weight, weight if score - bias > limit else 0.0


class DriftWatch:
    """The inputs of a version over a window, feature by feature.

    Attributes:
        verdict: ok, breach or insufficient.
        worst: the feature that is farthest from its reference, and how far; None: nothing was binned.
    """

    def __init__(self, limit: float, *, healthy_ratio: float, per_year: float, window: int, clear_windows: int) -> None:
        self.limit = limit
        self.verdict = Verdict.INSUFFICIENT
        self.worst: tuple[str, Divergence] | None = None
        self._healthy = healthy_ratio * limit
        self._per_year = per_year
        self._window = window
        self._clear_windows = clear_windows
        self._minutes: deque[tuple[int, dict[str, DriftInput]]] = deque()
        self._breached = -1
        self._good = 0

    def take(self, minute: int, drift: Mapping[str, DriftInput]) -> None:
        """Count the inputs of a snapshot."""
        if not self._minutes or minute > self._minutes[-1][0]:
            self._minutes.append((minute, {}))
        known = self._minutes[-1][1]
        for name, binned in drift.items():
            known[name] = known[name].plus(binned) if name in known else binned

    def tick(self, minute: int) -> bool:
        """A minute began; whether the verdict changed."""
        before = self.verdict
        while self._minutes and self._minutes[0][0] < minute - self._window:
            self._minutes.popleft()
        found = self._compared()
        if found:
            self.worst = max(found.items(), key=lambda each: each[1].kl)
            self._decide(found, minute)
        return self.verdict is not before

    def _compared(self) -> dict[str, Divergence]:
        total: dict[str, DriftInput] = {}
        for _, inputs in self._minutes:
            for name, binned in inputs.items():
                total[name] = total[name].plus(binned) if name in total else binned
        return {name: divergence(each.counts, each.reference) for name, each in total.items() if each.size}

    def _decide(self, found: Mapping[str, Divergence], minute: int) -> None:
        if self.verdict is Verdict.BREACH:
            self._clear(found, minute)
            return
        false_alarm = self._per_year / MINUTES_A_YEAR / len(found)
        over = {name: each for name, each in found.items() if each.lower(false_alarm) > self.limit}
        if over:
            self.worst = max(over.items(), key=lambda each: each[1].kl)
            self.verdict, self._breached, self._good = Verdict.BREACH, minute, 0
        elif all(each.upper < self.limit for each in found.values()):
            self.verdict = Verdict.OK

    def _clear(self, found: Mapping[str, Divergence], minute: int) -> None:
        """Hysteresis: windows after another that do not overlap, all features below the healthy share of the limit."""
        if minute - self._breached < self._window:
            return
        self._breached = minute
        self._good = self._good + 1 if all(each.upper < self._healthy for each in found.values()) else 0
        if self._good >= self._clear_windows:
            self.verdict = Verdict.OK
