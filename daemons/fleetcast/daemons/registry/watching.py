"""Which nodes there are, what they want, hold and serve: from their heartbeats."""

import asyncio
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, Entry, InSync
from fleetcast.events.state import NodeStatus, SlotState
from fleetcast.registry.fleet import FleetView
from fleetcast.registry.transitions.rollouts import Serving
from fleetcast.registry.transitions.view import Readiness

log = structlog.get_logger("fleetcast.registry")

HEARTBEATS = "$KV.fc_nodes.*.distributor"


class Nodes:
    """The newest heartbeat of every node; those that fell silent are remembered for a day."""

    def __init__(self, bus: Bus, *, silent_after_seconds: float) -> None:
        self._bus = bus
        self._silent_after_seconds = silent_after_seconds
        self._statuses: dict[str, NodeStatus] = {}
        self.known = asyncio.Event()
        """Set once all heartbeats that there are have been read."""
        self.changed = asyncio.Event()

    @property
    def view(self) -> FleetView:
        """The fleet as it is now."""
        return FleetView.at(datetime.now(UTC), self._statuses.values(), silent_after_seconds=self._silent_after_seconds)

    def readiness(self, model: str, artifact: str) -> Readiness:
        """How many of the nodes that want a model hold an artifact."""
        view = self.view
        wanting = view.wanting(model)
        holders = view.holders(artifact)
        return Readiness(sum(node in holders for node in wanting), len(wanting), tuple(wanting))

    def serving(self, slot: SlotState | None) -> Serving:
        """How many of the canary's nodes serve it at its generation."""
        if slot is None or slot.canary is None:
            return Serving(0, 0)
        serving = self.view.serving(slot.model)
        there = [serving.get(node) for node in slot.canary.nodes]
        wanted, generation = slot.canary.artifact, slot.generation
        at = sum(s is not None and s.artifact == wanted and s.generation >= generation for s in there)
        return Serving(at, len(slot.canary.nodes))

    async def watch(self) -> None:
        """Follow the heartbeats until cancelled."""
        async for entry in self._bus.watch("KV_fc_nodes", (HEARTBEATS,)):
            if isinstance(entry, InSync):
                self.known.set()
            else:
                self._take(entry)
            self.changed.set()

    def _take(self, entry: Entry) -> None:
        if not entry.data:
            return  # it expired: the node is silent, and stays one of those that want its models
        try:
            status = NodeStatus.model_validate_json(entry.data)
        except ValidationError:
            log.warning("heartbeat.unreadable", subject=entry.subject)
            return
        self._statuses[status.node] = status
