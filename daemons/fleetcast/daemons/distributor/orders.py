"""The slot orders that this node knows: those of the lines that matter here, and no others."""

import asyncio
from collections.abc import Callable, Iterable, Set

import structlog

from fleetcast.bus import InSync
from fleetcast.bus.errors import BusError
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.events.state import SlotEntry, SlotState
from fleetcast.events.wants import wants
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.slots import Line, SlotsSince, subjects_for, watch_slots
from fleetcast.transport.store import FORMER_KEPT, Pins
from fleetcast.transport.store import Line as StoreLine

log = structlog.get_logger("fleetcast.distributor.orders")


class SlotOrders:
    """Owner of the orders in memory. They come by a watch; every few seconds the stream itself is asked what else was
    ordered, because a watch may fall silent and not know it."""

    def __init__(self, parts: Parts, shelf: Shelf) -> None:
        self._parts = parts
        self._shelf = shelf
        self._orders: dict[Line, SlotState] = {}
        self._asked: set[Line] = set()
        self._since = SlotsSince(parts.bus)
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
        """Whether a line matters here: it is wanted, held, offered to others, or brought here by a distribution."""
        parts = self._parts
        here = line in self._shelf.lines or line in parts.offered
        return here or wants(parts.wants, *line) or line in parts.distributions.lines

    @property
    def _held(self) -> Set[Line]:
        """The lines that this node has something of, wanted or not."""
        return self._shelf.lines | self._parts.offered

    async def watch(self) -> None:
        """Follow slot orders until cancelled."""
        subjects = subjects_for(self._parts.wants, self._held)
        async for item in watch_slots(self._parts.bus, subjects, self.keeps):
            if isinstance(item, InSync):
                self._since.read_to(item.sequence)
                self.known.set()
            else:
                self._take(item)

    async def resync(self) -> None:
        """Ask the stream itself, every few seconds until cancelled."""
        await self.known.wait()
        while True:
            try:
                await self.read_held()
                await self.read_again()
            except BusError as away:
                log.debug("slot.resync_missed", reason=str(away))
            await asyncio.sleep(self._parts.settings.distributor.resync_seconds)

    async def read_again(self) -> None:
        """Read what was ordered since this was done last.

        Raises:
            BusError: the bus does not answer; the next call reads the same.
        """
        subjects = subjects_for(self._parts.wants, self._held)
        for slot in await self._since.read(subjects, self.keeps):
            if self._take(slot):
                log.info("slot.found_by_resync", model=slot.model, kind=slot.kind, generation=slot.generation)

    async def read_held(self) -> None:
        """Ask once for the orders of lines that came here although nobody wants them here: their slots were passed
        over before.

        Raises:
            BusError: the bus does not answer.
        """
        for kind, name in self._held - self._orders.keys() - self._asked:
            try:
                slot = await self._parts.registry.slot(name, kind)
            except RecordDamaged as damaged:
                log.warning("record.unreadable", model=name, reason=str(damaged))
                slot = None
            self._asked.add((kind, name))
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
