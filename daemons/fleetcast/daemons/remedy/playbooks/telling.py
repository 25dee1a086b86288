"""What is told of a run: the fact of every change, and the incident that calls a person where a run could not help.
Pure."""

from datetime import datetime

from fleetcast.daemons.remedy.playbooks import rules
from fleetcast.events.incidents import IncidentRaised, Severity, named
from fleetcast.events.remedies import ESCALATED, RUN_ENDED, PlaybookRunChanged, PlaybookRunState, RunPhase, StepRecord

TRIGGERS = {
    RunPhase.FAILED: "playbook_failed",
    RunPhase.REFUSED: "playbook_refused",
    RunPhase.EXPIRED: "approval_expired",
}
"""What noticed it, by the end that a run came to."""


def changed(before: PlaybookRunState | None, run: PlaybookRunState, actor: str, now: datetime) -> PlaybookRunChanged:
    """The fact that tells what became of a run."""
    index = _told_step(before, run)
    step = run.steps[index] if index is not None else None
    return PlaybookRunChanged(
        run=run.run,
        playbook=run.playbook,
        phase=run.phase,
        step=step.name if step else None,
        position=0 if index is None else index + 1,
        steps=len(run.steps),
        attempt=step.attempt if step else 0,
        outcome=step.outcome if step else None,
        resource_type=run.resource_type,
        resource_id=run.resource_id,
        model=run.model,
        version=run.version,
        to=run.to,
        incident=run.incident,
        severity=run.severity,
        detail=_detail(run, step),
        next_step=next_step(run),
        reasons=run.reasons[:5],
        seconds=round(rules.seconds_since(run.asked_at, now), 3),
        step_seconds=step.seconds if step else 0.0,
        drill=run.drill,
        by=actor,
    )


def next_step(run: PlaybookRunState) -> str:
    """What a person can do about a run now; empty: nothing needs to be done."""
    if run.phase is RunPhase.APPROVAL:
        return f"fleetcast playbook approve {run.run} --reason WHY    (or: fleetcast playbook cancel {run.run})"
    if run.phase is RunPhase.REFUSED and run.model is not None:
        return f"fleetcast playbook run {run.playbook} {run.model} --reason WHY    (a person is not stopped)"
    if run.phase in ESCALATED:
        return f"fleetcast playbook show {run.run}"
    return ""


def escalation(run: PlaybookRunState) -> IncidentRaised | None:
    """The incident of a run that somebody has to look at; None: nobody has to."""
    if run.phase not in ESCALATED or run.drill:
        return None
    about = named(run.resource_type, run.resource_id, run.version)
    said = {RunPhase.FAILED: "failed", RunPhase.REFUSED: "was refused", RunPhase.EXPIRED: "was not approved"}[run.phase]
    return IncidentRaised(
        source="remedy",
        resource_type=run.resource_type,
        resource_id=run.resource_id,
        version=run.version,
        trigger=TRIGGERS[run.phase],
        severity=Severity.CRITICAL,
        title=f"{about}: {run.playbook} {said}"[:200],
        description=f"{run.phase_detail}\nnext: {next_step(run)}"[:2000],
        context={
            "run": run.run,
            "playbook": run.playbook,
            "reasons": [run.phase_detail, *run.reasons[:5]],
            **({"incident": run.incident} if run.incident else {}),
        },
    )


def _told_step(before: PlaybookRunState | None, run: PlaybookRunState) -> int | None:
    """The step that a change is about: the one that was settled, or else the one that is under way."""
    if before is not None:
        moved = [
            index
            for index, (was, step) in enumerate(zip(before.steps, run.steps, strict=True))
            if was != step and step.ended_at is not None
        ]
        if moved:
            return moved[0]
    return None if run.phase in RUN_ENDED else rules.current(run)


def _detail(run: PlaybookRunState, step: StepRecord | None) -> str:
    if run.phase in RUN_ENDED or run.phase is RunPhase.WAITING:
        return run.phase_detail
    return step.detail if step and step.detail else ""
