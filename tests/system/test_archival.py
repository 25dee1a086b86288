"""The archive over real distributors and a real registry daemon: one node keeps what others drop, and gives it back."""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.stand import Ended, ended
from tests.integration.cli.stand import start as start_command

from fleetcast.config.archival import ArchivalSettings
from fleetcast.config.settings import RegistrySettings, Settings
from fleetcast.daemons.testing import Fleet, NodeProcess, RegistryProcess, fleet, node_settings
from fleetcast.events.lifecycle import ArchiveRule, EntryState, StageName, entry_subject
from fleetcast.events.payloads import IntegrityFailed
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, AnyCommand, Move, Promote
from fleetcast.transport.failpoints import VARIABLE

pytestmark = pytest.mark.asyncio

ALL_OLD = ArchivalSettings(age_days=0.0)
"""Everything that nothing pins is old enough."""


@dataclass
class Place:
    """A fleet with a registry daemon."""

    fleet: Fleet
    keeper: RegistryProcess

    async def command(self, *arguments: str) -> Ended:
        process = start_command(self.fleet.folder, self.fleet.server.url, *arguments)
        return await asyncio.to_thread(ended, process)

    async def ask(self, command: AnyCommand) -> Answer:
        """Ask the registry daemon, without a command line."""
        client = RegistryClient(self.fleet.bus, actor="/fleet/tests/tests")
        answer = await client.transition(command, reason="a test wants it")
        assert answer.accepted, answer
        return answer

    async def archive(self, version: str) -> None:
        await self.ask(Move(model="m", version=version, stage=StageName.ARCHIVED))

    async def restore(self, version: str) -> None:
        """Ask for it; nobody waits until it is back."""
        await self.ask(Move(model="m", version=version, stage=StageName.DEVELOPMENT))

    async def entry(self, version: str) -> EntryState | None:
        found = await self.fleet.bus.last("FC_REGISTRY", entry_subject("m", version))
        return None if found is None else EntryState.model_validate_json(found.data)

    async def until_entry(self, version: str, holds: Callable[[EntryState], object]) -> EntryState:
        deadline = time.monotonic() + 60
        while (entry := await self.entry(version)) is None or not holds(entry):
            assert time.monotonic() < deadline, f"{entry}\n{self.fleet.tails()}\n{self.keeper.tail()}"
            await asyncio.sleep(0.05)
        return entry

    async def register(self, version: str, node: str = "node-1", *, everywhere: bool = True) -> Path:
        """A version on every node that wants it, served by none; returns its published file."""
        path = self.fleet.publish(f"m-{version}.bin", hashlib.sha256(version.encode()).digest() * 2000)
        body = {"version": version, "path": str(path), "node": node}
        await self.fleet.say("fc.ev.model.registered.m", body)
        if everywhere:
            await self.until(f"{version} everywhere", lambda: all(home(n, version).exists() for n in self.nodes))
        return path

    async def collect_until_gone(self, node: NodeProcess, version: str) -> None:
        """Remove what nothing pins, until the node has learned that this is so of a version."""
        deadline = time.monotonic() + 60
        while home(node, version).exists():
            assert time.monotonic() < deadline, self.fleet.tails()
            assert (await self.command("gc", "--reason", "room")).code == 0

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
    folder: Path,
    nodes: int = 2,
    policy: ArchivalSettings = ALL_OLD,
    *,
    start: bool = True,
    settings: Callable[[str, Settings], Settings] = lambda _, s: s,
) -> AsyncIterator[Place]:
    """A fleet with a registry daemon that is ready, and nodes that are unless *start* says otherwise."""
    async with fleet(folder, nodes=nodes, start=start, settings=settings) as f:
        home = folder / "registry"
        home.mkdir()
        own = node_settings(folder, "registry", f.server.url)
        changed = {"registry": RegistrySettings(look_seconds=0.2), "archival": policy}
        keeper = RegistryProcess("registry", home, own.model_copy(update=changed))
        try:
            keeper.start()
            await keeper.until_ready()
            yield Place(f, keeper)
        finally:
            keeper.kill()


def spoil(path: Path) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


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

        await p.collect_until_gone(two, "1")
        assert not stored(two, path).exists()

        back = await p.command("restore", "m@1", "--reason", "wanted after all", "--json")
        assert back.code == 0, back.err + p.fleet.tails()
        assert back.document["stage"] == "development"
        await p.until("it is everywhere again", lambda: all(home(n, "1").exists() for n in p.nodes))
        assert (home(two, "1") / path.name).read_bytes() == path.read_bytes()
        await p.until("the archive let it go", lambda: manifest(one) == [] and archived(one, "1") == [])
        assert home(one, "1").exists()


async def test_a_damaged_archive_is_refused_by_name_and_nothing_is_lost(tmp_path: Path) -> None:
    async with place(tmp_path, nodes=1) as p:
        path = await p.register("1")
        (one,) = p.nodes
        await p.archive("1")
        await p.until_entry("1", lambda e: e.archive and e.archive.kept_at)
        await p.until("only the archive has it", lambda: not stored(one, path).exists())
        (kept,) = archived(one, "1")
        spoil(kept)

        refused = await p.command("restore", "m@1", "--reason", "wanted", "--json")
        assert refused.code == 1
        assert f"{path.name} is damaged" in refused.document["error"]["message"]
        entry = await p.entry("1")
        assert entry is not None
        assert entry.stage == "archived"
        assert entry.archive is not None
        assert (entry.archive.restore, path.name in (entry.archive.fault or "")) == (None, True)
        assert not home(one, "1").exists()
        assert [i["version"] for i in manifest(one)] == ["1"]
        assert archived(one, "1") == [kept]
        told = await failures(p)
        assert [(f.model, f.version, f.path, f.node) for f in told] == [("m", "1", path.name, "node-1")]
        assert told[0].expected == hashlib.sha256(path.read_bytes()).hexdigest()

        kept.write_bytes(path.read_bytes())
        await p.restore("1")
        await p.until_entry("1", lambda e: e.archive is None)
        assert (home(one, "1") / path.name).read_bytes() == path.read_bytes()


async def failures(p: Place) -> list[IntegrityFailed]:
    """What was said of damaged bytes, once something was."""
    deadline = time.monotonic() + 60
    while not (found := await p.fleet.events("fc.ev.integrity.failed.*")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return [e.payload for e in found if isinstance(e.payload, IntegrityFailed)]


BELIEVING = """
import sys
if sys.argv[1:3] == ["run", "distributor"] or "distributor" in sys.argv:
    import fleetcast.transport.store.archive as archive
    archive.Archive.prove = lambda self, item: []
"""
"""The broken variant: an archive that is believed."""


async def test_an_archive_that_is_believed_would_serve_damaged_bytes(tmp_path: Path) -> None:
    """What the test above catches: without the proof the same damage is installed."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BELIEVING)
    async with place(tmp_path, nodes=1, start=False) as p:
        (one,) = p.nodes
        one.environment = {"PYTHONPATH": str(tmp_path / "broken")}
        one.start()
        await p.fleet.until_ready()
        path = await p.register("1")
        await p.archive("1")
        await p.until("only the archive has it", lambda: archived(one, "1") and not stored(one, path).exists())
        spoil(archived(one, "1")[0])
        await p.restore("1")
        await p.until_entry("1", lambda e: e.archive is None)
        assert (home(one, "1") / path.name).read_bytes() != path.read_bytes()


async def test_the_named_node_fetches_what_it_shall_keep_and_no_other_lets_go_before(tmp_path: Path) -> None:
    def picky(name: str, settings: Settings) -> Settings:
        wanted = settings.node.model_copy(update={"models": ("other*",)}) if name == "node-2" else settings.node
        return settings.model_copy(update={"node": wanted})

    async with place(tmp_path, policy=ArchivalSettings(node="node-2"), settings=picky) as p:
        one, two = p.nodes
        path = await p.register("1", everywhere=False)
        await p.until("it is on its origin", home(one, "1").exists)
        await asyncio.to_thread(two.stop)
        await p.archive("1")
        await p.command("gc", "--reason", "room")
        assert home(one, "1").exists(), "no archive has it yet"

        two.start()
        await p.until_entry("1", lambda e: e.archive and e.archive.node == "node-2" and e.archive.kept_at)
        await p.until("only its archive has it there", lambda: not home(two, "1").exists())
        (kept,) = archived(two, "1")
        assert kept.read_bytes() == path.read_bytes()
        await p.collect_until_gone(one, "1")

        await p.restore("1")
        await p.until("the origin has it again", home(one, "1").exists)
        assert (home(one, "1") / path.name).read_bytes() == path.read_bytes()


INWARDS = ("archive.manifest.before", "remove.hide.after")
OUTWARDS = ("install.record.after", "archive.hide.after")


def whole(node: NodeProcess, version: str, path: Path) -> bool:
    """Whether every byte of a version is installed, or listed by the archive and there."""
    listed = [node.data / "archive" / i["folder"] for i in manifest(node) if i["version"] == version]
    places = [place / path.name for place in (home(node, version), *listed)]
    return any(place.is_file() and place.read_bytes() == path.read_bytes() for place in places)


async def killed_at(p: Place, point: str, command: Awaitable[None]) -> None:
    """Have the node die at a failpoint while it does what the registry decides."""
    (one,) = p.nodes
    await asyncio.to_thread(one.stop)
    one.environment = {VARIABLE: f"{point}=kill"}
    one.start()
    await p.fleet.until_ready()
    await command
    await p.until(f"the node died at {point}", lambda: one.process is not None and one.process.poll() is not None)
    one.environment = {}


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_node_killed_anywhere_on_the_way_into_the_archive_or_out_of_it_loses_nothing(tmp_path: Path) -> None:
    async with place(tmp_path, nodes=1) as p:
        (one,) = p.nodes
        path = await p.register("1")
        for inwards, outwards in zip(INWARDS, OUTWARDS, strict=True):
            await killed_at(p, inwards, p.archive("1"))
            assert whole(one, "1", path), inwards
            one.start()
            await p.until_entry("1", lambda e: e.archive and e.archive.kept_at)
            await p.until("only the archive has it", lambda: not home(one, "1").exists())
            assert whole(one, "1", path), inwards

            await killed_at(p, outwards, p.restore("1"))
            assert whole(one, "1", path), outwards
            one.start()
            await p.until_entry("1", lambda e: e.archive is None)
            await p.until("the archive let it go", lambda: manifest(one) == [] and archived(one, "1") == [])
            assert (home(one, "1") / path.name).read_bytes() == path.read_bytes()
        assert p.nodes[0].logged("integrity.failed") == []


async def test_a_version_that_is_archived_again_at_once_for_another_reason_lies_in_one_folder(tmp_path: Path) -> None:
    async with place(tmp_path, nodes=1) as p:
        path = await p.register("1")
        (one,) = p.nodes
        await p.archive("1")
        await p.until_entry("1", lambda e: e.archive and e.archive.kept_at)
        await p.restore("1")
        await p.until_entry("1", lambda e: e.archive is None)
        await p.ask(Move(model="m", version="1", stage=StageName.ARCHIVED, rule=ArchiveRule.AGE))
        entry = await p.until_entry("1", lambda e: e.archive and e.archive.kept_at)
        assert entry.archive is not None
        await p.until("it is kept once", lambda: [i["rule"] for i in manifest(one)] == ["age"])
        await p.until("only the archive has it", lambda: not stored(one, path).exists())
        (kept,) = archived(one, "1")
        assert kept == one.data / "archive" / entry.archive.folder / path.name
        assert kept.read_bytes() == path.read_bytes()


async def test_the_rules_say_what_would_go_and_do_it_only_when_told(tmp_path: Path) -> None:
    async with place(tmp_path, nodes=1) as p:
        (one,) = p.nodes
        for version in ("1", "2", "3", "net_iter4"):
            await p.register(version)
        for version in ("1", "2"):
            await p.ask(Promote(model="m", version=version, skip_rollout=True))
        would = await p.command("archive", "--json")
        assert would.code == 0
        assert [(i["version"], i["rule"]) for i in would.document["proposals"]] == [("3", "age"), ("net_iter4", "age")]
        assert would.document["archived"] == []
        shown = await p.command("archive", "--model", "m")
        assert "2 versions would be archived; nothing was done" in shown.out
        assert (await p.command("archive", "--apply")).code == 2

        done = await p.command("archive", "--apply", "--reason", "weekly", "--json")
        assert (done.code, done.document["archived"]) == (0, ["m@3", "m@net_iter4"])
        entry = await p.until_entry("3", lambda e: e.archive and e.archive.kept_at)
        assert entry.archive is not None
        assert entry.archive.reason.startswith("weekly: at development for")
        assert "/unpromoted/m/3" in entry.archive.folder
        await p.until("both are listed", lambda: {i["version"] for i in manifest(one)} == {"3", "net_iter4"})
        assert (await p.command("archive", "--json")).document["proposals"] == []


async def test_a_registry_daemon_that_is_told_to_sweeps_by_itself(tmp_path: Path) -> None:
    policy = ArchivalSettings(age_days=0.0, mode="on", sweep_seconds=0.5)
    async with place(tmp_path, nodes=1, policy=policy) as p:
        await p.fleet.promote("m", "1", p.fleet.publish("m-1.bin", b"one" * 1000))
        await p.fleet.until_served("m", "1")
        await p.register("2", everywhere=False)
        entry = await p.until_entry("2", lambda e: e.archive and e.archive.kept_at)
        assert entry.archive is not None
        assert (entry.archive.by, entry.archive.rule) == ("/fleet/registry/registry", "age")
        first = await p.entry("1")
        assert first is not None
        assert first.stage == "production"
