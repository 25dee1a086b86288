"""Rollback: a former production version is served again; the bytes never left the nodes."""

from collections.abc import Callable
from datetime import timedelta

from fleetcast.events.content import Value
from fleetcast.events.lifecycle import EntryState, Phase, Quarantine, RolloutState, StageName, rollout_subject
from fleetcast.events.payloads import Payload
from fleetcast.events.state import SlotEntry, SlotState, slot_subject
from fleetcast.registry.commands import Rollback, Transition, stamp
from fleetcast.registry.transitions import slots
from fleetcast.registry.transitions.view import (
    Decision,
    View,
    at_stage,
    entry_of,
    entry_writes,
    label,
    person_cause,
    refuse,
    slot_entry,
    stage_changed,
)


def decide(view: View, transition: Transition, command: Rollback) -> Decision:
    """What a rollback comes to.

    Raises:
        Refusal: nothing is served, a conflict, or a target that cannot be.
    """
    if view.slot is None or (view.production is None and view.slot.canary is None):
        refuse(view, f"nothing is served of {view.model}", code="unknown", next_step=f"fleetcast models {view.model}")
    if command.expected_generation is not None and command.expected_generation != view.generation:
        refuse(
            view,
            f"generation {command.expected_generation} was expected, {view.generation} is there",
            outcome="conflict",
            code="generation",
            winner=f"generation {view.generation}, by {view.slot.cause.by}",
            next_step=f"fleetcast models {view.model}, then roll back again",
        )
    going = view.under_way is not None and view.under_way.phase is not Phase.ROLLING_BACK
    if command.to is None and (view.slot.canary is not None or going):
        return withdraw(view, transition, keep=command.keep)
    target = _target(view, command)
    if target is None:
        return _frozen(view, transition)
    return _move(view, transition, command, target)


def _target(view: View, command: Rollback) -> SlotEntry | None:
    if command.to is None:
        present = view.production.version if view.production else None
        return slots.good_former(view, besides=present)
    entry = entry_of(view, command.to)
    name = label(view.model, entry.version)
    if entry.stage in slots.BARRED:
        refuse(
            view,
            f"{name} is {entry.stage} and is not served",
            version=entry.version,
            code="quarantined" if entry.stage is StageName.QUARANTINED else "stage",
            next_step=f"fleetcast rollback {view.model} --reason …    (chooses the last good version)",
        )
    if view.production is not None and view.production.version == entry.version:
        refuse(
            view,
            f"{name} is production, generation {view.generation}",
            version=entry.version,
            code="nothing",
            next_step=f"fleetcast why {view.model}",
        )
    former = {f.version for f in view.slot.former} if view.slot else set()
    if entry.version not in former and not any(c.stage is StageName.PRODUCTION for c in entry.stages):
        refuse(
            view,
            f"{name} was never production: nothing is known of how it serves",
            version=entry.version,
            code="stage",
            next_step=f"fleetcast promote {view.model} {entry.version}",
        )
    return slot_entry(entry)


def left_behind(
    view: View, transition: Transition, *, keep: bool, version: str
) -> tuple[EntryState, EntryState] | None:
    """The version that is left, before and after."""
    entry = view.entries.get(version)
    if entry is None:
        return None
    if keep:
        return entry, at_stage(entry, StageName.STAGING, view)
    reason = transition.reason or "rolled back"
    quarantine = Quarantine(reason=reason, by=transition.actor, at=view.at, n=view.chain.n + 1)
    return entry, at_stage(entry, StageName.QUARANTINED, view, quarantine=quarantine)


def _move(view: View, transition: Transition, command: Rollback, target: SlotEntry) -> Decision:
    ready = view.readiness(target.artifact)
    cause = person_cause(view, transition)
    bad = view.production
    rollout = RolloutState(
        rollout=transition.request,
        model=view.model,
        version=target.version,
        artifact=target.artifact,
        target=StageName.PRODUCTION,
        phase=Phase.ROLLING_BACK,
        quorum_ratio=view.policy.quorum_ratio,
        deadline=stamp(view.now + timedelta(seconds=view.policy.distribute_seconds)),
        reason=transition.reason,
        started_at=view.at,
        since=view.at,
        leaves=None if bad is None or command.keep else bad.version,
        actor=transition.actor,
        cause=cause,
    )
    if not command.now and not ready.reaches(rollout.quorum_ratio):
        return Decision(
            action="rollback.started",
            reason=transition.reason,
            writes={rollout_subject(view.model): rollout},
            facts=lambda n: (slots.rollout_changed(rollout, n),),
            after=rollout.model_dump(mode="json", by_alias=True),
            answer=view.answer(
                "started",
                (
                    f"{view.model} goes back to {target.version} once {rollout.quorum_ratio:.0%} of the nodes hold "
                    f"it; now {ready.verified} of {ready.wanting}"
                ),
                version=target.version,
                next_step=f"fleetcast rollback {view.model} --to {target.version} --now --reason …  does not wait",
                rollout=rollout.rollout,
            ),
        )
    left = left_behind(view, transition, keep=command.keep, version=bad.version) if bad else None
    return settle(view, transition, rollout, target, left)


def settle(
    view: View,
    transition: Transition,
    rollout: RolloutState,
    target: SlotEntry,
    left: tuple[EntryState, EntryState] | None,
) -> Decision:
    """The slot goes back; the version that is left is barred, or kept in staging."""
    barred = frozenset({left[1].version}) if left and left[1].stage is StageName.QUARANTINED else frozenset()
    slot = slots.rolled_back(view, target, barred=barred, cause=rollout.cause)
    ended = rollout.model_copy(update={"phase": Phase.ROLLED_BACK, "since": view.at, "generation": slot.generation})
    changed = [left] if left else []
    again = view.entries.get(target.version)
    if again is not None and again.stage is not StageName.PRODUCTION:
        changed.append((again, at_stage(again, StageName.PRODUCTION, view)))
    writes: dict[str, Value] = {
        slot_subject(view.model): slot,
        rollout_subject(view.model): ended,
        **entry_writes(*(after for _, after in changed)),
    }
    came_from = view.production.version if view.production else "nothing"
    return Decision(
        action="slot.rolled_back",
        reason=transition.reason,
        writes=writes,
        before=view.slot.model_dump(mode="json", by_alias=True) if view.slot else None,
        after=slot.model_dump(mode="json", by_alias=True),
        facts=_told(slot, ended, changed, transition),
        answer=view.answer(
            "done",
            f"{view.model} is back on {target.version} (from {came_from}), generation {slot.generation}",
            version=target.version,
            stage=StageName.PRODUCTION,
            generation=slot.generation,
            rollout=ended.rollout,
        ),
    )


def withdraw(view: View, transition: Transition, *, keep: bool) -> Decision:
    """End a canary or a rollout that is under way: production stays, or is alone again."""
    rollout = view.rollout
    version = rollout.version if rollout is not None and view.under_way is not None else ""
    if view.slot is not None and view.slot.canary is not None:
        version = view.slot.canary.version
    cause = person_cause(view, transition)
    cleared = slots.without_canary(view, cause)
    left = left_behind(view, transition, keep=keep, version=version)
    writes: dict[str, Value] = {}
    if cleared is not None:
        writes[slot_subject(view.model)] = cleared
    ended = None
    if rollout is not None:
        ended = rollout.model_copy(
            update={
                "phase": Phase.ROLLED_BACK,
                "since": view.at,
                "reason": transition.reason,
                "generation": cleared.generation if cleared else rollout.generation,
            }
        )
        writes[rollout_subject(view.model)] = ended
    changed = [left] if left else []
    writes.update(entry_writes(*(after for _, after in changed)))
    stays = view.production.version if view.production else "nothing"
    generation = cleared.generation if cleared else view.generation
    return Decision(
        action="rollout.withdrawn",
        reason=transition.reason,
        writes=writes,
        before=view.slot.model_dump(mode="json", by_alias=True) if view.slot else None,
        after=cleared.model_dump(mode="json", by_alias=True) if cleared else {"version": version},
        facts=_told(cleared, ended, changed, transition),
        answer=view.answer(
            "done",
            (
                f"{label(view.model, version)} was withdrawn before it was production; {stays} stays, generation "
                f"{generation}"
            ),
            version=version or None,
            generation=generation,
            rollout=ended.rollout if ended else "",
        ),
    )


def _frozen(view: View, transition: Transition) -> Decision:
    """No good version is left: said loudly, and nothing is changed."""
    assert view.production is not None
    reason = "no former production version is left that is neither quarantined, rejected nor archived"
    rollout = RolloutState(
        rollout=transition.request,
        model=view.model,
        version=view.production.version,
        artifact=view.production.artifact,
        target=StageName.PRODUCTION,
        phase=Phase.FROZEN,
        reason=reason,
        started_at=view.at,
        since=view.at,
        generation=view.generation,
        actor=transition.actor,
        cause=person_cause(view, transition),
    )
    return Decision(
        action="rollback.refused",
        reason=transition.reason,
        writes={rollout_subject(view.model): rollout},
        facts=lambda n: (slots.rollout_changed(rollout, n),),
        after={"version": view.production.version, "code": "none-good"},
        answer=view.answer(
            "refused",
            f"{view.model} stays on {view.production.version}, frozen: {reason}",
            code="none-good",
            next_step=f"fleetcast models {view.model}; then fleetcast promote {view.model} VERSION, or release one",
            rollout=rollout.rollout,
        ),
    )


def _told(
    slot: SlotState | None,
    rollout: RolloutState | None,
    changed: list[tuple[EntryState, EntryState]],
    transition: Transition,
) -> Callable[[int], tuple[Payload, ...]]:
    def facts(n: int) -> tuple[Payload, ...]:
        told = slots.slot_ordered(slot) if slot else None
        return (
            *((told,) if told else ()),
            *(stage_changed(before, after, transition.actor, transition.reason, n) for before, after in changed),
            *((slots.rollout_changed(rollout, n),) if rollout else ()),
        )

    return facts
