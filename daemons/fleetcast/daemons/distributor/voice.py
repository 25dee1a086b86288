"""The voice: publishes facts in the order in which they happened, without making the work that they are about wait."""

import asyncio
from collections.abc import Callable

import structlog

from fleetcast.bus import Bus, BusState, tracing
from fleetcast.client.spool import SpoolError, SpoolWriter
from fleetcast.events.envelope import Event

log = structlog.get_logger("fleetcast.distributor.voice")

LAST_WORDS_SECONDS = 2.0
"""How long the end of a daemon waits for the bus to take what is left; then it stays in the spool."""


class Voice:
    """A queue of facts with one speaker. What the bus does not take goes to the spool, which is forwarded later."""

    def __init__(self, bus: Bus, spool: SpoolWriter) -> None:
        self._bus = bus
        self._spool = spool
        self._waiting: asyncio.Queue[Event] = asyncio.Queue()
        self.on_said: Callable[[Event], None] = lambda _: None
        """Called with every fact, before it is published."""

    def say(self, event: Event) -> None:
        """Publish soon."""
        # Here, because the speaker works for everybody.
        self._waiting.put_nowait(tracing.stamped(event))

    async def run(self) -> None:
        """Speak until cancelled; what is left then is said or spooled before this returns."""
        try:
            while True:
                await self.now(await self._waiting.get())
        finally:
            while not self._waiting.empty():
                await self.now(self._waiting.get_nowait(), deadline_seconds=LAST_WORDS_SECONDS)

    async def now(self, event: Event, *, deadline_seconds: float | None = None) -> None:
        """Publish, or spool at once when the bus is known to be away: nobody waits for it in turn."""
        self.on_said(event)
        try:
            if self._bus.state is BusState.DEGRADED:
                await asyncio.to_thread(self._spool.append, event.encode()[0])
                log.info("event.spooled", event_id=event.id, type=event.type.name)
            else:
                await self._bus.emit(event, self._spool, deadline_seconds=deadline_seconds)
        except SpoolError as lost:
            log.exception("event.lost", event_id=event.id, type=event.type.name, reason=str(lost))
