"""What no rule of archival may take: versions that are served, may be served again, or are evidence."""

from collections.abc import Iterable

from fleetcast.events.lifecycle import ENDED, EntryState, RolloutState, StageName
from fleetcast.events.state import SlotState
from fleetcast.registry.transitions.slots import BARRED

FORMER_RETRIEVABLE = 3
"""Former production versions of a model that stay whatever the rules say: what a rollback may go back to."""
STAYING = frozenset({StageName.STAGING, StageName.CANARY, StageName.PRODUCTION})
"""Stages on the way to being served, or served."""


def pinned(entries: Iterable[EntryState], slot: SlotState | None, rollout: RolloutState | None) -> dict[str, str]:
    """Why versions of one model stay, by version; the others may go."""
    known = tuple(entries)
    reasons = {e.version: f"it is at {e.stage}" for e in known if e.stage in STAYING}
    reasons |= {e.version: "it is in quarantine, and evidence" for e in known if e.stage is StageName.QUARANTINED}
    reasons |= dict.fromkeys(_formerly_served(known), "it was in production")
    if rollout is not None and rollout.phase not in ENDED:
        names = (rollout.version, rollout.leaves)
        reasons |= {v: "a rollout of it is under way" for v in names if v is not None}
    return reasons | _in_slots(slot)


def _in_slots(slot: SlotState | None) -> dict[str, str]:
    """The slots, and everything that a slot order remembers."""
    if slot is None:
        return {}
    reasons = {former.version: "it was in production" for former in slot.former}
    for name in ("previous", "canary", "production"):
        held = getattr(slot, name)
        if held is not None:
            reasons[held.version] = f"it is in the slot {name}"
    return reasons


def _formerly_served(entries: Iterable[EntryState]) -> tuple[str, ...]:
    """The newest versions that were in production and may be so again, by their own history: a slot order from before
    a registry daemon ran remembers only one."""
    served = [(max(s.at for s in e.stages if s.stage is StageName.PRODUCTION), e) for e in entries if _was_served(e)]
    newest = sorted(served, key=lambda pair: pair[0], reverse=True)
    return tuple(e.version for _at, e in newest if e.stage not in BARRED)[:FORMER_RETRIEVABLE]


def _was_served(entry: EntryState) -> bool:
    return any(change.stage is StageName.PRODUCTION for change in entry.stages)
