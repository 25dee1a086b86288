"""A server, a bus on it, and monitors."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.integration.monitor.watched import World, world

from fleetcast.bus import connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings, nats_server


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    async with nats_server(tmp_path / "nats") as running:
        yield running


@pytest_asyncio.fixture
async def fleet(server: LocalServer, tmp_path: Path) -> AsyncIterator[World]:
    async with connect(fast_settings(server.url), node="n1", daemon="test") as bus:
        await declare(bus, 1)
        async with world(bus, server.url, tmp_path) as made:
            yield made
