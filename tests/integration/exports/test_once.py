"""Desks that share nothing but the server: a found export is said once, whoever finds it and however often."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.config.exports import ExportFolder
from fleetcast.config.settings import Settings, StoreSettings
from fleetcast.daemons.distributor.exports import ExportDesk, Memory
from fleetcast.events.envelope import Event, parse
from fleetcast.events.ids import new_ulid
from fleetcast.registry import Registry
from fleetcast.transport.store import Store

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator["Site"]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(nats_server(tmp_path / "nats"))
        buses = [
            await stack.enter_async_context(connect(fast_settings(server.url), node=f"n{n}", daemon="test"))
            for n in range(2)
        ]
        await declare(buses[0], 1)
        idle = stack.enter_context(ThreadPoolExecutor(1))
        yield Site(tmp_path, buses, idle)


class Site:
    """Two nodes, each with a folder of exports and a store."""

    def __init__(self, root: Path, buses: list[Bus], idle: ThreadPoolExecutor) -> None:
        self._root, self._buses, self._idle = root, buses, idle

    def folder(self, node: int) -> Path:
        folder = self._root / f"n{node}" / "exports"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def lay(self, node: int, name: str, samples: int, seed: int = 0) -> Path:
        written = io.BytesIO()
        random = np.random.default_rng(seed)
        np.savez(written, x=random.random((samples, 4)), y=np.arange(samples))
        path = self.folder(node) / name
        path.write_bytes(written.getvalue())
        return path

    def desk(self, node: int, kind: type[ExportDesk] = ExportDesk) -> ExportDesk:
        """A desk that remembers nothing, as after a restart that lost its memory."""
        folder = self.folder(node)
        settings = Settings(store=StoreSettings(data=self._root / f"n{node}" / "data", publish_roots=(folder,)))
        parts: Any = SimpleNamespace(
            node=f"n{node}",
            source=f"/fleet/n{node}/distributor",
            settings=settings,
            bus=self._buses[node],
            registry=Registry(self._buses[node]),
            store=Store(settings.store),
            idle=self._idle,
        )
        memory = self._root / f"n{node}" / f"{new_ulid()}.json"
        return kind(parts, ExportFolder(lane="lane", folder=folder), Memory(memory))

    async def announce(self, path: Path, node: int, samples: int) -> None:
        body = {"path": str(path), "node": f"n{node}", "samples_new": samples, "samples_total": samples}
        await self._buses[0].publish_raw("fc.ev.EXPORT_COMPLETED.lane", json.dumps(body).encode())

    async def said(self) -> list[Event]:
        """Every EXPORT_COMPLETED."""
        subjects = ("fc.ev.export.completed.lane", "fc.ev.EXPORT_COMPLETED.lane")
        entries = [e async for e in self._buses[0].tail("FC_EVENTS", subjects)]
        return [parse(e.data, subject=e.subject, sequence=e.sequence, time=e.time) for e in entries]


async def look(*desks: ExportDesk, times: int = 3) -> None:
    for _ in range(times):
        await asyncio.gather(*(desk.look() for desk in desks))


async def test_desks_that_find_the_same_bytes_again_and_again_say_them_once(site: Site) -> None:
    for node in range(2):
        site.lay(node, f"found-by-{node}.npz", 30)
    await look(site.desk(0), site.desk(1))
    await look(site.desk(0), site.desk(1))
    assert len(await site.said()) == 1


class Careless(ExportDesk):
    """The broken variant: says what it finds without asking who said it before."""

    async def _is_announced(self, *_: object) -> bool:
        return False

    def _event_id(self, _digest: str) -> str:
        return new_ulid()


async def test_a_desk_that_says_an_export_twice_is_caught(site: Site) -> None:
    site.lay(0, "a.npz", 30)
    await look(site.desk(0, Careless))
    await look(site.desk(0, Careless))
    assert len(await site.said()) == 2


async def test_an_export_that_its_producer_announced_is_not_said_again(site: Site) -> None:
    path = site.lay(0, "a.npz", 30)
    await site.announce(path, 0, 30)
    await look(site.desk(0))
    (event,) = await site.said()
    assert event.source == "/manual/natscli"


async def test_an_export_is_said_although_its_producer_announced_what_was_there_before(site: Site) -> None:
    path = site.lay(0, "a.npz", 30)
    await site.announce(path, 0, 30)
    await asyncio.to_thread(site.lay, 0, "a.npz", 50)
    await look(site.desk(0))
    assert len(await site.said()) == 2


async def test_a_file_that_grows_is_not_said_before_it_rests(site: Site) -> None:
    desk = site.desk(0)
    for samples in (10, 20, 30):
        await asyncio.to_thread(site.lay, 0, "a.npz", samples)
        await look(desk, times=1)
    assert not await site.said()
    await look(desk, times=2)
    (event,) = await site.said()
    assert event.payload.model_dump()["samples_total"] == 30
