"""A real server under the roles of a fleet, shared by a module."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.errors import AccessDenied, BusUnavailable
from fleetcast.config.settings import BusSettings
from fleetcast.security.changing import add, create, places
from fleetcast.security.folder import Folder
from fleetcast.security.inventory import Inventory
from fleetcast.security.roles import Role
from fleetcast.security.testing import RoleServer, local_folder

WAIT_SECONDS = 30
NODES = {"node": Role.NODE, "trainer": Role.TRAINER}


@dataclass
class Secured:
    """A folder of keys and the server that has them."""

    folder: Folder
    server: RoleServer

    @property
    def inventory(self) -> Inventory:
        return self.folder.load()

    def settings(self, name: str) -> BusSettings:
        return self.folder.settings(self.inventory, name)


@asynccontextmanager
async def let_in(settings: BusSettings, *, node: str = "x", daemon: str = "test") -> AsyncIterator[Bus]:
    """A bus, once a server has it: one that reads its configuration again may for a moment answer nobody, or refuse."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                with contextlib.suppress(BusUnavailable, AccessDenied):
                    bus = await stack.enter_async_context(connect(settings, node=node, daemon=daemon, wait=False))
                    break
                await asyncio.sleep(0.05)
        yield bus


async def secured(path: Path) -> AsyncIterator[Secured]:
    folder, inventory = local_folder(path)
    for name, role in NODES.items():
        inventory = add(folder, name, role, used_by="a test", reason=None)
    server = RoleServer(folder, inventory.servers[0])
    async with server:
        made = Secured(folder, server)
        async with let_in(made.settings("deploy"), node="deploy", daemon="deploy") as bus:
            await declare(bus, 1)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    async for made in secured(tmp_path_factory.mktemp("keys") / "fleet"):
        yield made


@pytest.fixture
def idle_folder(tmp_path: Path) -> Callable[..., Folder]:
    """A fleet's folder whose servers do not run."""

    def make(*hosts: str, place: str = "", store: str = "") -> Folder:
        folder = Folder(tmp_path / "fleet")
        create(
            folder, "test", places(hosts or ("127.0.0.1",), folder=folder.path, place=place, store=store), reason=None
        )
        return folder

    return make
