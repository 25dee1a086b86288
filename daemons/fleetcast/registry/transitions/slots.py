"""How slots move: the one place that makes a new slot order."""

from fleetcast.events.decisions import RolloutChanged
from fleetcast.events.lifecycle import RolloutState, StageName
from fleetcast.events.payloads import Payload, SlotOrdered
from fleetcast.events.state import CanaryEntry, Cause, SlotEntry, SlotState
from fleetcast.registry.transitions.view import FORMER_VERSIONS, View

BARRED = frozenset({StageName.QUARANTINED, StageName.REJECTED, StageName.ARCHIVED})
"""Stages of versions that are never served."""


def promoted(view: View, entry: SlotEntry, cause: Cause) -> SlotState:
    """The slot with *entry* in production; what was there becomes `previous` in the same order."""
    old = view.production
    same = old is not None and old.version == entry.version
    former = view.slot.former if view.slot else ()
    if old is not None and not same:
        former = (old, *(f for f in former if f.version != old.version))
    return SlotState(
        model=view.model,
        generation=view.next_generation,
        production=entry,
        previous=(view.slot.previous if view.slot else None) if same else old,
        canary=None,
        former=tuple(f for f in former if f.version != entry.version)[:FORMER_VERSIONS],
        cause=cause,
        at=view.at,
    )


def with_canary(view: View, entry: SlotEntry, percent: int, nodes: tuple[str, ...], cause: Cause) -> SlotState:
    """The slot with *entry* as the canary of *nodes*."""
    slot = view.slot
    return SlotState(
        model=view.model,
        generation=view.next_generation,
        production=slot.production if slot else None,
        previous=slot.previous if slot else None,
        canary=CanaryEntry(version=entry.version, artifact=entry.artifact, percent=percent, nodes=nodes),
        former=slot.former if slot else (),
        cause=cause,
        at=view.at,
    )


def without_canary(view: View, cause: Cause) -> SlotState | None:
    """The slot without its canary; None when it has none."""
    if view.slot is None or view.slot.canary is None:
        return None
    return view.slot.model_copy(
        update={"canary": None, "generation": view.next_generation, "cause": cause, "at": view.at}
    )


def rolled_back(view: View, target: SlotEntry, *, barred: frozenset[str], cause: Cause) -> SlotState:
    """The slot with *target* in production again; *barred* versions are remembered no more."""
    slot = view.slot
    assert slot is not None
    old = () if slot.production is None else (slot.production,)
    former = [f for f in (*old, *slot.former) if f.version != target.version and f.version not in barred]
    unique = tuple({f.version: f for f in reversed(former)}.values())[::-1]
    return SlotState(
        model=view.model,
        generation=view.next_generation,
        production=target,
        previous=unique[0] if unique else None,
        canary=None,
        former=unique[:FORMER_VERSIONS],
        cause=cause,
        at=view.at,
    )


def good_former(view: View, *, besides: str | None) -> SlotEntry | None:
    """The newest former production version that may be served again."""
    slot = view.slot
    if slot is None:
        return None
    candidates = [*slot.former, *([slot.previous] if slot.previous else [])]
    for candidate in candidates:
        entry = view.entries.get(candidate.version)
        if candidate.version != besides and (entry is None or entry.stage not in BARRED):
            return candidate
    return None


def slot_ordered(slot: SlotState) -> Payload | None:
    """The fact that tells a slot order; None where neither slot holds anything."""
    entry = slot.canary or slot.production
    if entry is None:
        return None
    return SlotOrdered(
        model=slot.model,
        slot="canary" if slot.canary else "production",
        version=entry.version,
        artifact=entry.artifact,
        generation=slot.generation,
        previous=slot.previous.version if slot.previous else None,
    )


def rollout_changed(rollout: RolloutState, n: int) -> RolloutChanged:
    """The fact that tells the phase of a rollout."""
    return RolloutChanged(
        model=rollout.model,
        version=rollout.version,
        artifact=rollout.artifact,
        rollout=rollout.rollout,
        target=rollout.target,
        phase=rollout.phase,
        percent=rollout.percent,
        generation=rollout.generation,
        reason=rollout.reason,
        n=n,
    )
