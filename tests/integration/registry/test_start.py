"""A registry daemon that starts while its requests are not answered in time."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fleetcast.bus import Bus, declare
from fleetcast.bus.errors import BusTimeout
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy
from fleetcast.daemons.registry.adoption import adopt_all
from fleetcast.daemons.runtime.progress import Progress
from fleetcast.daemons.runtime.starting import patiently
from fleetcast.daemons.testing import RegistryProcess, node_settings
from fleetcast.registry.engine import Engine
from fleetcast.registry.gates import Policy
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.registry import Registry
from fleetcast.registry.transitions.view import Readiness

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]


class Overloaded:
    """Answers no reading of the registry's entries, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.kept = 0

    def __call__(self, frame: bytes) -> bytes | None:
        if self.kept < self.times and b"consumer_create_response" in frame and b"fc.reg.state.entry." in frame:
            self.kept += 1
            return None
        return frame


async def test_requests_that_are_not_answered_in_time_do_not_end_the_start(
    bus: Bus, server: LocalServer, stack: AsyncExitStack, tmp_path: Path
) -> None:
    proxy = await stack.enter_async_context(Proxy(server.port))
    proxy.filter = overloaded = Overloaded(times=1)
    made = node_settings(tmp_path, "node-1", proxy.url)
    quick = made.bus.model_copy(update={"request_timeout_seconds": 1.0})
    home = tmp_path / "keeper"
    home.mkdir()
    keeper = RegistryProcess("keeper", home, made.model_copy(update={"bus": quick}))
    keeper.start()
    try:
        await keeper.until_ready(120)
        assert overloaded.kept == 1
        assert [e["doing"] for e in keeper.logged("start.waiting")] == ["adopting versions"]
        assert keeper.stop() == 0
    finally:
        keeper.kill()


async def test_a_start_that_gets_nowhere_ends_with_the_reason(
    open_bus: OpenBus, server: LocalServer, stack: AsyncExitStack
) -> None:
    """And the control: without patience, one request without an answer is the end."""
    proxy = await stack.enter_async_context(Proxy(server.port))
    proxy.filter = overloaded = Overloaded(times=3)
    bus = await open_bus(url=proxy.url, request_timeout_seconds=0.3)
    await declare(bus, 1)
    engine = Engine(bus, policy=Policy.default, readiness=lambda _m, _a: Readiness(0, 0), ledger=Ledger(bus))

    async def adopt() -> int:
        return await adopt_all(bus, Registry(bus), engine, "/test")

    with pytest.raises(BusTimeout):
        await adopt()
    with pytest.raises(BusTimeout):
        await patiently(adopt, doing="adopting", progress=Progress(0.0))
    assert await patiently(adopt, doing="adopting") == 0
    assert overloaded.kept == 3
