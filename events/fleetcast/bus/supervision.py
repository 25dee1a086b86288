"""Whether the bus works is judged by a round trip, never by what the client or the server say about themselves."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from enum import StrEnum

import structlog

from fleetcast.bus.errors import BusError, BusUnavailable, NoResponder, OperationRefused
from fleetcast.bus.jetstream import JetStream, Unready
from fleetcast.bus.streams import CANARY, CANARY_STREAM, declare_stream
from fleetcast.client.ulid import new_ulid

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

MISSES_BEFORE_REPLACEMENT = 2
JETSTREAM_REPLACEMENT_SECONDS = 30.0


class BusState(StrEnum):
    """How the bus is, as its round trips show."""

    CONNECTING = "connecting"
    READY = "ready"
    DEGRADED = "degraded"
    CLOSED = "closed"


class Canary:
    """Stores a message every few seconds and reads it back; two misses in a row replace the connection."""

    def __init__(
        self,
        js: JetStream,
        *,
        jetstream: bool,
        report: Callable[[bool, str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = js.wire.settings
        self._js = js
        self._jetstream = jetstream
        self._report = report
        self._monotonic = monotonic
        self._interval = settings.canary_interval_seconds
        self._timeout = settings.canary_timeout_seconds
        self._replicas = settings.replicas
        self._subject = f"fc.canary.{js.wire.node}.{js.wire.name.rpartition('.')[2]}"
        self._misses = 0
        self._replaced_at = -JETSTREAM_REPLACEMENT_SECONDS
        self._wake = asyncio.Event()
        self.last_success: float | None = None

    def wake(self) -> None:
        """Prove the connection now: it has just changed."""
        self._wake.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def run(self) -> None:
        """Prove the connection until cancelled."""
        while True:
            await self._js.wire.wait_connected()
            self._wake.clear()
            generation = self._js.wire.generation
            problem = await self._prove()
            self._js.wire.on_try()
            if self._js.wire.generation != generation or not self._js.wire.connected:
                self._misses = 0
                continue
            if problem is None:
                self._misses = 0
                self.last_success = self._monotonic()
                self._report(True, "")
                await self._pause(self._interval)
            else:
                await self._missed(problem)

    async def _prove(self) -> str | None:
        """None after a round trip, else what was wrong."""
        try:
            async with asyncio.timeout(self._timeout):
                await (self._round_trip() if self._jetstream else self._js.wire.rtt(self._timeout))
        except TimeoutError:
            return f"no round trip within {self._timeout:g} s"
        except BusError as e:
            return str(e)
        return None

    async def _round_trip(self) -> None:
        token = new_ulid().encode()
        try:
            await self._js.publish(self._subject, token, None, timeout_seconds=self._timeout)
        except NoResponder:
            await self._declare()
            await self._js.publish(self._subject, token, None, timeout_seconds=self._timeout)
        entry = await self._js.message(CANARY, last_by_subj=self._subject)
        if entry is None or entry.data != token:
            raise Unready("the message read back is not the one that was stored")

    async def _declare(self) -> None:
        try:
            await declare_stream(self._js, CANARY_STREAM, self._replicas)
        except OperationRefused as e:
            raise BusUnavailable(str(e)) from e

    async def _missed(self, problem: str) -> None:
        self._misses += 1
        self._report(False, problem)
        if self._misses >= MISSES_BEFORE_REPLACEMENT and await self._is_connection_at_fault():
            self._misses = 0
            self._replaced_at = self._monotonic()
            self._js.wire.replace(f"{MISSES_BEFORE_REPLACEMENT} round trips failed: {problem}")
        await self._pause(min(self._interval, 1.0))

    async def _is_connection_at_fault(self) -> bool:
        """A server that answers a PING but cannot store has lost its quorum: another connection rarely helps, so that
        is tried seldom; without a PONG the connection is replaced at once."""
        try:
            await self._js.wire.rtt(min(self._timeout, 1.0))
        except BusError:
            return True
        return self._monotonic() - self._replaced_at >= JETSTREAM_REPLACEMENT_SECONDS
