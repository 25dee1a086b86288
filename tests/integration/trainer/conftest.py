"""A server of one test whose leases are short, and a bus to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.trainer.runs.lives import server

from fleetcast.bus import Bus
from fleetcast.bus.server import LocalServer


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[LocalServer, Bus]]:
    async with server(tmp_path) as made:
        yield made


@pytest.fixture
def bus(served: tuple[LocalServer, Bus]) -> Bus:
    return served[1]
