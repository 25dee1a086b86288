"""200 bit flips at random offsets: none of them is ever accepted. Seeded. aria2's are in tests/integration/aria2."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.rsync.conftest import ModuleMaker, module, put_in_store

from fleetcast.transport.errors import TransferError, VerificationFailed
from fleetcast.transport.protocol import Ban, FetchRequest
from fleetcast.transport.rsync import RsyncTransport
from fleetcast.transport.testing import Node, Swarm, Thing, Witness, thing_of

__all__ = ["module"]
FLIPS = 200
PIECE = 16 * 1024
FILE = 4 * PIECE


def flipped(data: bytes, offset: int, bit: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ (1 << bit)]) + data[offset + 1 :]


def small_things(count: int, seed: int) -> list[Thing]:
    draw = random.Random(seed)
    return [thing_of({f"{n}.bin": draw.randbytes(FILE)}, piece_length=PIECE) for n in range(count)]


@pytest_asyncio.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    made = Swarm(tmp_path / "swarm")
    made.root.mkdir()
    yield made
    await made.close()


async def refused(node: Node, liar: Node, thing: Thing) -> bool:
    """Fetch from a liar alone until its wrong bytes were noticed; whether anything wrong was accepted is looked at
    afterwards."""
    fetching = asyncio.create_task(node.fetch(thing, liar.source))
    noticed = asyncio.create_task(_noticed(node, thing))
    await asyncio.wait({fetching, noticed}, return_when=asyncio.FIRST_COMPLETED)
    finished = fetching.done() and not fetching.cancelled() and fetching.exception() is None
    for task in (fetching, noticed):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, TransferError):
            await task
    return not finished


async def _noticed(node: Node, thing: Thing) -> None:
    while not any(t.artifact == thing.artifact and t.failed_bytes for t in node.transport.stats().torrents):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_of_200_bits_flipped_by_bittorrent_seeds_none_is_accepted(swarm: Swarm) -> None:
    things, draw = small_things(FLIPS, seed=1), random.Random(2)
    liar, node = await swarm.node(), await swarm.node()
    for thing in things:
        await liar.seed(thing)
        path = thing.path(liar.folder)
        path.chmod(0o644)
        path.write_bytes(flipped(path.read_bytes(), draw.randrange(FILE), draw.randrange(8)))
    for batch in (things[n : n + 50] for n in range(0, FLIPS, 50)):
        assert all(await asyncio.gather(*(refused(node, liar, thing) for thing in batch)))
    assert not any(thing.lies_in(node.folder) for thing in things if thing.path(node.folder).exists())


@pytest.mark.asyncio
async def test_of_200_bits_flipped_by_rsync_sources_none_is_accepted(module: ModuleMaker, tmp_path: Path) -> None:
    draw = random.Random(3)
    bundle = thing_of({f"{n}.bin": draw.randbytes(FILE) for n in range(FLIPS)}, piece_length=PIECE)
    liar = module("liar")
    put_in_store(bundle, liar.store)
    for file in bundle.content.files:
        blob = liar.store / "sha256" / file.sha256[:2] / file.sha256
        blob.write_bytes(flipped(blob.read_bytes(), draw.randrange(FILE), draw.randrange(8)))
    bans: list[tuple[str, Ban]] = []
    staging, folder = tmp_path / "staging", tmp_path / "to"
    staging.mkdir()
    transport = RsyncTransport(
        liar.settings, staging=staging, on_banned=lambda artifact, ban: bans.append((artifact, ban))
    )
    await transport.start()
    witness = Witness(bundle, folder)
    try:
        request = FetchRequest("t1", bundle.artifact, bundle.content, bundle.metainfo, folder, (liar.source,))
        with pytest.raises((TransferError, VerificationFailed)):
            await transport.fetch(request, witness)
    finally:
        await transport.close()
    assert not witness.verifier.complete
    assert {ban.peer for _, ban in bans} == {"liar"}
