"""Writes the minutes that judges close to FC_MINUTES: the last one that is written holds, so that writing one again
changes nothing."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.bus.retry import CONFLICT
from fleetcast.daemons.monitor.shards import shard_of
from fleetcast.events.performance import Minute

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.monitor")

WAITING: Final = 20_000
"""Minutes that wait while the bus is away: of 100 models on 20 nodes, ten minutes."""
AT_ONCE: Final = 32


class MinuteWriter:
    """Stores minutes.

    Args:
        holds: whether a shard is ours now: a monitor that was stopped and wakes up must not write over what another
            one counted.

    Attributes:
        lost: minutes that found no room while the bus was away.
    """

    def __init__(self, bus: Bus, *, holds: Callable[[int], bool]) -> None:
        self._bus = bus
        self._holds = holds
        self._waiting: asyncio.Queue[Minute] = asyncio.Queue(WAITING)
        self.lost = 0
        self.written = 0

    def put(self, minutes: Iterable[Minute]) -> None:
        """Store these soon."""
        for minute in minutes:
            try:
                self._waiting.put_nowait(minute)
            except asyncio.QueueFull:
                self.lost += 1
                if self.lost % 1000 == 1:
                    log.warning("minutes.lost", count=self.lost)

    async def settled(self) -> None:
        """Return once everything that was put is stored."""
        await self._waiting.join()

    async def run(self) -> None:
        """Store until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(self._store_for_ever(), name=f"minutes-{number}")

    async def _store_for_ever(self) -> None:
        while True:
            minute = await self._waiting.get()
            try:
                await self._store(minute)
            finally:
                self._waiting.task_done()

    async def _store(self, minute: Minute) -> None:
        shard, failures = shard_of(minute.model), 0
        while self._holds(shard):
            try:
                await self._bus.publish_raw(minute.subject, minute.data())
            except BusError as away:
                failures += 1
                log.info("minutes.waiting", reason=str(away), failures=failures)
                await asyncio.sleep(CONFLICT.delay(failures))
            else:
                self.written += 1
                return
