"""How a rollout goes on by itself: what its next step is, and what that writes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fleetcast.events.lifecycle import Phase, RolloutState, StageName, rollout_subject
from fleetcast.events.state import SlotEntry
from fleetcast.registry.commands import Advance, Transition
from fleetcast.registry.transitions import slots
from fleetcast.registry.transitions.promote import enter, served
from fleetcast.registry.transitions.rollback import left_behind, settle
from fleetcast.registry.transitions.view import Decision, Readiness, View, entry_of, label, refuse

Step = Literal["verified", "serve", "bake", "next", "halt"]


@dataclass(frozen=True, slots=True)
class Serving:
    """How many of the canary's nodes report that they serve it at its generation."""

    serving: int
    of: int


def next_step(
    rollout: RolloutState, ready: Readiness, canary: Serving, now: datetime, *, frozen: bool = False
) -> Advance | None:
    """What the registry does next about a rollout; None: it waits.

    No data halts, and never rolls back; a freeze holds a rollout where it is.
    """

    def step(kind: Step, reason: str | None = None) -> Advance:
        return Advance(model=rollout.model, rollout=rollout.rollout, step=kind, index=rollout.step, reason=reason)

    if rollout.phase in {Phase.DISTRIBUTING, Phase.ROLLING_BACK}:
        if ready.reaches(rollout.quorum_ratio):
            return step("verified" if rollout.phase is Phase.DISTRIBUTING else "serve")
        if rollout.deadline is not None and now >= datetime.fromisoformat(rollout.deadline):
            needed = f"{rollout.quorum_ratio:.0%}"
            return step("halt", f"{ready.verified} of {ready.wanting} nodes hold it verified, {needed} are required")
        return None
    if frozen:
        return None
    if rollout.phase is Phase.VERIFIED:
        return step("serve")
    if rollout.target is StageName.CANARY:
        return None
    since = datetime.fromisoformat(rollout.since)
    if rollout.phase is Phase.CANARY and canary.serving >= canary.of:
        return step("bake")
    if rollout.phase is Phase.CANARY and rollout.deadline and now >= _late(rollout, since):
        return step("halt", f"{canary.serving} of {canary.of} canary nodes serve it")
    if rollout.phase is Phase.BAKING and now >= since + timedelta(seconds=rollout.bake_seconds):
        return step("next")
    return None


def _late(rollout: RolloutState, since: datetime) -> datetime:
    """When canary nodes that do not serve halt a rollout: after as long as distribution was given."""
    assert rollout.deadline is not None
    given = datetime.fromisoformat(rollout.deadline) - datetime.fromisoformat(rollout.started_at)
    return since + max(given, timedelta(seconds=1))


def advance(view: View, transition: Transition, command: Advance) -> Decision:
    """Take one step.

    Raises:
        Refusal: the rollout is another one by now, or has gone on already.
    """
    rollout = view.rollout
    expected = {
        "verified": {Phase.DISTRIBUTING},
        "serve": {Phase.VERIFIED, Phase.ROLLING_BACK},
        "bake": {Phase.CANARY},
        "next": {Phase.BAKING},
        "halt": {Phase.DISTRIBUTING, Phase.CANARY, Phase.BAKING, Phase.ROLLING_BACK},
    }
    if (
        rollout is None
        or rollout.rollout != command.rollout
        or rollout.phase not in expected[command.step]
        or rollout.step != command.index
    ):
        refuse(view, "the rollout has gone on", code="rollout", outcome="conflict")
    if command.step == "verified":
        return _phase(view, rollout, Phase.VERIFIED, "rollout.verified", None)
    if command.step == "bake":
        return _phase(view, rollout, Phase.BAKING, "rollout.baking", None)
    if command.step == "halt":
        return _phase(view, rollout, Phase.HALTED, "rollout.halted", command.reason)
    if rollout.phase is Phase.ROLLING_BACK:
        keep = rollout.leaves is None
        left = left_behind(view, transition, keep=keep, version=view.production.version) if view.production else None
        target = SlotEntry(version=rollout.version, artifact=rollout.artifact)
        return settle(view, transition, rollout, target, left)
    return _serve(view, transition, rollout, rollout.step + (1 if command.step == "next" else 0))


def _phase(view: View, rollout: RolloutState, phase: Phase, action: str, reason: str | None) -> Decision:
    halted_in = rollout.phase if phase is Phase.HALTED else None
    update = {"phase": phase, "since": view.at, "reason": reason, "halted_in": halted_in}
    changed = rollout.model_copy(update=update)
    name = label(view.model, rollout.version)
    return Decision(
        action=action,
        reason=reason,
        writes={rollout_subject(view.model): changed},
        before={"phase": rollout.phase.value},
        after=changed.model_dump(mode="json", by_alias=True),
        facts=lambda n: (slots.rollout_changed(changed, n),),
        cause=rollout.cause,
        answer=view.answer(
            "done",
            f"the rollout of {name} is {phase}" + (f": {reason}" if reason else ""),
            version=rollout.version,
            rollout=rollout.rollout,
        ),
    )


def _serve(view: View, transition: Transition, rollout: RolloutState, step: int) -> Decision:
    entry = entry_of(view, rollout.version)
    if entry.stage in slots.BARRED:
        return _phase(view, rollout, Phase.HALTED, "rollout.halted", f"it became {entry.stage} meanwhile")
    written = enter(view, rollout, entry, view.readiness(rollout.artifact), step=step)
    slot = written.slot
    return Decision(
        action="slot.ordered",
        reason=transition.reason,
        writes=written.writes,
        before=view.slot.model_dump(mode="json", by_alias=True) if view.slot else None,
        after=slot.model_dump(mode="json", by_alias=True),
        facts=lambda n: written.facts(n, rollout.actor, None),
        cause=rollout.cause,
        answer=view.answer(
            "done",
            f"{label(view.model, rollout.version)} {served(slot)}, generation {slot.generation}",
            version=rollout.version,
            stage=rollout.target,
            generation=slot.generation,
            rollout=rollout.rollout,
        ),
    )
