"""From a budget of false rollbacks to the thresholds of a trigger.

A trigger counts bad requests among all and asks whether their share is over a limit. Two paths answer:

- slow: e-CUSUM. For an alternative rate q, each request multiplies a likelihood ratio by q/limit (bad) or
  (1-q)/(1-limit) (good). Every minute another one is begun at 1; the greatest of all of them is kept as one number. It
  alarms at a threshold A.
- fast: the exact binomial tail of the last minutes, looked at every ten seconds.

A healthy model has a bad share of at most h = healthy_ratio x limit. Let theta be the root of h (q/limit)^theta +
(1-h) ((1-q)/(1-limit))^theta = 1. The theta-th power of each likelihood ratio is a supermartingale then, so that one
begun at any minute ever reaches A with a chance of at most A^-theta (Ville 1939), however often it is looked at. There
are 525,600 minutes in a year: A = (525600 / b)^(1/theta) keeps false alarms at most b a year. A fast look with tail
probability alpha under h alarms falsely with that chance: alpha = b / looks a year. Both are upper bounds; they assume
that each request is bad with a chance of at most h whatever came before it.

Source of the construction: Lorden, Ann. Math. Stat. 42 (1971); Shin, Ramdas and Rinaldo, "E-detectors" (2022).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MINUTES_A_YEAR: Final = 365 * 24 * 60
LOOK_SECONDS: Final = 10.0
"""Distance of the looks of the fast path."""
SLOW_SHARE: Final = 0.8
"""Of a trigger's budget; the rest is the fast path's."""
ALTERNATIVES: Final = ((2.0, 0.1), (4.0, 0.6), (8.0, 0.3))
"""Odds of the alternatives as multiples of the limit's, and their shares of the slow path's budget. Most for the middle
one: with a limit of 5 % it finds 20 % soonest. (Measured: docs/adr/0026-verdicts-on-evidence.md.)"""
CONFIDENCE: Final = 0.999
"""Of the lower bounds that people are shown, and that the severity of a breach follows."""
CLEAR_CONFIDENCE: Final = 0.95
"""Of the upper bounds by which a breach ends, and by which a trigger says `ok`: nothing is decided by one of them
alone."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One rate that the slow path tests the limit against.

    Attributes:
        rate: the alternative.
        bad, good: logarithm of what a request multiplies the likelihood ratio by.
        threshold: logarithm of A.
        theta: exponent at which it is a martingale for a healthy model.
    """

    rate: float
    bad: float
    good: float
    threshold: float
    theta: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The thresholds of one trigger.

    Attributes:
        limit: of the share of bad requests.
        healthy: share up to which it is healthy.
        alpha: tail probability of a fast look for a healthy model, at most.
        alpha_at_limit: the same for a model exactly on its limit.
        windows: of the fast path, in minutes.
        ruled_out: share that must be ruled out before a trigger says `ok`: twice the limit.
        per_year: the budget.
    """

    limit: float
    healthy: float
    alternatives: tuple[Alternative, ...]
    alpha: float
    alpha_at_limit: float
    windows: tuple[int, ...]
    ruled_out: float
    per_year: float

    @property
    def at_limit_per_year(self) -> float:
        """Alarms a year, at most, for a model exactly on its limit."""
        return 2 * _slow_at_limit(self.alternatives)


@lru_cache(maxsize=1024)
def plan(limit: float, healthy_ratio: float, per_year: float, window_minutes: int) -> Plan | None:
    """Thresholds for a limit and a budget of false alarms a year; None: the limit is no limit."""
    if not 0 < limit < 1:
        return None
    healthy = healthy_ratio * limit
    windows = tuple(sorted({1, min(3, window_minutes), window_minutes}))
    looks = MINUTES_A_YEAR * 60 / LOOK_SECONDS * len(windows)
    alternatives = tuple(
        _alternative(limit, healthy, odds, per_year * SLOW_SHARE * share) for odds, share in ALTERNATIVES
    )
    return Plan(
        limit=limit,
        healthy=healthy,
        alternatives=alternatives,
        alpha=per_year * (1 - SLOW_SHARE) / looks,
        alpha_at_limit=_slow_at_limit(alternatives) / looks,
        windows=windows,
        ruled_out=min(2 * limit, (1 + limit) / 2),
        per_year=per_year,
    )


def _slow_at_limit(alternatives: Iterable[Alternative]) -> float:
    """There the likelihood ratio itself is a martingale, so that A is reached with a chance of at most 1/A."""
    return sum(MINUTES_A_YEAR * math.exp(-each.threshold) for each in alternatives)


def _alternative(limit: float, healthy: float, odds: float, per_year: float) -> Alternative:
    raised = limit / (1 - limit) * odds
    rate = raised / (1 + raised)
    bad, good = math.log(rate / limit), math.log((1 - rate) / (1 - limit))
    theta = martingale_exponent(healthy, bad, good)
    return Alternative(rate, bad, good, max(1.0, math.log(MINUTES_A_YEAR / per_year) / theta), theta)


def martingale_exponent(healthy: float, bad: float, good: float) -> float:
    """The root theta >= 1 of healthy e^(theta bad) + (1 - healthy) e^(theta good) = 1."""
    low, high = 1.0, 2.0
    while _excess(high, healthy, bad, good) < 0:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _excess(middle, healthy, bad, good) < 0 else (low, middle)
    # The lower end: rounding must not spend more than the budget.
    return low


def _excess(theta: float, healthy: float, bad: float, good: float) -> float:
    return healthy * math.exp(theta * bad) + (1 - healthy) * math.exp(theta * good) - 1
