"""Promotion: which stage a version may come to, and the rollout that brings it there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fleetcast.events.content import Value
from fleetcast.events.decisions import GateVerdict, PromotionRefused, RolloutChanged, StageChanged
from fleetcast.events.ids import NO_ARTIFACT
from fleetcast.events.lifecycle import ENDED, FLEET, EntryState, Phase, RolloutState, StageName, rollout_subject
from fleetcast.events.payloads import Payload
from fleetcast.events.state import Cause, SlotState, slot_subject
from fleetcast.registry.commands import Promote, Transition, stamp
from fleetcast.registry.fleet import canary_nodes
from fleetcast.registry.transitions import slots
from fleetcast.registry.transitions.gating import Judged, judged
from fleetcast.registry.transitions.view import (
    Decision,
    Readiness,
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

ORDER = (
    StageName.DEVELOPMENT,
    StageName.SANDBOX,
    StageName.STAGING,
    StageName.CANARY,
    StageName.PRODUCTION,
)
"""The one transition table: a version moves to any later stage, judged by the gates of every step on its way."""


DEFAULT_PERCENT = 10
"""Of a canary for which neither whoever asks nor the gates say how large it is."""


def steps_between(present: StageName, target: StageName, pipeline: Sequence[StageName]) -> tuple[StageName, ...]:
    """The stages that a version passes on its way, *target* included; empty: the way does not exist.

    A pipeline may leave stages out. The canary is no stage to pass on the way to production: it is a step of the
    rollout.
    """
    if present not in ORDER or target not in ORDER or ORDER.index(target) <= ORDER.index(present):
        return ()
    between = ORDER[ORDER.index(present) + 1 : ORDER.index(target)]
    passed = tuple(s for s in between if s in pipeline and s is not StageName.CANARY)
    return (*passed, target) if target in pipeline else ()


def decide(view: View, transition: Transition, command: Promote) -> Decision:
    """What a promotion comes to.

    Raises:
        Refusal: unknown, a conflict, or nothing to do; nothing is recorded.
    """
    entry = entry_of(view, command.version)
    late = _superseded(view, command, transition)
    if late is not None:
        return late
    _check_rivals(view, command)
    _check_present(view, command, entry)
    hindrance = _hindrance(view, command, entry)
    if hindrance is not None:
        code, why, then = hindrance
        return _refused(view, transition, command, code=code, why=why, next_step=then)
    steps = steps_between(entry.stage, command.stage, view.policy.pipeline) or (command.stage,)
    judgement = judged(view, entry, steps, asked_by=transition.actor)
    if not judgement.allowed:
        return _gate_refused(view, transition, command, judgement)
    ask = _Ask(view, transition, command, entry, judgement)
    if command.stage not in {StageName.CANARY, StageName.PRODUCTION}:
        return ask.move_stage()
    return ask.roll_out()


def _superseded(view: View, command: Promote, transition: Transition) -> Decision | None:
    """A later event has decided already: on record, and without effect."""
    cause = command.cause
    if cause is None:
        return None
    later = [s.cause for s in (view.slot, view.rollout) if s is not None and s.cause.sequence > cause.sequence]
    if not later:
        return None
    winner = max(later, key=lambda c: c.sequence)
    now_served = label(view.model, view.production.version if view.production else None)
    reason = f"event {winner.sequence} ({winner.event}) had decided already"
    return Decision(
        action="slot.superseded",
        reason=reason,
        before=view.slot.model_dump(mode="json", by_alias=True) if view.slot else None,
        after={"version": command.version, "stage": command.stage.value},
        cause=cause,
        answer=view.answer(
            "superseded",
            f"{label(view.model, command.version)} is not served: {reason}",
            version=command.version,
            stage=command.stage,
            code="superseded",
            winner=f"{now_served}, generation {view.generation}",
            next_step=f"fleetcast promote {view.model} {command.version}",
        ),
    )


def _check_rivals(view: View, command: Promote) -> None:
    """Raises Refusal (conflict): somebody else was quicker."""
    rival = view.under_way
    newer = command.cause is not None
    if command.expected_generation is not None and command.expected_generation != view.generation:
        served = label(view.model, view.production.version) if view.production else "nothing"
        by = view.slot.cause.by if view.slot else "nobody"
        refuse(
            view,
            f"generation {command.expected_generation} was expected, {view.generation} is there",
            version=command.version,
            outcome="conflict",
            code="generation",
            winner=f"{served}, generation {view.generation}, by {by}",
            next_step=f"fleetcast models {view.model}, then promote again",
        )
    if rival is not None and rival.version != command.version and not (newer or command.replace):
        refuse(
            view,
            f"a rollout of {label(view.model, rival.version)} to {rival.target} is under way ({rival.phase})",
            version=command.version,
            outcome="conflict",
            code="rollout",
            winner=f"{label(view.model, rival.version)}, rollout {rival.rollout}, by {rival.actor}",
            next_step=f"wait for it, or fleetcast promote {view.model} {command.version} --replace --reason …",
        )
    if rival is not None and rival.version == command.version and rival.target is command.stage and not newer:
        refuse(
            view,
            f"the rollout of {label(view.model, rival.version)} to {rival.target} is under way already",
            version=command.version,
            code="nothing",
            next_step=f"fleetcast why {view.model}",
        )


def _check_present(view: View, command: Promote, entry: EntryState) -> None:
    """Raises Refusal: it is there already."""
    served = view.production is not None and view.production.version == entry.version
    if command.stage is StageName.PRODUCTION and served:
        beside = view.slot.canary if view.slot else None
        refuse(
            view,
            f"{label(view.model, entry.version)} is production already, generation {view.generation}",
            version=entry.version,
            code="nothing",
            next_step=f"fleetcast rollback {view.model} --reason …    (ends the canary of {beside.version})"
            if beside
            else f"fleetcast why {view.model}",
        )


def _hindrance(view: View, command: Promote, entry: EntryState) -> tuple[str, str, str] | None:
    """Why no evidence could help: code, reason and next step."""
    name = label(view.model, entry.version)
    if entry.stage in slots.BARRED:
        why = entry.quarantine.reason if entry.quarantine else f"since {entry.since}"
        verb = "restore" if entry.stage is StageName.ARCHIVED else "release"
        return (
            "quarantined" if entry.stage is StageName.QUARANTINED else "stage",
            f"{name} is {entry.stage}: {why}",
            f"fleetcast {verb} {view.model}@{entry.version} --reason …",
        )
    if view.freeze is not None:
        until = f" until {view.freeze.until}" if view.freeze.until else ""
        return (
            "frozen",
            f"promotions are frozen{until} by {view.freeze.by}: {view.freeze.reason}",
            f"fleetcast unfreeze {_frozen_whom(view)} --reason …",
        )
    if entry.artifact == NO_ARTIFACT and command.stage in {StageName.CANARY, StageName.PRODUCTION}:
        return (
            "bytes",
            f"{name} was registered without bytes, so that no node can hold it",
            f"fleetcast register {view.model} {entry.version} FILE    (on a node that holds its file)",
        )
    again = entry.stage is command.stage and command.stage in {StageName.CANARY, StageName.PRODUCTION}
    if not again and not steps_between(entry.stage, command.stage, view.policy.pipeline):
        way = " -> ".join(s for s in ORDER if s in view.policy.pipeline)
        return (
            "stage",
            f"{name} cannot go from {entry.stage} to {command.stage}; the way is {way}",
            f"fleetcast gates show {view.model}",
        )
    if command.stage is not StageName.CANARY and command.percent is not None:
        return (
            "stage",
            f"a percentage belongs to the stage canary, not to {command.stage}",
            f"fleetcast promote {view.model} {entry.version} --stage canary --percent {command.percent}",
        )
    if command.stage is StageName.CANARY and view.production is None:
        return (
            "stage",
            f"{view.model} has no production version beside which {name} could be a canary",
            f"fleetcast promote {view.model} {entry.version}",
        )
    return None


def _frozen_whom(view: View) -> str:
    """The argument of `unfreeze` that lifts the freeze which holds now."""
    return next(("--all" if key == FLEET else key for key, f in view.freezes.items() if f is view.freeze), "")


def _gate_refused(view: View, transition: Transition, command: Promote, judgement: Judged) -> Decision:
    bad = [r for r in judgement.verdicts if r.verdict != "pass"]
    failed = sum(r.verdict == "fail" for r in bad)
    lacking = len(bad) - failed
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{lacking} lack{'s' if lacking == 1 else ''} evidence"] if lacking else []
    return _refused(
        view,
        transition,
        command,
        code="gates",
        why=f"of {len(judgement.verdicts)} gates {' and '.join(parts)}",
        next_step=next((r.next_step for r in bad if r.next_step), ""),
        gates=judgement.verdicts,
        evidence=judgement.evidence,
    )


def _refused(
    view: View,
    transition: Transition,
    command: Promote,
    *,
    code: str,
    why: str,
    next_step: str,
    gates: tuple[GateVerdict, ...] = (),
    evidence: dict[str, Any] | None = None,
) -> Decision:
    def facts(n: int) -> tuple[Payload, ...]:
        return (
            PromotionRefused(
                model=view.model,
                version=command.version,
                stage=command.stage,
                by=transition.actor,
                reason=why,
                gates=gates,
                next_step=next_step,
                n=n,
            ),
        )

    return Decision(
        action="promotion.refused",
        reason=why,
        after={"version": command.version, "stage": command.stage.value, "code": code, "asked": transition.reason},
        evidence=evidence,
        facts=facts,
        cause=command.cause,
        answer=view.answer(
            "refused",
            f"{label(view.model, command.version)} does not go to {command.stage}: {why}",
            version=command.version,
            stage=command.stage,
            code=code,
            next_step=next_step,
            gates=gates,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Ask:
    """A promotion that the gates let through."""

    view: View
    transition: Transition
    command: Promote
    entry: EntryState
    judgement: Judged

    @property
    def cause(self) -> Cause:
        return self.command.cause or person_cause(self.view, self.transition)

    def move_stage(self) -> Decision:
        """To a stage that serves nothing: at once."""
        moved = at_stage(self.entry, self.command.stage, self.view)
        by, reason = self.transition.actor, self.transition.reason
        return self._decision(
            "stage.changed",
            writes=entry_writes(moved),
            facts=lambda n: (stage_changed(self.entry, moved, by, reason, n),),
            outcome="done",
            message=f"{label(self.view.model, self.entry.version)} is at {moved.stage}",
        )

    def roll_out(self) -> Decision:
        """To canary or production: by a rollout, which ends at once where nothing has to be waited for."""
        view, policy = self.view, self.view.policy
        rollout = RolloutState(
            rollout=self.transition.request,
            model=view.model,
            version=self.entry.version,
            artifact=self.entry.artifact,
            target=self.command.stage,
            phase=Phase.DISTRIBUTING,
            percent=self._percent(),
            steps=self._steps(),
            bake_seconds=policy.bake_seconds,
            quorum_ratio=0.0 if self.command.skip_rollout else policy.quorum_ratio,
            deadline=stamp(view.now + timedelta(seconds=policy.distribute_seconds)),
            started_at=view.at,
            since=view.at,
            actor=self.transition.actor,
            cause=self.cause,
        )
        ready = view.readiness(self.entry.artifact)
        if not ready.reaches(rollout.quorum_ratio):
            return self._begin(rollout, ready)
        written = enter(view, rollout, self.entry, ready)
        slot = written.slot
        return self._decision(
            "slot.ordered",
            writes=written.writes,
            facts=lambda n: written.facts(n, self.transition.actor, self.transition.reason),
            outcome="done" if written.rollout.phase in ENDED or rollout.target is StageName.CANARY else "started",
            message=f"{label(view.model, self.entry.version)} {served(slot)}, generation {slot.generation}",
            generation=slot.generation,
            rollout=rollout.rollout,
            before=view.slot.model_dump(mode="json", by_alias=True) if view.slot else None,
            after=slot.model_dump(mode="json", by_alias=True),
        )

    def _percent(self) -> int | None:
        if self.command.stage is not StageName.CANARY:
            return None
        return self.command.percent or next(iter(self.view.policy.canary_steps), DEFAULT_PERCENT)

    def _steps(self) -> tuple[int, ...]:
        """The percentages on the way to production; none where nothing is served beside which it could be tried."""
        to_canary = self.command.stage is StageName.CANARY
        if to_canary or self.command.skip_rollout or self.view.production is None:
            return ()
        standing = self.view.slot.canary if self.view.slot else None
        # A version that is the canary of many already is not taken back to few.
        least = standing.percent if standing and standing.version == self.entry.version else 0
        return tuple(step for step in self.view.policy.canary_steps if step > least)

    def _begin(self, rollout: RolloutState, ready: Readiness) -> Decision:
        writes: dict[str, Value] = {rollout_subject(self.view.model): rollout}
        # What a rollout that is replaced had put on some nodes ends with it.
        cleared = slots.without_canary(self.view, rollout.cause)
        if cleared is not None:
            writes[slot_subject(self.view.model)] = cleared
        told = slots.slot_ordered(cleared) if cleared is not None else None
        return self._decision(
            "rollout.started",
            writes=writes,
            facts=lambda n: (*((told,) if told else ()), slots.rollout_changed(rollout, n)),
            generation=cleared.generation if cleared is not None else None,
            outcome="started",
            message=f"{label(self.view.model, self.entry.version)} goes to {rollout.target} once "
            f"{rollout.quorum_ratio:.0%} of the nodes hold it; now {ready.verified} of {ready.wanting}",
            rollout=rollout.rollout,
            after=rollout.model_dump(mode="json", by_alias=True) | _slot_record(cleared),
        )

    def _decision(
        self,
        action: str,
        *,
        writes: dict[str, Value],
        facts: Any,
        outcome: Any,
        message: str,
        generation: int | None = None,
        rollout: str = "",
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> Decision:
        return Decision(
            action=action,
            reason=self.transition.reason,
            writes=writes,
            facts=facts,
            before=before,
            after=after or {"version": self.entry.version, "stage": self.command.stage.value},
            evidence=self.judgement.evidence,
            cause=self.command.cause,
            answer=self.view.answer(
                outcome,
                message,
                version=self.entry.version,
                stage=self.command.stage,
                generation=self.view.generation if generation is None else generation,
                gates=self.judgement.verdicts,
                rollout=rollout,
            ),
        )


def _slot_record(slot: SlotState | None) -> dict[str, Any]:
    """A slot order that comes with another decision, inside its audit record."""
    return {} if slot is None else {"slot": slot.model_dump(mode="json", by_alias=True)}


def served(slot: SlotState) -> str:
    """What a slot order means, in words."""
    if slot.canary is not None:
        return f"is the canary of {len(slot.canary.nodes)} nodes ({slot.canary.percent} %)"
    return "is production"


@dataclass(frozen=True, slots=True)
class Entered:
    """A rollout that came to a slot: all that is written with it."""

    slot: SlotState
    rollout: RolloutState
    entries: tuple[tuple[EntryState, EntryState], ...]

    @property
    def writes(self) -> dict[str, Value]:
        return {
            slot_subject(self.slot.model): self.slot,
            rollout_subject(self.slot.model): self.rollout,
            **entry_writes(*(after for _, after in self.entries)),
        }

    def facts(self, n: int, by: str, reason: str | None) -> tuple[Payload, ...]:
        told = slots.slot_ordered(self.slot)
        changed: list[StageChanged | RolloutChanged] = [
            stage_changed(before, after, by, reason, n) for before, after in self.entries
        ]
        return (*((told,) if told else ()), *changed, slots.rollout_changed(self.rollout, n))


def enter(view: View, rollout: RolloutState, entry: EntryState, ready: Readiness, *, step: int = 0) -> Entered:
    """The next slot order of a rollout whose quorum is there: canary at *step*, or production when no step is left."""
    if rollout.target is StageName.CANARY or step < len(rollout.steps):
        percent = rollout.percent if rollout.target is StageName.CANARY else rollout.steps[step]
        return _enter_canary(view, rollout, entry, ready, percent or 1, step)
    slot = slots.promoted(view, slot_entry(entry), rollout.cause)
    entries = [(entry, at_stage(entry, StageName.PRODUCTION, view))]
    old = view.entries.get(view.production.version) if view.production else None
    if old is not None and old.version != entry.version and old.stage is StageName.PRODUCTION:
        entries.append((old, at_stage(old, StageName.STAGING, view)))
    ended = rollout.model_copy(
        update={"phase": Phase.PROMOTED, "since": view.at, "percent": None, "generation": slot.generation}
    )
    return Entered(slot, ended, tuple(entries))


def _enter_canary(
    view: View, rollout: RolloutState, entry: EntryState, ready: Readiness, percent: int, step: int
) -> Entered:
    generation = view.next_generation
    drawn = rollout.drawn or generation
    nodes = canary_nodes(view.model, drawn, percent, ready.nodes)
    slot = slots.with_canary(view, slot_entry(entry), percent, nodes, rollout.cause)
    standing = rollout.model_copy(
        update={
            "phase": Phase.CANARY,
            "since": view.at,
            "percent": percent,
            "step": step,
            "generation": generation,
            "drawn": drawn,
        }
    )
    moved = () if entry.stage is StageName.CANARY else ((entry, at_stage(entry, StageName.CANARY, view)),)
    return Entered(slot, standing, moved)


__all__ = ["ORDER", "Entered", "decide", "enter", "served", "steps_between"]
