"""One NATS server for all tests here, and notifiers on it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest_asyncio.fixture
async def bus(server: LocalServer, stack: AsyncExitStack) -> Bus:
    made = await stack.enter_async_context(connect(fast_settings(server.url), node="test", daemon="test"))
    await declare(made, 1)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
