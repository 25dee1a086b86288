"""The server's time between messages. What is decided here is decided by when the stream took things, so that no node's
clock matters; and what time alone decides needs a clock that agrees with that."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import REMEDY

ASK_SECONDS = 60.0
"""A monotonic clock drifts by less than 10 ms in this time."""


class StreamClock:
    """What the server's clock shows, as far as is known: asked for now and then, and carried on by the monotonic
    clock."""

    def __init__(self, bus: Bus, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._monotonic = monotonic
        self._base = datetime.now(UTC)
        self._at = monotonic()

    def now(self) -> datetime:
        """The server's time, aware."""
        return self._base + timedelta(seconds=self._monotonic() - self._at)

    def seen(self, at: datetime) -> None:
        """A message was stored at *at*: it is not earlier than that."""
        if at > self.now():
            self._base, self._at = at, self._monotonic()

    async def ask(self) -> None:
        """Ask the server.

        Raises:
            TransportFailed: it does not answer.
        """
        begun = self._monotonic()
        answer = await self._bus.js.api(f"STREAM.INFO.{REMEDY}")
        ended = self._monotonic()
        self._base, self._at = datetime.fromisoformat(str(answer["ts"])), (begun + ended) / 2

    async def run(self) -> None:
        """Keep it right until cancelled; while the server does not answer, it goes on by itself."""
        while True:
            try:
                await self.ask()
            except BusError:
                await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(ASK_SECONDS)
