"""A swarm per test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fleetcast.transport.testing import Swarm, Thing, thing_of


@pytest.fixture
def model() -> Thing:
    """One file of 4 MiB: 256 pieces."""
    return thing_of({"model.pt": os.urandom(4 * 2**20)})


@pytest_asyncio.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    made = Swarm(tmp_path)
    yield made
    await made.close()
