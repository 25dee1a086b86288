"""Real libtorrent and real aria2c under one transfer: what carries it stops in the middle, and nothing is lost."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.ladder.conftest import Scene, Scenes

from fleetcast.config.settings import Aria2Settings
from fleetcast.daemons.distributor.progress import TransferProgress
from fleetcast.events.payloads import TransferMoved
from fleetcast.transport import metainfo
from fleetcast.transport.aria2 import Aria2Transport
from fleetcast.transport.pieces import PieceVerifier
from fleetcast.transport.testing import Node, Swarm, Thing, thing_of, until

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(shutil.which("aria2c") is None, reason="aria2c is not installed: apt install aria2"),
]

SIZE = 12 * 2**20
RATE = 3 * 2**20
"""Bytes per second that the origin sends to the swarm: slow enough to act in the middle."""


@contextlib.asynccontextmanager
async def slow_swarm(tmp_path: Path, scene: Scenes) -> AsyncIterator[tuple[Scene, Node]]:
    """A receiver, and an origin that seeds slowly and serves by HTTP."""
    thing = thing_of({"m.bin": random.Random(1).randbytes(SIZE)})
    swarm = Swarm(tmp_path / "swarm")
    swarm.root.mkdir()
    aria2 = Aria2Transport(Aria2Settings(), staging=tmp_path / "staging")
    await aria2.start()
    try:
        origin, receiver = await swarm.node(), await swarm.node()
        await origin.seed(thing)
        origin.transport.limit(None, RATE)
        found = await scene(receiver.transport, aria2, thing=thing, stall_seconds=3.5)
        found.origin_serves(bt=origin.transport.endpoint)
        yield found, receiver
    finally:
        await aria2.close()
        await swarm.close()


async def stop_in_the_middle(found: Scene, receiver: Node, number: signal.Signals, *, after: float = 1 / 3) -> None:
    """Let the transfer begin, stop what carries it *after* a share of the bytes, and wait for its end."""
    climbing = asyncio.create_task(found.climb(60))
    try:
        await until(lambda: found.progress.status.bytes_verified > SIZE * after or climbing.done(), 30)
        os.kill(receiver.child, number)
        await climbing
    finally:
        climbing.cancel()
        await asyncio.gather(climbing, return_exceptions=True)


def moves(found: Scene) -> list[TransferMoved]:
    return [fact for fact in found.parts.said if isinstance(fact, TransferMoved)]


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)])
async def test_http_goes_on_where_the_swarm_stopped(tmp_path: Path, scene: Scenes, number: signal.Signals) -> None:
    async with slow_swarm(tmp_path, scene) as (found, receiver):
        await stop_in_the_middle(found, receiver, number)

        (move,) = moves(found)
        assert (move.from_transport, move.transport) == ("bittorrent", "aria2")
        assert move.bytes_kept > SIZE / 3
        assert found.thing.lies_in(found.folder)
        assert found.fetched <= 1.1 * SIZE


class Forgetful(TransferProgress):
    """The broken variant: a hand-over that starts from nothing."""

    thing: Thing
    folder: Path

    async def prove_here(self) -> None:
        await asyncio.to_thread(self.thing.path(self.folder).unlink)
        read = metainfo.read(self.thing.metainfo, self.thing.content)
        self.open(PieceVerifier(read, self.thing.content, self.folder))


@pytest.mark.soak
async def test_a_hand_over_that_starts_from_nothing_is_caught(tmp_path: Path, scene: Scenes) -> None:
    async with slow_swarm(tmp_path, scene) as (found, receiver):
        found.progress.__class__ = Forgetful
        assert isinstance(found.progress, Forgetful)
        found.progress.thing, found.progress.folder = found.thing, found.folder

        # Late: what came since the last account dies with the child, and is in no account.
        await stop_in_the_middle(found, receiver, signal.SIGKILL, after=2 / 3)

        assert found.thing.lies_in(found.folder)
        assert found.fetched > 1.1 * SIZE


async def test_the_swarm_takes_what_http_brought_and_fetches_the_rest(tmp_path: Path, scene: Scenes) -> None:
    """Back up the ladder: half of it lies there from another transport, and BitTorrent checks before it asks."""
    async with slow_swarm(tmp_path, scene) as (found, receiver):
        path = found.thing.path(found.folder)
        path.parent.mkdir(parents=True)
        with path.open("wb") as partial:
            partial.write(found.thing.files["m.bin"][: SIZE // 2])
            partial.truncate(SIZE)
        del found.parts.transports["aria2"]

        await found.climb(60)

        assert found.thing.lies_in(found.folder)
        assert found.fetched <= 0.6 * SIZE
        assert receiver.transport.stats().torrents[0].state == "seeding"
