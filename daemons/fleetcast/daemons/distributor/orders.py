"""The slot orders that this node knows: those of the lines that it wants, or holds something of, and no others."""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from fleetcast.bus import InSync
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.shelf import Line, Shelf
from fleetcast.events.state import SlotEntry, SlotState
from fleetcast.events.wants import wants
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.slots import SlotsSince, subjects_for, watch_slots
from fleetcast.transport.store import FORMER_KEPT, Pins
from fleetcast.transport.store import Line as StoreLine

log = structlog.get_logger("fleetcast.distributor.orders")


class SlotOrders:
    """Owner of the orders in memory. They come by a watch; every few seconds the stream itself is asked what was
    ordered since, because a watch may fall silent and not know it."""

    def __init__(self, parts: Parts, shelf: Shelf) -> None:
        self._parts = parts
        self._shelf = shelf
        self._orders: dict[Line, SlotState] = {}
        self._asked: set[Line] = set()
        self._since = SlotsSince(parts.bus)
        self._read_at = time.monotonic()
        self.known = asyncio.Event()
        """Set once every order that was there has been read."""
        self.on_order: Callable[[], None] = lambda: None
        """Told when an order is new."""

    def get(self, line: Line) -> SlotState | None:
        return self._orders.get(line)

    @property
    def all(self) -> tuple[tuple[Line, SlotState], ...]:
        return tuple(self._orders.items())

    def names(self, artifact: str) -> bool:
        """Whether a slot names the artifact."""
        return any(e.artifact == artifact for slot in self._orders.values() for e in slot_entries(slot))

    @property
    def pins(self) -> Pins:
        """What stays on this node because of an order, whether or not it could be obeyed yet."""
        return Pins(
            versions=frozenset(
                (StoreLine(*line), entry.version)
                for line, slot in self._orders.items()
                for entry in (*slot_entries(slot), *slot.former[:FORMER_KEPT])
            )
        )

    def keeps(self, line: Line) -> bool:
        """Whether the orders of a line matter here."""
        return wants(self._parts.wants, *line) or line in self._shelf.lines

    async def watch(self) -> None:
        """Follow slot orders until cancelled."""
        subjects = subjects_for(self._parts.wants, self._shelf.lines)
        async for item in watch_slots(self._parts.bus, subjects, self.keeps):
            if isinstance(item, InSync):
                self._since.read_to(item.sequence)
                self.known.set()
            else:
                self._take(item)

    async def read_again(self) -> None:
        """Ask the stream what was ordered since it was asked last, unless that was a moment ago."""
        if time.monotonic() - self._read_at < self._parts.settings.distributor.resync_seconds:
            return
        subjects = subjects_for(self._parts.wants, self._shelf.lines)
        missed = [s for s in await self._since.read(subjects, self.keeps) if self._take(s)]
        self._read_at = time.monotonic()
        for slot in missed:
            log.warning("slot.missed_by_watch", model=slot.model, kind=slot.kind, generation=slot.generation)

    async def read_held(self) -> None:
        """Ask once for the orders of lines that came here although nobody wants them here: their slots were passed
        over before."""
        for line in self._shelf.lines - self._orders.keys() - self._asked:
            kind, name = line
            try:
                slot = await self._parts.registry.slot(name, kind)
            except RecordDamaged as damaged:
                log.warning("record.unreadable", model=name, reason=str(damaged))
                slot = None
            self._asked.add(line)
            if slot is not None:
                self._take(slot)

    def _take(self, slot: SlotState) -> bool:
        line = (slot.kind, slot.model)
        known = self._orders.get(line)
        if known is not None and slot.generation <= known.generation:
            return False
        self._orders[line] = slot
        self.on_order()
        return True


def slot_entries(slot: SlotState) -> Iterable[SlotEntry]:
    """What stands in the slots."""
    return [entry for entry in (slot.production, slot.canary, slot.previous) if entry is not None]
