"""How far a model can be trusted: what became of its promotions, counted from its audit records. Pure.

A promotion is *kept* unless it was rolled back; a rollback that was a false alarm (the version that was left came to
production again) takes nothing away. The score is (kept + 1) / (promotions + 2), Laplace's rule of succession: 0.5 for
a model of which nothing is known. Its interval is the exact one of Clopper and Pearson (1934) for kept of promotions,
at 95 %; gates ask for its lower end, so that one good promotion proves little.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fleetcast.events.lifecycle import TrustState
from fleetcast.events.state import AuditRecord
from fleetcast.registry.gates.bounds import lower_bound, upper_bound

ONE_SIDED: Final = 0.975
"""Of an interval of 95 %."""
DAY_SECONDS: Final = 86400.0


@dataclass(frozen=True, slots=True)
class TrustCounts:
    """What is counted.

    Attributes:
        last_rollback_at, first_at: of the newest rollback, and of the first promotion.
        n: the newest audit record that was counted.
    """

    promotions: int = 0
    rollbacks: int = 0
    false_alarms: int = 0
    first_at: str | None = None
    last_rollback_at: str | None = None
    n: int = 0


def counted(records: Iterable[AuditRecord]) -> TrustCounts:
    """What the audit records of a model, oldest first, come to: every change of what is production."""
    present: str | None = None
    left: set[str] = set()
    promotions = rollbacks = false_alarms = n = 0
    first_at = last_rollback_at = None
    for record in records:
        n = record.n
        now = _production(record.after)
        if now is None or now == present:
            continue
        if record.action == "slot.rolled_back":
            rollbacks += 1
            last_rollback_at = record.at
            left |= {present} if present is not None else set()
        else:
            promotions += 1
            first_at = first_at or record.at
            false_alarms += now in left
            left.discard(now)
        present = now
    return TrustCounts(promotions, rollbacks, false_alarms, first_at, last_rollback_at, n)


def current(stored: TrustState | None, records: Iterable[AuditRecord], model: str, at: str) -> TrustState:
    """Trust in a model as its audit records say it now; of incidents, what was *stored* last."""
    counts = counted(records)
    return TrustState(
        model=model,
        promotions=counts.promotions,
        rollbacks=counts.rollbacks,
        false_alarms=counts.false_alarms,
        first_at=counts.first_at,
        last_rollback_at=counts.last_rollback_at,
        last_incident_at=stored.last_incident_at if stored else None,
        counted=counts.n,
        at=at,
    )


def _production(after: dict[str, Any] | None) -> str | None:
    """The version in production by a record that moved a slot; None: it moved none."""
    if after is None or "generation" not in after or not isinstance(after.get("production"), dict):
        return None
    return str(after["production"].get("version"))


def kept(trust: TrustState) -> int:
    """Promotions that were not rolled back for a reason."""
    return max(0, trust.promotions - max(0, trust.rollbacks - trust.false_alarms))


def score(trust: TrustState) -> float:
    """0 to 1."""
    return round((kept(trust) + 1) / (trust.promotions + 2), 4)


def interval(trust: TrustState) -> tuple[float, float]:
    """The 95 % interval of the share of promotions that are kept; from 0 to 1 where there was none."""
    if trust.promotions == 0:
        return 0.0, 1.0
    held = min(kept(trust), trust.promotions)
    return lower_bound(held, trust.promotions, ONE_SIDED), upper_bound(held, trust.promotions, ONE_SIDED)


def days_without_incident(trust: TrustState, now: datetime) -> float | None:
    """Since the newest incident, or since the first promotion; None: it never was production."""
    since = trust.last_incident_at or trust.first_at
    if since is None:
        return None
    return round(max(0.0, (now - datetime.fromisoformat(since)).total_seconds()) / DAY_SECONDS, 2)


def sentence(trust: TrustState, now: datetime) -> str:
    """`0.75 (0.19 to 0.99): 2 promotions, 1 rollback, 0 false alarms; 3.2 days without incident`."""
    low, high = interval(trust)
    days = days_without_incident(trust, now)
    quiet = f"; {days:g} days without incident" if days is not None else ""
    return (
        f"{score(trust):.2f} ({low:.2f} to {high:.2f}): {_count(trust.promotions, 'promotion')}, "
        f"{_count(trust.rollbacks, 'rollback')}, {_count(trust.false_alarms, 'false alarm')}{quiet}"
    )


def document(trust: TrustState, now: datetime) -> dict[str, Any]:
    """In JSON, with what follows from it."""
    low, high = interval(trust)
    return {
        **trust.model_dump(mode="json", by_alias=True),
        "score": score(trust),
        "score_low": low,
        "score_high": high,
        "days_without_incident": days_without_incident(trust, now),
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
