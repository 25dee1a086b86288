"""A swarm per test, and a disk that is small."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from fleetcast.transport.testing import Swarm


@pytest_asyncio.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    made = Swarm(tmp_path / "swarm")
    made.root.mkdir()
    yield made
    await made.close()
