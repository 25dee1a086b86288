"""Peers that lie, say nothing, or are not heard any more."""

import asyncio
import base64
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from tests.system.faults.stage import RATE, Stage, random_bytes, stage, throttled

from fleetcast.config.settings import BittorrentSettings
from fleetcast.events.payloads import ArtifactAvailable, Endpoints, PeerBanned
from fleetcast.events.state import PeerNotice, peer_subject
from fleetcast.transport.bittorrent import BittorrentTransport

pytestmark = pytest.mark.asyncio
MAX_WASTED_RATIO = 1.0
"""What a liar may cost a receiver, over the size. libtorrent keeps the blocks of a peer that it has banned, so every
piece that one of them is in fails once, whoever brings the rest: the size at worst. What the liar sends alone until its
first piece is hashed is little at LIAR_RATE."""
LIAR_RATE = 2 * RATE


async def offered(s: Stage, model: str = "m") -> ArtifactAvailable:
    """The offer of a model, once it is made."""
    async with asyncio.timeout(20):
        while True:
            for event in await s.fleet.events(f"fc.ev.artifact.available.{model}"):
                if isinstance(event.payload, ArtifactAvailable):
                    return event.payload
            await asyncio.sleep(0.02)


async def join(s: Stage, artifact: str, node: str, endpoints: Endpoints) -> None:
    """Say that somebody is in the swarm and holds it all, as any node on the bus can."""
    notice = PeerNotice(artifact=artifact, node=node, endpoints=endpoints, complete=True)
    await s.fleet.bus.send(peer_subject(artifact), notice.model_dump_json().encode())


@contextlib.asynccontextmanager
async def liar(folder: Path, offer: ArtifactAvailable, seed: int) -> AsyncIterator[BittorrentTransport]:
    """A real libtorrent that says it has everything, and holds a file of the same size with other bytes."""
    assert offer.content is not None
    assert offer.metainfo_b64 is not None
    (file,) = offer.content.files
    path = folder / offer.artifact[:16] / file.path
    path.parent.mkdir(parents=True)
    path.write_bytes(random_bytes(file.size, seed))
    transport = BittorrentTransport(BittorrentSettings(port=0), "127.0.0.1", "127.0.0.1")
    await transport.start()
    transport.limit(None, LIAR_RATE)
    try:
        await transport.seed(offer.artifact, offer.content, base64.b64decode(offer.metainfo_b64), folder)
        yield transport
    finally:
        await transport.close()


async def bans(s: Stage, peer: str) -> list[PeerBanned]:
    """All bans there are, once *peer* is among them."""
    async with asyncio.timeout(30):
        while True:
            events = await s.fleet.events("fc.ev.peer.banned.*")
            said = [e.payload for e in events if isinstance(e.payload, PeerBanned)]
            if peer in {ban.peer for ban in said}:
                return said
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def nobody_fetching(s: Stage, origin: str = "node-1") -> Iterator[None]:
    """A time in which the receivers stand still: whoever joins now is there before the first byte moves."""
    with contextlib.ExitStack() as all_of_them:
        for name in s.fleet.nodes:
            if name != origin:
                all_of_them.enter_context(stopped(s, name))
        yield


async def test_a_peer_that_sends_other_bytes_is_banned_and_named_and_no_byte_of_it_stays(
    tmp_path: Path, bound: float
) -> None:
    async with stage(tmp_path, nodes=3) as s, contextlib.AsyncExitStack() as to_the_end:
        with nobody_fetching(s):
            await s.promote("m", "1")
            offer = await offered(s)
            evil = await to_the_end.enter_async_context(liar(tmp_path / "liar", offer, seed=99))
            await join(s, offer.artifact, "evil", Endpoints(bt=evil.endpoint))
        await s.until_served()

        # Pieces that an honest peer had a part in count against it too: libtorrent cannot tell whose block was wrong.
        said = await bans(s, "evil")
        print(*said, sep="\n")  # shown when the test fails
        assert {b.transport for b in said} == {"bittorrent"}
        most = MAX_WASTED_RATIO * len(s.promoted["m"].data)
        assert all(0 < b.bytes_wasted <= most for b in said)
        await s.check_aftermath(limit_seconds=bound, ratio=1.1 + MAX_WASTED_RATIO)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address that takes connections and says nothing, ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def test_peers_that_never_speak_hold_nobody_up(tmp_path: Path, bound: float, black_hole: str) -> None:
    async with stage(tmp_path, nodes=3) as s:
        await s.promote("m", "1")
        offer = await offered(s)
        for n in range(4):
            http = f"http://{black_hole}/capability{n}"
            await join(s, offer.artifact, f"hole-{n}", Endpoints(bt=black_hole, http=http))
        await s.until_served()
        await s.check_aftermath(limit_seconds=bound)


async def test_a_receiver_whose_packets_stop_holds_nobody_up_and_finishes_when_they_flow_again(
    tmp_path: Path, bound: float
) -> None:
    async with stage(tmp_path, nodes=3) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.3, "node-3")
        with s.without_source("node-3"), stopped(s, "node-3"):
            await s.until_served("node-1", "node-2")
            assert s.fleet.current("m")["node-3"] is None
        await s.until_served()
        await s.check_aftermath(limit_seconds=bound)


@contextlib.contextmanager
def stopped(s: Stage, name: str) -> Iterator[None]:
    """A node whose processes stand still: to the others it looks like one whose packets are dropped."""
    process = s.node(name).process
    assert process is not None
    members = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in members:
        member.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGCONT)


async def test_a_gap_that_nothing_excuses_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: the only source stands still, and the test does not say so."""
    async with stage(tmp_path, nodes=2, settings=throttled(RATE)) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.3, "node-2")
        with stopped(s, "node-1"):
            await s.let_pass(3)
        await s.until_served()
        with pytest.raises(AssertionError, match="node-2 stood still"):
            await s.check_aftermath(limit_seconds=2)
