"""The archive over real distributors and a real registry daemon: one node keeps what the others drop, and gives it back."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.helpers import Ended, ended
from tests.integration.cli.helpers import start as start_command

from fleetcast.config.archival import ArchivalSettings
from fleetcast.config.settings import RegistrySettings, Settings
from fleetcast.daemons.testing import Fleet, NodeProcess, RegistryProcess, fleet, node_settings
from fleetcast.events.lifecycle import EntryState, entry_subject
from fleetcast.events.payloads import IntegrityFailed

pytestmark = pytest.mark.asyncio

WEEK_AGO = ArchivalSettings(age_days=0.0)
"""Everything that nothing pins is old enough."""


@dataclass
class Place:
    """A fleet with a registry daemon."""

    fleet: Fleet
    keeper: RegistryProcess

    async def command(self, *arguments: str) -> Ended:
        process = start_command(self.fleet.folder, self.fleet.server.url, *arguments)
        return await asyncio.to_thread(ended, process)

    async def entry(self, version: str) -> EntryState | None:
        found = await self.fleet.bus.last("FC_REGISTRY", entry_subject("m", version))
        return None if found is None else EntryState.model_validate_json(found.data)

    async def until_entry(self, version: str, holds: Callable[[EntryState], object]) -> EntryState:
        deadline = time.monotonic() + 60
        while (entry := await self.entry(version)) is None or not holds(entry):
            assert time.monotonic() < deadline, f"{entry}\n{self.fleet.tails()}\n{self.keeper.tail()}"
            await asyncio.sleep(0.05)
        return entry

    async def register(self, version: str, node: str = "node-1") -> Path:
        """A version on every node, served by none; returns its published file."""
        path = self.fleet.publish(f"m-{version}.bin", hashlib.sha256(version.encode()).digest() * 2000)
        body = {"version": version, "path": str(path), "node": node}
        await self.fleet.say("fc.ev.model.registered.m", body)
        await self.until(f"{version} everywhere", lambda: all(home(n, version).exists() for n in self.nodes))
        return path

    @property
    def nodes(self) -> list[NodeProcess]:
        return list(self.fleet.nodes.values())

    async def until(self, what: str, holds: Callable[[], object]) -> None:
        await self.fleet.until(what, holds, 60.0)


def home(node: NodeProcess, version: str) -> Path:
    return node.data / "models" / "m" / version


def archived(node: NodeProcess, version: str) -> list[Path]:
    return sorted(p for p in (node.data / "archive").glob(f"*/*/m/{version}/*") if p.is_file())


def manifest(node: NodeProcess) -> list[dict[str, Any]]:
    found = sorted((node.data / "archive").glob("*/archived_manifest.json"))
    return [item for path in found for item in json.loads(path.read_text())["archived"]]


def stored(node: NodeProcess, data: Path) -> Path:
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    return node.data / "store" / "sha256" / digest[:2] / digest


@contextlib.asynccontextmanager
async def place(
    folder: Path, nodes: int = 2, policy: ArchivalSettings = WEEK_AGO, start: bool = True
) -> AsyncIterator[Place]:
    async with fleet(folder, nodes=nodes, start=start) as f:
        home = folder / "registry"
        home.mkdir()
        settings = node_settings(folder, "registry", f.server.url)
        changed = {"registry": RegistrySettings(look_seconds=0.2), "archival": policy}
        keeper = RegistryProcess("registry", home, settings.model_copy(update=changed))
        try:
            keeper.start()
            await keeper.until_ready()
            yield Place(f, keeper)
        finally:
            keeper.kill()


async def test_an_archived_version_is_kept_by_its_origin_dropped_by_the_others_and_comes_back_proven(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as p:
        path = await p.register("1")
        one, two = p.nodes
        done = await p.command("archive", "m@1", "--reason", "too old", "--json")
        assert done.code == 0, done.err

        entry = await p.until_entry("1", lambda e: e.archive and e.archive.kept_at)
        await p.until("the store of the origin let it go", lambda: not stored(one, path).exists())
        assert entry.stage == "archived"
        assert entry.archive is not None
        assert not home(one, "1").exists()
        (kept,) = archived(one, "1")
        assert kept.read_bytes() == path.read_bytes()
        assert kept.parent == one.data / "archive" / entry.archive.folder
        (item,) = manifest(one)
        assert (item["model"], item["version"], item["artifact"]) == ("m", "1", entry.artifact)
        assert (item["stage"], item["rule"], item["reason"]) == ("development", "manual", "too old")
        assert item["content"]["files"][0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert item["n"] == entry.archive.n
        assert archived(two, "1") == []

        gone = await p.command("gc", "--reason", "room", "--json")
        assert gone.code == 0, gone.err
        assert not home(two, "1").exists()
        assert not stored(two, path).exists()

        back = await p.command("restore", "m@1", "--reason", "wanted after all", "--json")
        assert back.code == 0, back.err + p.fleet.tails()
        assert back.document["stage"] == "development"
        await p.until("it is everywhere again", lambda: all(home(n, "1").exists() for n in p.nodes))
        assert (home(two, "1") / path.name).read_bytes() == path.read_bytes()
        await p.until("the archive let it go", lambda: manifest(one) == [] and archived(one, "1") == [])
        assert home(one, "1").exists()
