"""A real server for each test (it starts in about 50 ms), and buses to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest_asyncio

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings, nats_server

OpenBus = Callable[..., Awaitable[Bus]]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    async with nats_server(tmp_path / "nats") as running:
        yield running


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest_asyncio.fixture
async def open_bus(server: LocalServer, stack: AsyncExitStack) -> OpenBus:
    """A function that makes a bus: `await open_bus("n2", url=…)`."""

    async def make(node: str = "n1", *, url: str = "", daemon: str = "test", **settings: object) -> Bus:
        context: AbstractAsyncContextManager[Bus] = connect(
            fast_settings(url or server.url, **settings), node=node, daemon=daemon
        )
        return await stack.enter_async_context(context)

    return make


@pytest_asyncio.fixture
async def bus(open_bus: OpenBus) -> Bus:
    """A bus with everything declared."""
    made = await open_bus()
    await declare(made, 1)
    return made
