"""The signals that are looked at: their limits by the policy, and what is said of them, the seed's way and ours."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fleetcast.daemons.monitor.budget import CONFIDENCE, Plan, plan
from fleetcast.daemons.monitor.detector import Detector, Tally
from fleetcast.daemons.monitor.drift import Divergence
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.events.incidents import Severity

SLOW_SHARE: Final = 0.05
"""Requests over the limit that a 95th percentile on the limit has."""
VOTE_LIMIT: Final = 0.7
"""Share of reports that may say a 95th percentile is over the limit while 5 % of the requests are: of 20 requests the
greatest is, in 64 of 100 cases."""
DRIFT_VOTE_LIMIT: Final = 0.5
ERROR_RATE: Final = "error_rate"
LATENCY: Final = "latency_p95"
LATENCY_REPORTED: Final = "latency_p95_reported"
OOD_RATE: Final = "ood_rate"
DRIFT: Final = "input_drift"
DRIFT_REPORTED: Final = "input_drift_reported"
SNAPSHOTS: Final = "snapshots"


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal that is decided by counts.

    Attributes:
        budget: share of the budget of false alarms; those that may roll back share one, the others have one each.
        rolls_back: whether a breach may be cured by another version.
        limit: of the share of bad requests.
        bad: what a bad request is, in words.
        required: what is required, in words.
    """

    name: str
    budget: float
    rolls_back: bool
    limit: Callable[[ModelPolicy], float]
    bad: str
    required: Callable[[ModelPolicy], str]

    def plan(self, policy: ModelPolicy) -> Plan | None:
        """Its thresholds; None: the policy sets no limit."""
        budget = self.budget * policy.false_rollbacks_per_model_year
        return plan(self.limit(policy), policy.healthy_ratio, budget, policy.window_minutes)


def _slow(policy: ModelPolicy) -> str:
    expected = policy.expected_latency_p95_ms
    if expected is None:
        return "expected_latency_p95_ms is not known"
    return f"p95 <= {slow_ms(policy):g} ms ({policy.latency_p95_ratio:g} x the expected {expected:g} ms)"


def slow_ms(policy: ModelPolicy) -> float:
    """From where a request is too slow, in milliseconds; infinite: nothing is expected."""
    expected = policy.expected_latency_p95_ms
    return float("inf") if expected is None else policy.latency_p95_ratio * expected


SIGNALS: Final[dict[str, Signal]] = {
    each.name: each
    for each in (
        Signal(
            ERROR_RATE,
            0.5,
            True,
            lambda policy: policy.error_rate,
            "failed",
            lambda policy: f"error rate <= {policy.error_rate:.4g}",
        ),
        Signal(LATENCY, 0.25, True, lambda policy: SLOW_SHARE, "were slower", _slow),
        Signal(LATENCY_REPORTED, 0.25, True, lambda policy: VOTE_LIMIT, "reports said so", _slow),
        Signal(
            OOD_RATE,
            1.0,
            False,
            lambda policy: policy.ood_rate,
            "were out of distribution",
            lambda policy: f"out-of-distribution rate <= {policy.ood_rate:.4g}",
        ),
        Signal(
            DRIFT_REPORTED,
            1.0,
            False,
            lambda policy: DRIFT_VOTE_LIMIT,
            "reports said so",
            lambda policy: f"drift (KL) <= {policy.drift:g}",
        ),
    )
}
NODE_SIGNALS: Final = (ERROR_RATE, LATENCY, LATENCY_REPORTED)
"""Those that may be one node's fault."""


def severity(signal: str, tally: Tally, policy: ModelPolicy) -> Severity:
    """How bad a breach is, by the table of seed 003, by the bound."""
    if signal == ERROR_RATE and tally.lower() > policy.error_rate_critical:
        return Severity.HIGH
    return Severity.MEDIUM


def seed_sentence(signal: str, share: float, p95_ms: float | None, policy: ModelPolicy) -> str:
    """A reason as seed 003 words it."""
    if signal == ERROR_RATE:
        return f"High error rate: {share:.2%}"
    if signal == OOD_RATE:
        return f"High OOD rate: {share:.2%}"
    expected = policy.expected_latency_p95_ms or 0.0
    found = "" if p95_ms is None else f"{p95_ms:.1f}ms vs expected {expected:.1f}ms"
    return f"Latency degradation: {found or f'{share:.2%} of requests over the limit'}"


def drift_sentence(kl: float) -> str:
    """A reason as seed 003 words it."""
    return f"Input distribution drift: {kl:.3f}"


def counted_sentence(signal: str, tally: Tally) -> str:
    """Counts and bound of a trigger, in words."""
    what, since = SIGNALS[signal].bad, clock(tally.minute)
    requests = round(tally.requests)
    unit = "requests" if signal not in (LATENCY_REPORTED, DRIFT_REPORTED) else "votes"
    if not requests:
        return f"no {unit} since {since}"
    said = f"{tally.bad:.4g} of {requests} {unit} {what} since {since} ({tally.share:.2%})"
    return f"{said}; {CONFIDENCE:.1%} sure: more than {tally.lower():.2%}"


def drift_words(feature: str, found: Divergence) -> str:
    """A feature's divergence in words."""
    return f"{feature}: KL {found.kl:.3f} ± {found.error:.3f}, PSI {found.psi:.3f}, of {found.size} requests"


def clock(minute: int) -> str:
    """A minute of the epoch for people."""
    return datetime.fromtimestamp(60 * minute, UTC).strftime("%H:%M UTC")


def counted_evidence(detector: Detector, tally: Tally) -> dict[str, object]:
    """The numbers of a trigger, enough to decide it again."""
    plan = detector.plan
    made: dict[str, object] = {
        "requests": round(tally.requests),
        "bad": round(tally.bad, 4),
        "share": round(tally.share, 6),
        "limit": plan.limit,
        "since_minute": tally.minute,
        "lower_bound": tally.lower(),
        "upper_bound": tally.upper(),
        "budget_per_year": plan.per_year,
    }
    if detector.alarm is not None:
        alarm = detector.alarm
        made |= {
            "path": alarm.path,
            "decided_requests": round(alarm.tally.requests),
            "decided_bad": round(alarm.tally.bad, 4),
            "decided_since_minute": alarm.tally.minute,
            "log_value": round(alarm.value, 4),
            "log_threshold": round(alarm.threshold, 4),
            "good_windows": detector.good_windows,
        }
    return made
