"""Whether this node is in service: the registry's record of it, followed."""

import asyncio
from collections.abc import Callable

import structlog

from fleetcast.bus import Entry, InSync
from fleetcast.bus.streams import REGISTRY
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.events.lifecycle import DrainState, drain_subject
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.ledger import read

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.distributor.duty")


class Duty:
    """Owner of what this node knows of being drained."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._subject = drain_subject(parts.node)
        self._sequence = 0
        self.known = asyncio.Event()
        """Set once the record, if there is one, has been read."""
        self.on_change: Callable[[], None] = lambda: None

    @property
    def drained(self) -> bool:
        """Whether this node is out of service."""
        return self._parts.board.drained

    async def watch(self) -> None:
        """Follow the record until cancelled."""
        async for entry in self._parts.bus.watch(REGISTRY, (self._subject,)):
            if isinstance(entry, InSync):
                self.known.set()
            else:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.sequence <= self._sequence:
            return
        try:
            state = read(DrainState, entry)
        except RecordDamaged as damaged:
            log.warning("record.unreadable", subject=entry.subject, reason=str(damaged))
            return
        self._sequence = entry.sequence
        if state.drained != self.drained:
            log.info("node.drained" if state.drained else "node.undrained", by=state.by, reason=state.reason)
            self._parts.board.set_drained(state.drained)
            self.on_change()
