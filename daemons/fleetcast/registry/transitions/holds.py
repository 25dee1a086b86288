"""What holds promotions up, and lets them go on: freezes and halted rollouts."""

from datetime import datetime, timedelta

from fleetcast.events.content import Value
from fleetcast.events.decisions import FreezeChanged
from fleetcast.events.lifecycle import FLEET, FreezeState, Phase, freeze_subject, rollout_subject
from fleetcast.registry.commands import Answer, Freeze, Resume, Transition, stamp
from fleetcast.registry.transitions import slots
from fleetcast.registry.transitions.rollback import withdraw
from fleetcast.registry.transitions.view import Decision, View, label, refuse


def freeze(view: View, transition: Transition, command: Freeze) -> Decision:
    """Nothing moves up until it is lifted or over.

    Raises:
        Refusal: no reason, or a moment that is past.
    """
    whom = "all models" if command.key == FLEET else command.key
    if not transition.reason:
        refuse(view, "why must be said", code="reason", next_step="the same command with --reason TEXT")
    if command.frozen and command.until and datetime.fromisoformat(command.until) <= view.now:
        refuse(view, f"{command.until} is past", code="until", next_step="--until or --for a moment to come")
    state = FreezeState(
        frozen=command.frozen, until=command.until, reason=transition.reason, by=transition.actor, at=view.at
    )
    until = f" until {command.until}" if command.until else ""
    return Decision(
        action="freeze.changed",
        reason=transition.reason,
        writes={freeze_subject(command.key): state},
        after=state.model_dump(mode="json", by_alias=True),
        facts=lambda n: (
            FreezeChanged(
                model=command.key,
                frozen=state.frozen,
                until=state.until,
                by=state.by,
                reason=state.reason,
                n=n,
            ),
        ),
        answer=Answer(
            outcome="done",
            model=command.key,
            message=f"promotions of {whom} are {'frozen' + until if command.frozen else 'open again'}",
            next_step="" if not command.frozen else "rollbacks work all the same; fleetcast unfreeze lifts it",
            generation=view.generation,
        ),
    )


def resume(view: View, transition: Transition, command: Resume) -> Decision:
    """A halted rollout goes on with a new deadline, or ends.

    Raises:
        Refusal: none has halted.
    """
    rollout = view.rollout
    if rollout is None or rollout.phase is not Phase.HALTED:
        phase = f"it is {rollout.phase}" if rollout else "there is none"
        refuse(
            view,
            f"no rollout of {view.model} has halted: {phase}",
            code="rollout",
            next_step=f"fleetcast why {view.model}",
        )
    if command.abandon:
        return withdraw(view, transition, keep=True)
    again = rollout.model_copy(
        update={
            "phase": rollout.halted_in or Phase.DISTRIBUTING,
            "halted_in": None,
            "since": view.at,
            "reason": None,
            "deadline": stamp(view.now + timedelta(seconds=view.policy.distribute_seconds)),
        }
    )
    writes: dict[str, Value] = {rollout_subject(view.model): again}
    return Decision(
        action="rollout.resumed",
        reason=transition.reason,
        writes=writes,
        before=rollout.model_dump(mode="json", by_alias=True),
        after=again.model_dump(mode="json", by_alias=True),
        facts=lambda n: (slots.rollout_changed(again, n),),
        answer=view.answer(
            "started",
            f"the rollout of {label(view.model, again.version)} goes on, until {again.deadline}",
            version=again.version,
            rollout=again.rollout,
        ),
    )
