"""Backups under roles: who decides may read all of it, who installs may put it back, and nobody else may either."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.security.conftest import Secured, let_in

from fleetcast.bus.errors import AccessDenied
from fleetcast.bus.snapshots import snapshot
from fleetcast.bus.streams import EVENTS, REGISTRY
from fleetcast.cli.backup.archive import Reader
from fleetcast.cli.backup.restoring import put_back
from fleetcast.cli.backup.sealing import PrivateKey
from fleetcast.cli.backup.taking import take
from fleetcast.cli.problems import Problem
from fleetcast.security.roles import BACKED_UP
from fleetcast.security.testing import RoleServer, local_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = PrivateKey.new()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backup(fleet: Secured, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """Taken with the key of a control machine."""
    async with let_in(fleet.settings("control"), node="control", daemon="cli") as bus:
        yield (await take(bus, tmp_path_factory.mktemp("backups"), (KEY.public,), say=lambda _: None)).path


@pytest.mark.parametrize(
    "name", ["node", "trainer", "publisher", "evaluator", "promoter", "operator", "on-call", "deploy"]
)
async def test_only_control_reads_a_stream_as_a_whole(fleet: Secured, name: str) -> None:
    async with let_in(fleet.settings(name), node=name, daemon="cli") as bus:
        with pytest.raises(AccessDenied):
            async with snapshot(bus.js, REGISTRY):
                pass


async def test_whoever_installs_restores_into_servers_without_streams(backup: Path, tmp_path: Path) -> None:
    folder, inventory = await asyncio.to_thread(local_folder, tmp_path / "fleet")
    async with (
        RoleServer(folder, inventory.servers[0]),
        let_in(folder.settings(inventory, "deploy"), node="deploy", daemon="cli") as bus,
    ):
        done = await put_back(bus, Reader(backup), KEY, replicas=1, resume=False, say=lambda _: None)

        assert set(done.made) == set(BACKED_UP)
        assert (await bus.js.api(f"STREAM.INFO.{EVENTS}"))["config"]["deny_delete"] is True


async def test_streams_that_were_declared_already_are_refused_where_nobody_may_remove_them(
    fleet: Secured, backup: Path
) -> None:
    async with let_in(fleet.settings("deploy"), node="deploy", daemon="cli") as bus:
        with pytest.raises(Problem, match=r"may not remove|not empty") as refused:
            await put_back(bus, Reader(backup), KEY, replicas=1, resume=False, say=lambda _: None)

    assert "move the servers' store folders aside" in refused.value.next_step
