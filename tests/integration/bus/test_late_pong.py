"""A server that is only slow: its PONG comes after whoever asked has given up."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import nats
import pytest

from fleetcast.bus import Bus, BusState
from fleetcast.bus.errors import BusUnavailable
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]
PONG = b"PONG\r\n"


class Late:
    """Keeps PONGs back, and passes them on behind the first other message once it is told to."""

    def __init__(self) -> None:
        self.keeps = False
        self.kept = 0
        self.passed = 0

    def __call__(self, frame: bytes) -> bytes | None:
        if self.keeps and frame == PONG:
            self.kept += 1
            return None
        if not self.keeps and self.kept > self.passed:
            late = PONG * (self.kept - self.passed)
            self.passed = self.kept
            return frame + late
        return frame


async def given_up(bus: Bus, how: str) -> None:
    """Ask for a PONG that does not come in time."""
    if how == "cancelled":
        asking = asyncio.create_task(bus.wire.rtt(60.0))
        await asyncio.sleep(0)
        await asyncio.wait([asking], timeout=0.2)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        return
    ask = bus.wire.rtt if how == "rtt" else bus.wire.flush
    with pytest.raises(BusUnavailable, match="does not answer a PING"):
        await ask(0.2)


@pytest.mark.parametrize("how", ["rtt", "flush", "cancelled"])
async def test_a_pong_that_comes_late_costs_no_connection(
    open_bus: OpenBus, stack: AsyncExitStack, server: LocalServer, how: str
) -> None:
    proxy = await stack.enter_async_context(Proxy(server.port))
    proxy.filter = late = Late()
    # No canary comes by meanwhile.
    bus = await open_bus(url=proxy.url, canary_interval_seconds=120.0)
    async with asyncio.timeout(30):
        await bus.proven.wait()
    generation, link = bus.wire.generation, bus.wire.link
    late.keeps = True
    await given_up(bus, how)
    late.keeps = False

    await bus.js.api("INFO")
    assert await bus.rtt() > 0

    assert late.passed == late.kept >= 1, "the late PONG was read"
    assert (bus.wire.generation, bus.wire.link) == (generation, link)
    assert bus.state is BusState.READY


async def test_control_nats_py_alone_stops_reading_at_a_late_pong(server: LocalServer) -> None:
    async with Proxy(server.port) as proxy:
        proxy.filter = late = Late()
        client = await nats.connect(proxy.url, allow_reconnect=False)
        late.keeps = True
        with pytest.raises(nats.errors.TimeoutError):
            await client.rtt(0.2)  # type: ignore[arg-type]
        late.keeps = False
        await client.request("$JS.API.INFO", timeout=5)

        reading = client._reading_task
        assert reading is not None
        async with asyncio.timeout(30):
            await asyncio.wait([reading])
        assert client.is_connected
        await client.close()
