"""What holds promotions up, and lets them go on: freezes and halted rollouts; and nodes that are out of service."""

from datetime import datetime, timedelta

from fleetcast.events.content import Value
from fleetcast.events.decisions import DrainChanged, FreezeChanged
from fleetcast.events.lifecycle import (
    FLEET,
    DrainState,
    FreezeState,
    Phase,
    drain_subject,
    freeze_subject,
    rollout_subject,
)
from fleetcast.registry.commands import Answer, Drain, Freeze, Resume, Transition, stamp
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


def drain(view: View, transition: Transition, command: Drain) -> Decision:
    """A node leaves service, or returns to it.

    Raises:
        Refusal: no reason, a moment that is past, an unknown node, one that is so already, or the last one that serves
            a model.
    """
    node, before = command.node, view.drains.get(command.node)
    _check_drain(view, transition, command, before)
    state = DrainState(
        node=node,
        drained=command.drained,
        until=command.until if command.drained else None,
        reason=transition.reason or "",
        by=transition.actor,
        at=view.at,
        n=view.chain.n + 1,
    )
    until = f" until {state.until}" if state.until else ""
    return Decision(
        action="node.drain.changed",
        reason=transition.reason,
        writes={drain_subject(node): state},
        before=before.model_dump(mode="json", by_alias=True) if before else None,
        after=state.model_dump(mode="json", by_alias=True),
        facts=lambda n: (
            DrainChanged(node=node, drained=state.drained, until=state.until, by=state.by, reason=state.reason, n=n),
        ),
        answer=Answer(
            outcome="done",
            model=FLEET,
            message=f"{node} is {'out of service' + until if state.drained else 'back in service'}",
            next_step=f"it holds and shows what is ordered all the same; fleetcast undrain {node} takes it back in"
            if state.drained
            else "",
        ),
    )


def _check_drain(view: View, transition: Transition, command: Drain, before: DrainState | None) -> None:
    """Whether a node may leave service or return."""
    node = command.node
    if not transition.reason:
        refuse(view, "why must be said", code="reason", next_step="the same command with --reason TEXT")
    if command.drained and command.until and datetime.fromisoformat(command.until) <= view.now:
        refuse(view, f"{command.until} is past", code="until", next_step="--until or --for a moment to come")
    if (before is not None and before.drained) == command.drained:
        same = command.drained and before is not None and before.until == command.until
        if same or not command.drained:
            state = "out of service" if command.drained else "in service"
            refuse(view, f"{node} is {state} already", code="nothing", next_step="fleetcast status")
    if not command.drained:
        return
    facts = view.node_facts(node, [n for n, state in view.drains.items() if state.drained])
    if not facts.known:
        refuse(view, f"no node {node} was heard from within a day", code="unknown", next_step="fleetcast status")
    if facts.alone_with and not command.force:
        refuse(
            view,
            f"nobody but {node} serves {', '.join(facts.alone_with)}",
            code="last",
            next_step=f"fleetcast drain {node} --force --reason …    takes it out all the same",
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
