"""What becomes of a run's record: pure, from one stored value to the next. `store.py` writes what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetcast.events.runs import FaultClass, RunFinished, RunOutcome
from fleetcast.events.training import (
    TRAINING_ENDED,
    TRAINING_OWNED,
    Attempt,
    Cancellation,
    CheckpointRecord,
    NodeAllowed,
    Remedy,
    TrainingPhase,
    TrainingRunState,
)
from fleetcast.registry.commands import stamp

ATTEMPTS_KEPT = 50
ALLOWED_KEPT = 20
REASON_CHARACTERS = 1000
SUCCEEDED, LOST, CANCELLED, RECLAIMED, RETURNS = "succeeded", "lost", "cancelled", "reclaimed", "returns"
"""Outcomes of an attempt that are not a class of faults."""


class ClaimLost(Exception):
    """Another claim holds the run now, or nobody's does: nothing may be done in this one's name any more.

    Attributes:
        cancelled: by whom, where that is why.
    """

    def __init__(self, run: str, claim: int, holder: str, cancelled: Cancellation | None = None) -> None:
        self.run = run
        self.claim = claim
        self.holder = holder
        self.cancelled = cancelled
        super().__init__(f"claim {claim} of run {run} is over: {holder}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt came to its end.

    Attributes:
        outcome: `succeeded`, a fault class, `lost`, `reclaimed`, `cancelled`.
        counts: whether the retry budget of its class is spent by it; a preemption spends none.
        guidance: what a person should look at.
    """

    outcome: str
    detail: str = ""
    fault_class: FaultClass | None = None
    signature: str = ""
    evidence: Mapping[str, Any] | None = None
    remedy: Remedy | None = None
    counts: bool = True
    guidance: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """How a run that goes back into the queue is to go on.

    Attributes:
        not_before: it is not claimed earlier.
        cpu: on the CPU.
        away_from: a node that it is not given to, until `away_until`.
    """

    not_before: datetime | None = None
    cpu: bool = False
    away_from: str | None = None
    away_until: datetime | None = None


def holder_of(run: TrainingRunState) -> str:
    """Who holds a run now, for people."""
    if run.phase in TRAINING_ENDED:
        return f"it {_VERBS[run.phase]} under claim {run.claim}"
    if run.owner is None:
        return f"it waits for a node (claim {run.claim} was the last)"
    return f"claim {run.claim} on {run.owner} holds it"


_VERBS = {
    TrainingPhase.SUCCEEDED: "succeeded",
    TrainingPhase.FAILED: "failed",
    TrainingPhase.CANCELLED: "was cancelled",
}


def is_held(run: TrainingRunState, node: str, claim: int) -> bool:
    """Whether this very claim holds the run."""
    return run.phase in TRAINING_OWNED and (run.owner, run.claim) == (node, claim)


def held(run: TrainingRunState, node: str, claim: int) -> TrainingRunState:
    """The run, if this claim holds it.

    Raises:
        ClaimLost: it does not.
    """
    if not is_held(run, node, claim):
        raise ClaimLost(run.run, claim, holder_of(run), run.cancelled)
    return run


def claimable(run: TrainingRunState, now: datetime) -> str:
    """Why a run cannot be claimed now; empty: it can."""
    if run.phase is not TrainingPhase.QUEUED:
        return f"it is {run.phase.value}"
    if run.not_before is not None and now < datetime.fromisoformat(run.not_before):
        return f"not before {run.not_before}"
    return ""


def claimed(run: TrainingRunState, *, node: str, pid: int, device: str, now: datetime) -> TrainingRunState:
    """A node takes a run: its claim is one more than every earlier one."""
    at, claim = stamp(now), run.claim + 1
    attempt = Attempt(
        claim=claim,
        node=node,
        device=device,
        started_at=at,
        resumed_step=run.checkpoint.step if run.checkpoint is not None else None,
    )
    return run.model_copy(
        update={
            "phase": TrainingPhase.CLAIMED,
            "phase_detail": "",
            "claim": claim,
            "owner": node,
            "owner_pid": pid,
            "device": device,
            "attempts": (*run.attempts, attempt)[-ATTEMPTS_KEPT:],
            "not_before": None,
            "at": at,
        }
    )


def adopted(run: TrainingRunState, *, pid: int, now: datetime) -> TrainingRunState:
    """The same claim goes on in another process of the same node."""
    return run.model_copy(update={"owner_pid": pid, "at": stamp(now)})


def running(run: TrainingRunState, now: datetime, *, detail: str = "") -> TrainingRunState:
    """Its process runs."""
    at = stamp(now)
    phase = TrainingPhase.DEGRADED if run.cpu else TrainingPhase.RUNNING
    since = (run.degraded_at or at) if run.cpu else None
    return run.model_copy(update={"phase": phase, "phase_detail": detail, "degraded_at": since, "at": at})


def finished(run: TrainingRunState, phase: TrainingPhase, ended: Ended, now: datetime) -> TrainingRunState:
    """The run's end; the claim stays: what it said before is accepted though it arrives late."""
    at = stamp(now)
    return _attempt_over(run, ended, at).model_copy(
        update={"phase": phase, "phase_detail": ended.detail, "ended_at": at, "at": at}
    )


def cancelled(run: TrainingRunState, why: Cancellation, now: datetime) -> TrainingRunState | None:
    """The run once somebody has cancelled it; nobody holds it from then on, whatever its node does. None: there is
    nothing to write. Cancelled again, it may only be ended sooner: who was first stays."""
    if run.cancelled is not None and why.now and not run.cancelled.now:
        return run.model_copy(update={"cancelled": run.cancelled.model_copy(update={"now": True}), "at": stamp(now)})
    if run.phase in TRAINING_ENDED:
        return None
    over = finished(run, TrainingPhase.CANCELLED, Ended(CANCELLED, told(why)), now)
    return over.model_copy(update={"cancelled": why})


def kept_away(run: TrainingRunState, now: datetime) -> dict[str, str]:
    """The nodes that a run is not given to, and until when."""
    return {node: until for node, until in run.excluded.items() if datetime.fromisoformat(until) > now}


def allowed(run: TrainingRunState, why: NodeAllowed, now: datetime) -> TrainingRunState | None:
    """The run once somebody has let it go to a node again. None: there is nothing to write: it has ended, or nothing
    keeps it away from there. The next fault may keep it away anew."""
    away = kept_away(run, now)
    if run.phase in TRAINING_ENDED or away.pop(why.node, None) is None:
        return None
    return run.model_copy(update={"excluded": away, "allowed": (*run.allowed, why)[-ALLOWED_KEPT:], "at": stamp(now)})


def told(why: Cancellation) -> str:
    """Who cancelled a run and why, in one line."""
    return " ".join(f"{why.by} cancelled it: {why.reason}".split())


def last_node(run: TrainingRunState) -> str | None:
    """The node that has a run, or had it last; None: no node ever had it."""
    return run.owner or (run.attempts[-1].node if run.attempts else None)


def told_end(run: TrainingRunState, outcome: RunOutcome) -> tuple[RunFinished, ...]:
    """The end of a run for the run registry, which knows those that a node has had."""
    node = last_node(run)
    if node is None:
        return ()
    words = " ".join(run.phase_detail.split())[:REASON_CHARACTERS]
    reason = None if outcome is RunOutcome.SUCCEEDED else words or None
    return (RunFinished(run_id=run.run, node=node, claim=run.claim or None, outcome=outcome, reason=reason),)


def queued_again(run: TrainingRunState, ended: Ended, again: Again, now: datetime) -> TrainingRunState:
    """The run goes back into the queue. Nobody holds it; the next claim has a greater number."""
    at = stamp(now)
    excluded = kept_away(run, now)
    if again.away_from is not None and again.away_until is not None:
        excluded[again.away_from] = stamp(again.away_until)
    return _attempt_over(run, ended, at).model_copy(
        update={
            "phase": TrainingPhase.QUEUED,
            "phase_detail": ended.detail,
            "owner": None,
            "owner_pid": 0,
            "device": "",
            "not_before": stamp(again.not_before) if again.not_before is not None else None,
            "cpu": again.cpu,
            "excluded": excluded,
            "at": at,
        }
    )


def with_checkpoint(
    run: TrainingRunState, checkpoint: CheckpointRecord, kept: tuple[CheckpointRecord, ...], now: datetime
) -> TrainingRunState:
    """What the run resumes from from now on."""
    return run.model_copy(
        update={
            "checkpoint": checkpoint,
            "checkpoints": kept,
            "step": checkpoint.step if checkpoint.step is not None else run.step,
            "at": stamp(now),
        }
    )


def _attempt_over(run: TrainingRunState, ended: Ended, at: str) -> TrainingRunState:
    faults = dict(run.faults)
    if ended.fault_class is not None and ended.counts:
        faults[ended.fault_class.value] = faults.get(ended.fault_class.value, 0) + 1
    attempts = run.attempts
    if attempts and attempts[-1].claim == run.claim and attempts[-1].ended_at is None:
        update = {
            "ended_at": at,
            "outcome": ended.outcome,
            "fault_class": ended.fault_class,
            "signature": ended.signature,
            "remedy": ended.remedy,
            "detail": ended.detail,
            "guidance": ended.guidance,
            "evidence": dict(ended.evidence or {}),
            "device": run.device or attempts[-1].device,
        }
        attempts = (*attempts[:-1], attempts[-1].model_copy(update=update))
    return run.model_copy(update={"attempts": attempts, "faults": faults})
