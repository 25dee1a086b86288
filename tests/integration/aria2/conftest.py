"""Real aria2c, real mirrors. Without aria2c these tests are skipped, each by name."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from fleetcast.config.settings import Aria2Settings
from fleetcast.transport.aria2 import Aria2Transport
from fleetcast.transport.aria2.testing import MirrorServer
from fleetcast.transport.protocol import Ban, FetchRequest, Source
from fleetcast.transport.testing import Thing, Witness, thing_of

FAST = Aria2Settings(stall_seconds=4.0, slow_seconds=1.0)
"""As by default, with less patience: a test should not wait for a person's."""
MIB = 2**20


@pytest.fixture(autouse=True)
def _needs_aria2c() -> None:
    if shutil.which("aria2c") is None:
        pytest.skip("aria2c is not installed: apt-get install aria2")


@dataclass
class Bench:
    """A receiver, and what it fetches from."""

    root: Path
    stack: AsyncExitStack
    transport: Aria2Transport
    bans: list[tuple[str, Ban]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / "to"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    async def mirror(self, thing: Thing, node: str, **how: object) -> MirrorServer:
        """Start a mirror on an address of its own."""
        host = f"127.0.0.{10 + int.from_bytes(node.encode(), 'big') % 200}"
        server = MirrorServer(thing.files, node=node, host=host, **how)  # type: ignore[arg-type]
        await self.stack.enter_async_context(server)
        return server

    def request(self, thing: Thing, *sources: Source, have: dict[int, frozenset[int]] | None = None) -> FetchRequest:
        return FetchRequest("t1", thing.artifact, thing.content, thing.metainfo, self.folder, sources, have or {})

    async def fetch(
        self, thing: Thing, *mirrors: MirrorServer, witness: Witness | None = None, seconds: float = 60
    ) -> Witness:
        seen = witness or Witness(thing, self.folder)
        async with asyncio.timeout(seconds):
            await self.transport.fetch(self.request(thing, *(m.source for m in mirrors)), seen)
        return seen

    def is_clean(self) -> bool:
        """Whether nothing is left but the artifact."""
        return not list(self.staging.iterdir()) and not list(self.folder.rglob("*.aria2"))


async def happens(event: asyncio.Event, task: asyncio.Task[object]) -> None:
    """Wait for an event in the course of a task; a task that ends without it fails the test with its own error."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        await task
        raise AssertionError("the task ended, and nothing happened")


Making = Callable[[Aria2Settings], Awaitable[Bench]]


@pytest_asyncio.fixture
async def making(tmp_path: Path) -> AsyncIterator[Making]:
    async with AsyncExitStack() as stack:

        async def make(settings: Aria2Settings) -> Bench:
            bans: list[tuple[str, Ban]] = []
            transport = Aria2Transport(
                settings, staging=tmp_path / "staging", on_banned=lambda artifact, ban: bans.append((artifact, ban))
            )
            await transport.start()
            stack.push_async_callback(transport.close)
            (tmp_path / "staging").mkdir()
            return Bench(tmp_path, stack, transport, bans)

        yield make


@pytest_asyncio.fixture
async def bench(making: Making) -> Bench:
    return await making(FAST)


@pytest.fixture(scope="session")
def thing() -> Thing:
    """8 MiB in 512 pieces of 16 KiB: as many and as small as they come."""
    return thing_of({"model.bin": os.urandom(8 * MIB)})
