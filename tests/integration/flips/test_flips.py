"""200 bit flips at random offsets: none of them is ever accepted. Seeded. aria2's are in tests/integration/aria2.

Beside each test stands its broken variant, in which nobody compares what came with what should have come.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.rsync.conftest import ModuleMaker, Server, module, put_in_store
from tests.system.faults.variants import break_here

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


async def refused(node: Node, liar: Node, thing: Thing, *, trust: bool = False) -> bool:
    """Fetch from a liar alone until its wrong bytes were noticed; whether anything wrong was accepted is looked at
    afterwards."""
    witness = Witness(thing, node.folder, trust=trust)
    fetching = asyncio.create_task(node.fetch(thing, liar.source, witness=witness))
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


async def seed_flipped(liar: Node, things: list[Thing]) -> None:
    """Let a node seed things with one wrong bit in each."""
    draw = random.Random(2)
    for thing in things:
        await liar.seed(thing)
        path = thing.path(liar.folder)
        path.chmod(0o644)
        path.write_bytes(flipped(path.read_bytes(), draw.randrange(FILE), draw.randrange(8)))


@pytest.mark.asyncio
async def test_of_200_bits_flipped_by_bittorrent_seeds_none_is_accepted(swarm: Swarm) -> None:
    things = small_things(FLIPS, seed=1)
    liar, node = await swarm.node(), await swarm.node()
    await seed_flipped(liar, things)
    for batch in (things[n : n + 50] for n in range(0, FLIPS, 50)):
        assert all(await asyncio.gather(*(refused(node, liar, thing) for thing in batch)))
    assert not any(thing.lies_in(node.folder) for thing in things if thing.path(node.folder).exists())


@pytest.mark.asyncio
async def test_a_node_that_believes_bittorrent_seeds_accepts_flipped_bits(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_here(monkeypatch, "believes what it is sent")
    things = small_things(10, seed=1)
    liar, node = await swarm.node(), await swarm.node()
    await seed_flipped(liar, things)
    assert not any(await asyncio.gather(*(refused(node, liar, thing, trust=True) for thing in things)))
    assert not any(thing.lies_in(node.folder) for thing in things)


@dataclass
class Flipped:
    """A bundle of FLIPS files, an rsync source that has one wrong bit in each, and who fetches it."""

    bundle: Thing
    liar: Server
    staging: Path
    folder: Path
    bans: list[Ban] = field(default_factory=list)

    async def fetch(self, witness: Witness) -> None:
        transport = RsyncTransport(
            self.liar.settings, staging=self.staging, on_banned=lambda _artifact, ban: self.bans.append(ban)
        )
        await transport.start()
        bundle = self.bundle
        try:
            request = FetchRequest(
                "t1", bundle.artifact, bundle.content, bundle.metainfo, self.folder, (self.liar.source,)
            )
            await transport.fetch(request, witness)
        finally:
            await transport.close()


@pytest.fixture
def flipped_bundle(module: ModuleMaker, tmp_path: Path) -> Flipped:
    draw = random.Random(3)
    bundle = thing_of({f"{n}.bin": draw.randbytes(FILE) for n in range(FLIPS)}, piece_length=PIECE)
    liar = module("liar")
    put_in_store(bundle, liar.store)
    for file in bundle.content.files:
        blob = liar.store / "sha256" / file.sha256[:2] / file.sha256
        blob.write_bytes(flipped(blob.read_bytes(), draw.randrange(FILE), draw.randrange(8)))
    (tmp_path / "staging").mkdir()
    return Flipped(bundle, liar, tmp_path / "staging", tmp_path / "to")


@pytest.mark.asyncio
async def test_of_200_bits_flipped_by_rsync_sources_none_is_accepted(flipped_bundle: Flipped) -> None:
    witness = Witness(flipped_bundle.bundle, flipped_bundle.folder)
    with pytest.raises((TransferError, VerificationFailed)):
        await flipped_bundle.fetch(witness)
    assert not witness.verifier.complete
    assert {ban.peer for ban in flipped_bundle.bans} == {"liar"}


@pytest.mark.asyncio
async def test_a_node_that_believes_rsync_sources_accepts_flipped_bits(flipped_bundle: Flipped) -> None:
    bundle = flipped_bundle.bundle
    await flipped_bundle.fetch(Witness(bundle, flipped_bundle.folder, trust=True))
    came = {name: bundle.path(flipped_bundle.folder, name).read_bytes() for name in bundle.files}
    assert not any(came[name] == data for name, data in bundle.files.items())
    assert flipped_bundle.bans == []
