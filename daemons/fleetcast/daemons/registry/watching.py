"""Which nodes there are, what they want, hold and serve: from their heartbeats."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, Entry, InSync
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus, SlotState
from fleetcast.registry.fleet import FleetView, Sighting
from fleetcast.registry.transitions.rollouts import Serving
from fleetcast.registry.transitions.view import Readiness

log = structlog.get_logger("fleetcast.registry")

HEARTBEATS = "$KV.fc_nodes.*.distributor"


@dataclass(frozen=True, slots=True)
class _Heard:
    """A heartbeat, and when it was heard, in seconds of the monotonic clock: no clock on a wall, here or on the node,
    makes the fleet look empty, of which no quorum would be asked."""

    status: NodeStatus
    at: float

    def sighting(self, now: float, silent_after_seconds: float) -> Sighting:
        age = max(0.0, now - self.at)
        return Sighting(self.status, age, age > silent_after_seconds or self.status.state is DaemonState.STOPPED)


class Nodes:
    """The newest heartbeat of every node; those that fell silent are remembered for a day."""

    def __init__(
        self, bus: Bus, *, silent_after_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._silent_after_seconds = silent_after_seconds
        self._monotonic = monotonic
        self._heard: dict[str, _Heard] = {}
        self.known = asyncio.Event()
        """Set once all heartbeats that there are have been read."""
        self.changed = asyncio.Event()

    @property
    def view(self) -> FleetView:
        """The fleet as it is now."""
        now = self._monotonic()
        return FleetView(each.sighting(now, self._silent_after_seconds) for each in self._heard.values())

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
        stored: list[Entry] | None = []
        async for entry in self._bus.watch("KV_fc_nodes", (HEARTBEATS,)):
            if isinstance(entry, InSync):
                self._take_stored(stored or [])
                stored = None
                self.known.set()
            elif stored is not None:
                stored.append(entry)
            else:
                self._take(entry, age_seconds=0.0)
            self.changed.set()

    def _take_stored(self, entries: list[Entry]) -> None:
        """Heartbeats from before: as old as they are beside the newest of them, by the server's clock."""
        newest = max((e.time for e in entries), default=None)
        for entry in entries:
            assert newest is not None
            self._take(entry, age_seconds=(newest - entry.time).total_seconds())

    def _take(self, entry: Entry, *, age_seconds: float) -> None:
        if not entry.data:
            return  # it expired: the node is silent, and stays one of those that want its models
        try:
            status = NodeStatus.model_validate_json(entry.data)
        except ValidationError:
            log.warning("heartbeat.unreadable", subject=entry.subject)
            return
        known = self._heard.get(status.node)
        if known is None or known.status != status:
            self._heard[status.node] = _Heard(status, self._monotonic() - age_seconds)
