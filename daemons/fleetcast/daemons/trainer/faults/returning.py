"""When a run that fell back to the CPU goes back to a GPU. Pure.

Only to one that is there, fits, was looked at after the fault and passed: no variable overrides it, the library is
built for it, and it computed in a process of its own. And only where little is lost by the move: after a durable
checkpoint.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fleetcast.events.training import TrainingPhase, TrainingRunState

LEAST_DEGRADED: Final = timedelta(minutes=10)
"""A run is not moved again sooner: a GPU that failed once may well fail again, and each move costs a start."""
MOST_LOST: Final = timedelta(minutes=2)
"""Work since the newest checkpoint that a move may cost."""
MOST_RETURNS: Final = 3
"""After so many returns that each ended on the CPU again, the run stays there."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may have a GPU for the run.

    Attributes:
        reason: why it may not take the run; empty: it may (`claims.eligibility`).
        problems: what speaks against its GPUs (`guidance.problems`).
        probe: whether they computed as they should; None: nobody asked, or nothing could be asked.
        probed_at: when they were asked.
    """

    node: str
    reason: str = ""
    problems: tuple[str, ...] = ()
    probe: bool | None = None
    probed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """Whether a run goes back to a GPU now, to which node's, and why not to each other's."""

    ok: bool
    node: str | None
    reasons: tuple[str, ...]


def may_return(run: TrainingRunState, candidates: Iterable[Candidate], now: datetime) -> Return:
    """Whether *run*, which is degraded, goes back to a GPU now."""
    waits = _waits(run, now)
    if waits:
        return Return(False, None, (waits,))
    failed = _failed_at(run)
    refused = []
    for each in candidates:
        reason = _against(each, failed)
        if not reason:
            return Return(True, each.node, ())
        refused.append(f"{each.node}: {reason}")
    return Return(False, None, tuple(refused) or ("no other node was heard from",))


def _waits(run: TrainingRunState, now: datetime) -> str:
    """Why the run itself is not ready to move."""
    if run.phase is not TrainingPhase.DEGRADED or run.degraded_at is None:
        return f"it is {run.phase.value}, not degraded"
    since = datetime.fromisoformat(run.degraded_at)
    if now - since < LEAST_DEGRADED:
        return f"it is on the CPU for less than {LEAST_DEGRADED.total_seconds() / 60:g} minutes"
    if _falls(run) > MOST_RETURNS:
        return f"it fell back {_falls(run)} times"
    if run.checkpoint is None:
        return "it has no checkpoint that it could go on from"
    saved = datetime.fromisoformat(run.checkpoint.at)
    if saved < since or now - saved > MOST_LOST:
        return "its newest checkpoint is too old; it moves after the next one"
    return ""


def _against(candidate: Candidate, failed: datetime | None) -> str:
    if candidate.reason:
        return candidate.reason
    if candidate.problems:
        return "; ".join(candidate.problems)
    if candidate.probe is None or candidate.probed_at is None:
        return "its GPU was not probed"
    if not candidate.probe:
        return "its GPU failed the probe"
    if failed is not None and candidate.probed_at <= failed:
        return "its GPU was not probed since the fault"
    return ""


def _failed_at(run: TrainingRunState) -> datetime | None:
    """When the newest GPU fault of the run was."""
    ended = (each.ended_at for each in reversed(run.attempts) if each.remedy == "cpu" and each.ended_at)
    newest = next(ended, None)
    return datetime.fromisoformat(newest) if newest else None


def _falls(run: TrainingRunState) -> int:
    return sum(1 for each in run.attempts if each.remedy == "cpu")
