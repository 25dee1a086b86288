"""A disk that fills in the middle of a transfer: every transport calls it full, and goes on once there is room.

Beside it stand broken variants: transports that take a full disk for a fault of their sources.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.rsync.conftest import ModuleMaker, module, put_in_store

from fleetcast.config.settings import Aria2Settings
from fleetcast.transport.aria2 import Aria2Transport, fetching
from fleetcast.transport.aria2.testing import MirrorServer
from fleetcast.transport.errors import StoreFull, TransferFailed
from fleetcast.transport.protocol import FetchRequest, Source, Transport
from fleetcast.transport.rsync import RsyncTransport
from fleetcast.transport.rsync.stage import Stage
from fleetcast.transport.store import folder
from fleetcast.transport.testing import Swarm, Thing, Witness, thing_of

__all__ = ["module"]
pytestmark = pytest.mark.asyncio
KIB, MIB = 2**10, 2**20
DISK = 16 * MIB
"""What the fixture `small_disk` has."""


async def test_disk_that_fills_in_the_middle_fails_this_transfer_alone_and_room_heals_it(
    swarm: Swarm, small_disk: Path
) -> None:
    small, large = thing_of({"a.pt": os.urandom(4 * MIB)}), thing_of({"b.pt": os.urandom(24 * MIB)})
    origin, node = await swarm.node(), await swarm.node()
    node.folder = small_disk
    await origin.seed(small)
    await origin.seed(large)
    await node.fetch(small, origin.source)
    with pytest.raises(StoreFull, match="No space left"):
        await node.fetch(large, origin.source)
    assert small.lies_in(small_disk)
    assert [t.artifact for t in node.transport.stats().torrents] == [small.artifact]
    await asyncio.to_thread(subprocess.check_call, ["mount", "-o", "remount,size=64m", str(small_disk)])
    seen = await node.fetch(large, origin.source)
    assert large.lies_in(small_disk)
    assert seen.last.bytes_by_source["n0"] < large.size


@dataclass
class Receiver:
    """A node whose files and folders for a short time are on a small disk, and what it fetches."""

    disk: Path
    thing: Thing
    transport: Transport
    source: Source

    @property
    def folder(self) -> Path:
        return self.disk / "swarm"

    @property
    def staging(self) -> Path:
        return self.disk / "staging"

    def fill(self, leaving: int) -> None:
        """Take all but *leaving* bytes of the disk."""
        with (self.disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, DISK - leaving)

    def make_room(self) -> None:
        (self.disk / "filler").unlink()

    async def fetch(self) -> Witness:
        seen, thing = Witness(self.thing, self.folder), self.thing
        lies_there: dict[int, set[int]] = {}
        for file, piece in seen.verifier.unproven_here():
            if seen.verifier.verify_piece(file, piece):
                lies_there.setdefault(file, set()).add(piece)
        have = {file: frozenset(pieces) for file, pieces in lies_there.items()}
        request = FetchRequest("t1", thing.artifact, thing.content, thing.metainfo, self.folder, (self.source,), have)
        async with asyncio.timeout(90):
            await self.transport.fetch(request, seen)
        return seen


@pytest.fixture
def thing() -> Thing:
    return thing_of({"a.bin": os.urandom(6 * MIB), "b.bin": os.urandom(2 * MIB + 77)}, 64 * KIB)


@pytest_asyncio.fixture
async def by_aria2(small_disk: Path, thing: Thing) -> AsyncIterator[Receiver]:
    if shutil.which("aria2c") is None:
        pytest.skip("aria2c is not installed: apt-get install aria2")
    (small_disk / "staging").mkdir()
    transport = Aria2Transport(Aria2Settings(), staging=small_disk / "staging")
    await transport.start()
    async with MirrorServer(thing.files, node="a") as mirror:
        yield Receiver(small_disk, thing, transport, mirror.source)
        await transport.close()


@pytest_asyncio.fixture
async def by_rsync(small_disk: Path, thing: Thing, module: ModuleMaker) -> AsyncIterator[Receiver]:
    server = await asyncio.to_thread(module, "a")
    put_in_store(thing, server.store)
    (small_disk / "staging").mkdir()
    transport = RsyncTransport(server.settings, staging=small_disk / "staging")
    await transport.start()
    yield Receiver(small_disk, thing, transport, server.source)


async def meet_full_disk(receiver: Receiver, room: int) -> None:
    receiver.fill(leaving=room)

    with pytest.raises(StoreFull, match="No space left") as full:
        await receiver.fetch()

    assert full.value.next_step == "free space below store.data"
    assert list(receiver.staging.iterdir()) == []
    receiver.make_room()
    seen = await receiver.fetch()
    assert receiver.thing.lies_in(receiver.folder)
    assert list(receiver.staging.iterdir()) == []
    # What fitted before is not fetched again.
    assert seen.last.received <= receiver.thing.size - room / 2


AT_ANY_WRITE = pytest.mark.parametrize("room", [0, 200 * KIB, 3 * MIB, 7 * MIB], ids=["0", "200K", "3M", "7M"])


@AT_ANY_WRITE
async def test_aria2_calls_a_disk_that_fills_at_any_write_full_and_goes_on_once_there_is_room(
    by_aria2: Receiver, room: int
) -> None:
    await meet_full_disk(by_aria2, room)


@AT_ANY_WRITE
async def test_rsync_calls_a_disk_that_fills_at_any_write_full_and_goes_on_once_there_is_room(
    by_rsync: Receiver, room: int
) -> None:
    await meet_full_disk(by_rsync, room)


async def test_an_aria2_that_takes_a_full_disk_for_bad_mirrors_would_be_caught(
    by_aria2: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant."""
    monkeypatch.setattr(fetching, "_FULL", None)
    monkeypatch.setattr(folder, "_FULL", frozenset())
    by_aria2.fill(leaving=3 * MIB)
    with pytest.raises(TransferFailed):
        await by_aria2.fetch()


async def test_an_rsync_that_takes_a_full_disk_for_a_bad_source_would_be_caught(
    by_rsync: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant."""
    monkeypatch.setattr(Stage, "check_room", lambda _: None)
    by_rsync.fill(leaving=3 * MIB)
    with pytest.raises(TransferFailed, match="No space left"):
        await by_rsync.fetch()


async def test_a_source_that_says_no_space_is_left_is_not_believed(by_rsync: Receiver, small_disk: Path) -> None:
    """It fails as a source does, and others are asked."""
    said = "rsync: [receiver] write failed on 'x': No space left on device (28)"
    liar = await asyncio.start_server(lambda _r, w: _say(w, f"@RSYNCD: 31.0 md5\n@ERROR: {said}\n"), "127.0.0.1", 0)
    async with liar:
        port = liar.sockets[0].getsockname()[1]
        by_rsync.source = Source("liar", rsync=f"rsync://127.0.0.1:{port}/store", complete=True)
        with pytest.raises(TransferFailed, match="liar"):
            await by_rsync.fetch()


def _say(writer: asyncio.StreamWriter, words: str) -> None:
    writer.write(words.encode())
    writer.close()
