import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.integration.serve.shelves import Shelf, serve

from fleetcast.config.settings import HttpSettings


@pytest_asyncio.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    made = serve(tmp_path, os.urandom(3_000_000), HttpSettings(port=0, max_connections=4, idle_seconds=0.5))
    await made.server.start()
    yield made
    await made.server.close()
