"""What a run of a playbook does next: a state machine of values. Pure.

The shell writes every state before it acts on it: whoever reads the newest state after a crash knows which step was
under way, for the how manieth time, and until when. `advanced` takes the run as far as it comes without doing anything;
what then stands as `running` is to be carried out, and `settled` takes its result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fleetcast.daemons.remedy.playbooks.definition import APPROVAL
from fleetcast.daemons.remedy.playbooks.template import context_of, filled
from fleetcast.events.remedies import (
    RUN_ENDED,
    PlaybookRunState,
    RunApproval,
    RunPhase,
    StepOutcome,
    StepRecord,
)
from fleetcast.registry.commands import stamp

MOST_INTERRUPTIONS: Final = 10
"""A step during which the daemon was gone so often is what ends it."""
KEPT_OUTPUT_CHARACTERS: Final = 4000
LONGEST_BACKOFF_SECONDS: Final = 3600.0
_DONE: Final = frozenset({StepOutcome.SUCCEEDED, StepOutcome.FAILED, StepOutcome.SKIPPED})


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of one attempt of a step.

    Attributes:
        ok: it is done.
        detail: in one line, for people.
        output: what later steps may use, by name.
        again: whether another attempt may help.
        nothing: there is nothing to remedy: the run ends here, and that is well.
        version: the bad one, where nobody named it.
        to: the version that is served instead, once it is known.
    """

    ok: bool
    detail: str = ""
    output: Mapping[str, Any] = field(default_factory=dict)
    again: bool = True
    nothing: bool = False
    version: str | None = None
    to: str | None = None


def current(run: PlaybookRunState) -> int | None:
    """Index of the step that is under way or next; None: all are settled."""
    return next((index for index, step in enumerate(run.steps) if step.outcome not in _DONE), None)


def advanced(run: PlaybookRunState, now: datetime) -> PlaybookRunState:
    """The run with its next step under way, or at its end; unchanged where it waits for a moment or for somebody."""
    index = current(run)
    if run.phase in RUN_ENDED:
        return run
    if index is None:
        return ended(run, RunPhase.SUCCEEDED, _last_word(run), now)
    step = run.steps[index]
    if step.outcome is StepOutcome.RUNNING or (step.not_before is not None and now < _moment(step.not_before)):
        return run
    begun = step.model_copy(
        update={
            "outcome": StepOutcome.RUNNING,
            "attempt": step.attempt + 1,
            "started_at": step.started_at or stamp(now),
            "deadline": stamp(now + timedelta(seconds=step.timeout_seconds)),
            "not_before": None,
            "params": filled_params(run, step),
        }
    )
    phase = RunPhase.APPROVAL if step.action == APPROVAL else RunPhase.RUNNING
    return _with(run, index, begun, now, phase=phase)


def filled_params(run: PlaybookRunState, step: StepRecord) -> dict[str, Any]:
    """The params of a step with their names filled in: once, so that no later attempt reads what was put in."""
    return dict(step.params if step.attempt else filled(step.params, context_of(run)))


def settled(run: PlaybookRunState, result: StepResult, now: datetime, seconds: float = 0.0) -> PlaybookRunState:
    """The run after an attempt of its step; *seconds*: that the attempt took."""
    index = current(run)
    if index is None or run.phase in RUN_ENDED:
        return run
    step = run.steps[index]
    run = run.model_copy(update={"version": run.version or result.version})
    done = step.model_copy(
        update={
            "detail": result.detail[:500],
            "output": {**step.output, **_bounded(result.output)},
            "seconds": round(step.seconds + seconds, 4),
            "ended_at": stamp(now),
            "deadline": None,
        }
    )
    to = result.to or run.to
    if result.ok:
        well = _with(run, index, done.model_copy(update={"outcome": StepOutcome.SUCCEEDED}), now, to=to)
        return ended(well, RunPhase.NOTHING, result.detail, now) if result.nothing else well
    if result.again and step.attempt < step.attempts_at_most:
        pause = min(step.backoff_seconds * 2.0 ** (step.attempt - 1), LONGEST_BACKOFF_SECONDS)
        later = {"outcome": StepOutcome.PENDING, "not_before": stamp(now + timedelta(seconds=pause)), "ended_at": None}
        return _with(run, index, done.model_copy(update=later), now, to=to)
    failed = _with(run, index, done.model_copy(update={"outcome": StepOutcome.FAILED}), now, to=to)
    if step.go_on:
        return failed
    return ended(failed, RunPhase.FAILED, f"{step.name}: {result.detail}"[:500], now)


def looked(run: PlaybookRunState, index: int, result: StepResult) -> PlaybookRunState:
    """The run of a dry run, in which a step found something that later ones are planned by."""
    step = run.steps[index].model_copy(update={"output": dict(result.output)})
    known = run.model_copy(update={"version": run.version or result.version, "to": result.to or run.to})
    return known.model_copy(update={"steps": (*run.steps[:index], step, *run.steps[index + 1 :])})


def timed_out(step: StepRecord) -> StepResult:
    """The result of an attempt that did not end by its deadline."""
    return StepResult(False, f"did not end within {step.timeout_seconds:g} s (attempt {step.attempt})")


def taken(run: PlaybookRunState, owner: str, now: datetime) -> PlaybookRunState:
    """The run in the hands of another process. The step that was under way is carried out again, under the same key:
    whether it had its effect is not known, and that is what keys are for."""
    index = current(run)
    mine = run.model_copy(update={"owner": owner, "at": stamp(now)})
    if index is None or run.steps[index].outcome is not StepOutcome.RUNNING or run.phase is RunPhase.APPROVAL:
        return mine
    step = run.steps[index]
    again = step.model_copy(
        update={
            "interrupted": step.interrupted + 1,
            "deadline": stamp(now + timedelta(seconds=step.timeout_seconds)),
        }
    )
    kept = _with(mine, index, again, now)
    if again.interrupted < MOST_INTERRUPTIONS:
        return kept
    why = f"the daemon was gone {again.interrupted} times before this step had ended"
    return settled(kept, StepResult(False, why, again=False), now)


def expired(run: PlaybookRunState, now: datetime) -> bool:
    """Whether nobody agreed in time."""
    index = current(run)
    if run.phase is not RunPhase.APPROVAL or index is None:
        return False
    deadline = run.steps[index].deadline
    return deadline is not None and now >= _moment(deadline)


def lapsed(run: PlaybookRunState, now: datetime) -> PlaybookRunState:
    """The run of which nobody agreed in time."""
    index = current(run)
    assert index is not None
    why = f"nobody agreed within {run.steps[index].timeout_seconds:g} s"
    step = run.steps[index].model_copy(
        update={"outcome": StepOutcome.FAILED, "detail": why, "ended_at": stamp(now), "deadline": None}
    )
    return ended(_with(run, index, step, now), RunPhase.EXPIRED, why, now)


def approved(run: PlaybookRunState, by: str, reason: str, now: datetime) -> PlaybookRunState:
    """The run after somebody agreed."""
    agreed = run.model_copy(
        update={
            "approvals": (*run.approvals, RunApproval(by=by, reason=reason, at=stamp(now))),
            "phase": RunPhase.RUNNING,
        }
    )
    return settled(agreed, StepResult(True, f"{by}: {reason}"), now)


def ended(run: PlaybookRunState, phase: RunPhase, detail: str, now: datetime) -> PlaybookRunState:
    """The run at its end; steps that never came are skipped."""
    steps = tuple(
        step if step.outcome in _DONE else step.model_copy(update={"outcome": StepOutcome.SKIPPED, "deadline": None})
        for step in run.steps
    )
    return run.model_copy(
        update={
            "phase": phase,
            "phase_detail": detail[:500],
            "ended_at": stamp(now),
            "at": stamp(now),
            "steps": steps,
            "owner": "",
        }
    )


def seconds_since(moment: str, now: datetime) -> float:
    """Seconds from a stored moment until now, at least 0."""
    return max(0.0, (now - _moment(moment)).total_seconds())


def seconds_until(moment: str, now: datetime) -> float:
    """Seconds from now until a stored moment; negative once it is over."""
    return (_moment(moment) - now).total_seconds()


def _last_word(run: PlaybookRunState) -> str:
    """What a run that succeeded has to say: the detail of the step that proved it, or of the last."""
    told = [step for step in run.steps if step.detail]
    proof = [step for step in told if step.action.startswith("verify")]
    failed = [step.name for step in run.steps if step.outcome is StepOutcome.FAILED]
    word = (proof or told)[-1].detail if told else "done"
    return f"{word}; failed on the way: {', '.join(failed)}" if failed else word


def _with(
    run: PlaybookRunState,
    index: int,
    step: StepRecord,
    now: datetime,
    *,
    phase: RunPhase | None = None,
    to: str | None = None,
) -> PlaybookRunState:
    steps = (*run.steps[:index], step, *run.steps[index + 1 :])
    return run.model_copy(update={"steps": steps, "at": stamp(now), "phase": phase or run.phase, "to": to or run.to})


def _bounded(output: Mapping[str, Any]) -> dict[str, Any]:
    """Texts of an output cut to what a state may hold."""
    return {key: value[:KEPT_OUTPUT_CHARACTERS] if isinstance(value, str) else value for key, value in output.items()}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
