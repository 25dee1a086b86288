"""The rollouts that this node knows, and what they mean for what it holds. Values and decisions only.

A rollout waits for nodes to hold its version before a slot names it, so that a slot order alone would never bring it.
"""

from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import ENDED, Phase, RolloutState
from fleetcast.events.state import SlotEntry
from fleetcast.registry.slots import Line
from fleetcast.transport.store import Line as StoreLine
from fleetcast.transport.store import Pins

_WAITS_FOR_NODES = frozenset({Phase.DISTRIBUTING, Phase.ROLLING_BACK})
_TAKEN_BACK = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK})


def sought(rollout: RolloutState | None) -> SlotEntry | None:
    """The version that a rollout needs on every node; None: it needs none, or has ended.

    One that halted because too few nodes held it goes on when they do.
    """
    if rollout is None or rollout.phase in ENDED or rollout.phase is Phase.FROZEN:
        return None
    if rollout.phase is Phase.HALTED and rollout.halted_in not in _WAITS_FOR_NODES:
        return None
    return SlotEntry(version=rollout.version, artifact=rollout.artifact)


def given_up(rollout: RolloutState | None) -> frozenset[str]:
    """The versions that the newest decision took back: the one that a rollback left, or that was withdrawn."""
    if rollout is None or rollout.phase not in _TAKEN_BACK:
        return frozenset()
    return frozenset(v for v in (rollout.version, rollout.leaves) if v is not None)


class RolloutBook:
    """The newest rollout of each model. Owned by the daemon's loop."""

    def __init__(self) -> None:
        self._rollouts: dict[Line, RolloutState] = {}

    def take(self, state: RolloutState) -> None:
        """Take what became of a rollout; it replaces what was known of its model."""
        self._rollouts[Kind.MODEL, state.model] = state

    def get(self, line: Line) -> RolloutState | None:
        """The newest rollout of a model; None: none is known."""
        return self._rollouts.get(line)

    @property
    def lines(self) -> dict[Line, RolloutState]:
        """By model."""
        return dict(self._rollouts)

    @property
    def pins(self) -> Pins:
        """What stays on this node because a rollout waits until nodes hold it."""
        named = ((line, sought(state)) for line, state in self._rollouts.items())
        return Pins(versions=frozenset((StoreLine(*line), entry.version) for line, entry in named if entry is not None))
