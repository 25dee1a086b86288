"""The statistics of the monitor's verdicts, by simulation with fixed seeds: how often healthy models are rolled back,
and how soon bad ones are found. A part of `fleetcast bench monitor`; alone it prints its own figures.

All models at once, one snapshot every ten seconds, all nodes together. The rule is the monitor's, in arrays: its
thresholds come from the same plan, those of the exact path from the same function, and `agrees` replays models through
the real detector and demands the same alarm at the same snapshot.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np
from tests.benchmarks._report import Figure, Report, arguments

from fleetcast.daemons.monitor.budget import Plan
from fleetcast.daemons.monitor.detector import Detector
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.signals import ERROR_RATE, SIGNALS
from fleetcast.events.incidents import Verdict
from fleetcast.registry.gates.bounds import chance_of_at_least

SEED: Final = 20261121
STEP_SECONDS: Final = 10
STEPS_A_MINUTE: Final = 60 // STEP_SECONDS
DAY_MINUTES: Final = 1440
DAYS_A_YEAR: Final = 365.0
HEALTHY: Final = (0.02, 0.04)
TRAFFIC: Final = (2, 20, 200, 2000)
ON_THE_LIMIT: Final = ((0.05, 20.0), (0.05, 200.0))
"""Kinds that are neither healthy nor in breach."""
BAD: Final = 0.20
BEFORE_MINUTES: Final = 30
"""Of good service at 2 % errors, before a model turns bad."""
FOUND_MINUTES: Final = {20: 30, 200: 5}
WINDOW_MINUTES: Final = 10
MOST_REQUESTS: Final = 50_000
"""In a window, more than ten minutes at 2000 a minute ever have."""
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
Rates = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass
class Statistics:
    """What was found.

    Attributes:
        figures: by key of the report; `peers`: the seeds' rule beside it.
        conditions: under which it was found.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    peers: dict[str, dict[str, float]] = field(default_factory=dict)
    conditions: dict[str, object] = field(default_factory=dict)


def plan_of(policy: ModelPolicy) -> Plan:
    """The thresholds of the error rate."""
    plan = SIGNALS[ERROR_RATE].plan(policy)
    assert plan is not None, "the default policy has a limit"
    return plan


class Rule:
    """The detector over many models at once. Alarms are counted, and the model goes on as if it had been cleared."""

    def __init__(self, plan: Plan, models: int) -> None:
        self._plan = plan
        self._values = np.zeros((len(plan.alternatives), models))
        self._bad = np.array([[each.bad] for each in plan.alternatives])
        self._good = np.array([[each.good] for each in plan.alternatives])
        self._thresholds = np.array([[each.threshold] for each in plan.alternatives])
        length = plan.windows[-1]
        self._requests = np.zeros((length, models), dtype=np.int64)
        self._failed = np.zeros((length, models), dtype=np.int64)
        self._critical = np.full(MOST_REQUESTS, -1, dtype=np.int64)
        self._minute = -1

    def take(self, minute: int, requests: Counts, failed: Counts) -> Flags:
        """One snapshot of every model; which of them alarm."""
        if minute != self._minute:
            self._minute = minute
            np.maximum(self._values, 0.0, out=self._values)
            self._requests[minute % len(self._requests)] = 0
            self._failed[minute % len(self._failed)] = 0
        self._requests[minute % len(self._requests)] += requests
        self._failed[minute % len(self._failed)] += failed
        self._values += failed * self._bad + (requests - failed) * self._good
        alarms = np.asarray((self._values >= self._thresholds).any(axis=0), dtype=np.bool_)
        for window in self._plan.windows:
            rows = [(minute - back) % len(self._requests) for back in range(window)]
            alarms |= self._exact(self._requests[rows].sum(axis=0), self._failed[rows].sum(axis=0))
        self._clear(alarms)
        return alarms

    def _exact(self, requests: Counts, failed: Counts) -> Flags:
        over = np.flatnonzero(failed > self._plan.limit * requests)
        alarms = np.zeros(failed.shape, dtype=np.bool_)
        if over.size:
            counts = requests[over]
            for unknown in np.unique(counts[self._critical[counts] < 0]):
                self._critical[unknown] = critical(self._plan, int(unknown))
            alarms[over] = failed[over] >= self._critical[counts]
        return alarms

    def _clear(self, alarms: Flags) -> None:
        self._values[:, alarms] = 0.0
        self._requests[:, alarms] = 0
        self._failed[:, alarms] = 0


def critical(plan: Plan, requests: int) -> int:
    """The fewest failures of so many requests at which the exact path alarms; more than all: at none."""
    low, high = math.floor(plan.limit * requests), requests + 1
    # Where a normal distribution would have it, and its neighbourhood, before anything else.
    for rate, alpha in ((plan.healthy, plan.alpha), (plan.limit, plan.alpha_at_limit)):
        spread = math.sqrt(requests * rate * (1 - rate))
        guess = requests * rate - NormalDist().inv_cdf(alpha) * spread
        for place in (guess - spread / 4, guess, guess + spread / 2, guess + spread + 3):
            if low < (middle := math.ceil(place)) < high:
                low, high = (low, middle) if _alarms(plan, requests, middle) else (middle, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _alarms(plan, requests, middle) else (middle, high)
    return high


def _alarms(plan: Plan, requests: int, failed: int) -> bool:
    if chance_of_at_least(failed, requests, plan.healthy) > plan.alpha:
        return False
    return chance_of_at_least(failed, requests, plan.limit) <= plan.alpha_at_limit


class SeedRule:
    """The seeds' rule: the mean error rate of the last ten minutes is over the limit, looked at every minute."""

    def __init__(self, limit: float, models: int) -> None:
        self._limit = limit
        self._requests = np.zeros((WINDOW_MINUTES, models), dtype=np.int64)
        self._failed = np.zeros((WINDOW_MINUTES, models), dtype=np.int64)
        self._over = np.zeros(models, dtype=np.bool_)

    def take(self, minute: int, requests: Counts, failed: Counts) -> Flags:
        """One minute of every model; which of them are newly over the limit."""
        self._requests[minute % WINDOW_MINUTES] = requests
        self._failed[minute % WINDOW_MINUTES] = failed
        over = self._failed.sum(axis=0) > self._limit * self._requests.sum(axis=0)
        new: Flags = over & ~self._over
        self._over = over
        return new


@dataclass(frozen=True, slots=True)
class Alarms:
    """Rollbacks by our rule and by the seeds', one number for each model and day."""

    ours: Counts
    seeds: Counts


def days(plan: Plan, rates: Rates, per_minute: Rates, rng: np.random.Generator) -> Alarms:
    """A day of models, each with its rate of errors and its requests a minute."""
    models = len(rates)
    rule, seeds = Rule(plan, models), SeedRule(plan.limit, models)
    ours, theirs = np.zeros(models, dtype=np.int64), np.zeros(models, dtype=np.int64)
    for minute in range(DAY_MINUTES):
        total, bad = np.zeros(models, dtype=np.int64), np.zeros(models, dtype=np.int64)
        for requests, failed in _minute(rates, per_minute, rng):
            ours += rule.take(minute, requests, failed)
            total += requests
            bad += failed
        theirs += seeds.take(minute, total, bad)
    return Alarms(ours, theirs)


def _minute(rates: Rates, per_minute: Rates, rng: np.random.Generator) -> Iterator[tuple[Counts, Counts]]:
    for _ in range(STEPS_A_MINUTE):
        requests = rng.poisson(per_minute / STEPS_A_MINUTE)
        yield requests, rng.binomial(requests, rates)


@dataclass(frozen=True, slots=True)
class Found:
    """Minutes from the moment that models turned bad until each was found; infinite: not within the time."""

    ours: Rates
    seeds: Rates


def finding(plan: Plan, per_minute: int, minutes: int, models: int, rng: np.random.Generator) -> Found:
    """Let so many models turn bad at once."""
    rule, seeds = Rule(plan, models), SeedRule(plan.limit, models)
    ours, theirs = np.full(models, np.inf), np.full(models, np.inf)
    for minute in range(BEFORE_MINUTES + minutes):
        rate = HEALTHY[0] if minute < BEFORE_MINUTES else BAD
        total, bad = np.zeros(models, dtype=np.int64), np.zeros(models, dtype=np.int64)
        served = _minute(np.full(models, rate), np.full(models, float(per_minute)), rng)
        for step, (requests, failed) in enumerate(served, 1):
            since = minute - BEFORE_MINUTES + step / STEPS_A_MINUTE
            _note(ours, rule.take(minute, requests, failed), since)
            total += requests
            bad += failed
        seeds.take(minute, total, bad)
        _note(theirs, seeds._over, minute - BEFORE_MINUTES + 1.0)
    return Found(ours, theirs)


def _note(found: Rates, alarms: Flags, since: float) -> None:
    if since > 0:
        found[alarms & np.isinf(found)] = since


def agrees(plan: Plan, models: int = 60, minutes: int = 40) -> int:
    """Replay models of several rates through the real detector; how many alarms both rules agree on.

    Raises:
        RuntimeError: they do not.
    """
    rng = np.random.default_rng(SEED)
    alarms = 0
    for rate, per_minute in ((0.04, 200), (0.06, 400), (0.1, 20), (0.2, 20), (0.2, 200), (0.6, 2)):
        rates, traffic = np.full(models, rate), np.full(models, float(per_minute))
        steps = [each for _ in range(minutes) for each in _minute(rates, traffic, rng)]
        rule = Rule(plan, models)
        first = np.full(models, -1)
        for index, (requests, failed) in enumerate(steps):
            now = rule.take(index // STEPS_A_MINUTE, requests, failed)
            first[now & (first < 0)] = index
        for model in range(models):
            real = _first_alarm(plan, [(int(r[model]), int(f[model])) for r, f in steps])
            if real != int(first[model]):
                raise RuntimeError(f"{rate:.0%}, {per_minute}/min, model {model}: {first[model]} here, {real} for real")
            alarms += real >= 0
    return alarms


def _first_alarm(plan: Plan, steps: list[tuple[int, int]]) -> int:
    detector = Detector(plan, clear_windows=3)
    for index, (requests, failed) in enumerate(steps):
        detector.take(float(STEP_SECONDS * index), requests, failed)
        if detector.verdict is Verdict.BREACH:
            return index
    return -1


def figures(models: int = 1000) -> Statistics:
    """Simulate everything with *models* model-days of each kind.

    Raises:
        RuntimeError: the rule in arrays is not the real one.
    """
    began = time.monotonic()
    policy = ModelPolicy()
    plan = plan_of(policy)
    rng = np.random.default_rng(SEED)
    made = Statistics()
    made.conditions["rule_checked_alarms"] = agrees(plan)
    kinds = [(rate, float(rpm)) for rate in HEALTHY for rpm in TRAFFIC]
    every_kind = [*kinds, *ON_THE_LIMIT]
    rates, traffic = (np.repeat([kind[part] for kind in every_kind], models) for part in (0, 1))
    alarms = days(plan, rates, traffic, rng)
    healthy = len(kinds) * models
    years = healthy / DAYS_A_YEAR
    made.figures["false_rollbacks_per_model_year"] = Figure(
        float(alarms.ours[:healthy].sum()) / years, "1/year", required=policy.false_rollbacks_per_model_year
    )
    made.figures["rollbacks_on_the_limit_per_model_year"] = Figure(
        float(alarms.ours[healthy:].mean()) * DAYS_A_YEAR, "1/year", required=plan.at_limit_per_year
    )
    seed_peer = {"false_rollbacks_per_model_year": float(alarms.seeds[:healthy].sum()) / years}
    hit = (alarms.seeds > 0).reshape(len(every_kind), models).mean(axis=1)
    for (rate, rpm), share in zip(every_kind, hit, strict=True):
        seed_peer[f"days_with_a_false_one_{100 * rate:.0f}pct_{rpm:.0f}rpm"] = float(share)
    for rpm, minutes in FOUND_MINUTES.items():
        found = finding(plan, rpm, minutes, models, rng)
        key = f"detect_{rpm}rpm"
        required = {20: 5.0, 200: 1.0}[rpm]
        made.figures[f"{key}_minutes"] = Figure(float(np.median(found.ours)), "min", required=required)
        made.figures[f"{key}_p95_minutes"] = Figure(float(np.quantile(found.ours, 0.95, method="higher")), "min")
        seed_peer[f"{key}_minutes"] = float(np.median(found.seeds))
    made.peers["the seeds' rule (mean of 10 minutes over the limit)"] = seed_peer
    made.conditions |= {
        "healthy_models": f"{models} days of each kind: 2 and 4 % errors, limit 5 %, 2, 20, 200 and 2000 requests/min",
        "model_years": round(years, 1),
        "false_rollbacks_by_kind": [int(n) for n in alarms.ours[:healthy].reshape(len(kinds), models).sum(axis=1)],
        "detect": f"median of {models} models that go from 2 % to 20 % errors; a snapshot every {STEP_SECONDS} s",
        "seed": SEED,
        "statistics_seconds": round(time.monotonic() - began, 1),
    }
    return made


def main() -> int:
    """Simulate and report."""
    given = arguments(__doc__ or "", {"models": (1000, "model-days of each kind")})
    made = figures(given.models)
    report = Report("monitor_statistics", made.conditions)
    report.figures, report.peers = made.figures, made.peers
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
