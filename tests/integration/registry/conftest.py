"""A server, a bus on it, and whatever else a test opens, closed with it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings, nats_server


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    async with nats_server(tmp_path / "nats") as running:
        yield running


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest_asyncio.fixture
async def bus(server: LocalServer, stack: AsyncExitStack) -> Bus:
    made = await stack.enter_async_context(connect(fast_settings(server.url), node="n1", daemon="test"))
    await declare(made, 1)
    return made
