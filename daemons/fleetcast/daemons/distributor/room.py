"""Room on this node's disk: held for a transfer before it starts, and made by removing what nothing pins."""

import asyncio

import structlog

from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.removal import Remover
from fleetcast.events.content import Content
from fleetcast.transport.errors import StoreError, StoreFull
from fleetcast.transport.store import Hold

log = structlog.get_logger("fleetcast.distributor.room")


class RoomKeeper:
    """Sees to it that transfers find room, and that the reserve stays free."""

    def __init__(self, parts: Parts, remover: Remover) -> None:
        self._parts = parts
        self._remover = remover

    async def reserve(self, content: Content) -> Hold:
        """Hold room for content that is to be fetched; what nothing pins goes first.

        Raises:
            StoreFull: it does not fit all the same.
        """
        store = self._parts.store
        try:
            return await asyncio.to_thread(store.reserve, content)
        except StoreFull as full:
            needed = await asyncio.to_thread(store.room_for, content)
            await self._remover.make_room(needed, f"disk pressure: {full}")
        return await asyncio.to_thread(store.reserve, content)

    async def watch(self) -> None:
        """Keep the reserve free until cancelled, so that nothing fails for want of it; warns once when it cannot."""
        warned = False
        while True:
            await asyncio.sleep(self._parts.settings.store.room_check_seconds)
            try:
                missing = await self._keep_reserve()
            except (StoreError, OSError) as fault:
                log.warning("store.room_unknown", reason=str(fault))
                continue
            if missing and not warned:
                log.warning("store.reserve_short", missing_bytes=missing, next_step="free space, or lower its reserve")
            warned = missing > 0

    async def _keep_reserve(self) -> int:
        """Remove what may go while less than the reserve is free; returns the bytes that are missing all the same."""
        store, reserve = self._parts.store, self._parts.settings.store.reserve_bytes
        free = self._parts.board.disk_free = await asyncio.to_thread(store.free_bytes)
        if free >= reserve:
            return 0
        if await asyncio.to_thread(store.expendable, self._parts.pins):
            reason = f"disk pressure: {free} bytes are free, less than the {reserve} in reserve"
            await self._remover.make_room(reserve, reason)
            free = await asyncio.to_thread(store.free_bytes)
        return max(0, reserve - free)
