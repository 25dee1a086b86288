"""The fleet as heartbeats and the registry's records of drained nodes show it, followed as they change."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus, Entry, InSync
from fleetcast.bus.streams import REGISTRY
from fleetcast.events.lifecycle import DrainState, drain_subject
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.fleet import FleetView, Sighting
from fleetcast.registry.ledger import read

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

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


class FleetWatch:
    """The newest heartbeat of every node, and which nodes are out of service; those that fell silent are remembered for
    a day."""

    def __init__(
        self, bus: Bus, *, silent_after_seconds: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._silent_after_seconds = silent_after_seconds
        self._monotonic = monotonic
        self._heard: dict[str, _Heard] = {}
        self._drains: dict[str, DrainState] = {}
        self.known = asyncio.Event()
        """Set once all heartbeats and drains that there are have been read."""
        self.changed = asyncio.Event()

    @property
    def view(self) -> FleetView:
        """The fleet as it is now."""
        return self.view_without(name for name, state in self._drains.items() if state.drained)

    def obeyed(self, model: str) -> int:
        """The highest generation that a node follows for a model, as of now; 0: none does."""
        return self.view.obeyed(model)

    def view_without(self, drained: Iterable[str]) -> FleetView:
        """The fleet as it is now, or would be with these nodes out of service."""
        now = self._monotonic()
        sightings = (each.sighting(now, self._silent_after_seconds) for each in self._heard.values())
        return FleetView(sightings, frozenset(drained))

    @property
    def drains(self) -> tuple[DrainState, ...]:
        """The nodes that are out of service, by name."""
        return tuple(self._drains[name] for name in sorted(self._drains) if self._drains[name].drained)

    async def watch(self) -> None:
        """Follow heartbeats and drains until cancelled."""
        heartbeats, drains = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_heartbeats(heartbeats), name="heartbeats")
            tasks.create_task(self._watch_drains(drains), name="drains")
            await heartbeats.wait()
            await drains.wait()
            self.known.set()

    async def _watch_drains(self, known: asyncio.Event) -> None:
        async for entry in self._bus.watch(REGISTRY, (drain_subject("*"),)):
            if isinstance(entry, InSync):
                known.set()
                continue
            try:
                state = read(DrainState, entry)
            except RecordDamaged as damaged:
                log.warning("record.unreadable", subject=entry.subject, reason=str(damaged))
                continue
            self._drains[state.node] = state
            self.changed.set()

    async def _watch_heartbeats(self, known: asyncio.Event) -> None:
        stored: list[Entry] | None = []
        async for entry in self._bus.watch("KV_fc_nodes", (HEARTBEATS,)):
            if isinstance(entry, InSync):
                self._take_stored(stored or [])
                stored = None
                known.set()
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
