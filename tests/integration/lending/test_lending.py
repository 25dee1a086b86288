"""Receivers that borrow from the one node that has everything, with libtorrent on loopback."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from fleetcast.config.settings import HttpSettings
from fleetcast.transport.bittorrent.wire import peer_tag
from fleetcast.transport.errors import TransferStalled
from fleetcast.transport.lending import desk
from fleetcast.transport.lending.desk import Lendable, LendingDesk
from fleetcast.transport.lending.lender import Lender
from fleetcast.transport.protocol import Source
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.testing import Node, Swarm, Thing, Witness, thing_of, until

pytestmark = pytest.mark.asyncio
SLOW_BYTES_PER_SECOND = 8 * 2**20


@pytest.fixture
def model() -> Thing:
    """A bundle of 8 MiB whose files end within a piece."""
    return thing_of({"model.onnx": os.urandom(6 * 2**20 + 77), "data/weights.bin": os.urandom(2 * 2**20 + 20_000)})


@pytest_asyncio.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    made = Swarm(tmp_path)
    yield made
    await made.close()


class Origin:
    """The node that has everything, with its file server."""

    def __init__(self, node: Node, find: Callable[[str], Lendable | None]) -> None:
        self.node, self._find = node, find
        self.server = self._server(0, None)

    def _server(self, port: int, capability: str | None) -> StoreServer:
        return StoreServer(
            HttpSettings(port=port),
            bind="127.0.0.1",
            advertise="127.0.0.1",
            find=lambda _: None,
            capability=capability,
            desk=LendingDesk(self._find),
        )

    @property
    def source(self) -> Source:
        return Source("origin", self.node.transport.endpoint, http=self.server.endpoint, complete=True)

    async def die_and_come_back(self) -> None:
        """Drop every connection and forget who borrowed what."""
        port, capability = int(self.server.endpoint.rsplit(":", 1)[1].split("/")[0]), self.server.endpoint[-32:]
        sent = self.server.sent_bytes
        await self.server.close()
        self.server = self._server(port, capability)
        self.server.sent_bytes = sent
        await self.server.start()


@contextlib.asynccontextmanager
async def origin_of(
    swarm: Swarm, thing: Thing, find: Callable[[str], Lendable | None] | None = None
) -> AsyncIterator[Origin]:
    node = await swarm.node()
    await node.seed(thing)
    origin = Origin(node, find or node.transport.lendable)
    await origin.server.start()
    try:
        yield origin
    finally:
        await origin.server.close()


async def fetch_all(nodes: list[Node], thing: Thing, origin: Source) -> list[Witness]:
    fetches = (node.fetch(thing, origin, *(n.source for n in nodes[:i])) for i, node in enumerate(nodes))
    return await asyncio.gather(*fetches)


def by_peers(origin: Origin) -> int:
    """Bytes that the origin sent as an ordinary peer."""
    return sum(torrent.uploaded_bytes for torrent in origin.node.transport.stats().torrents)


async def test_three_receivers_cost_the_origin_the_file_once(swarm: Swarm, model: Thing) -> None:
    async with origin_of(swarm, model) as origin:
        nodes = [await swarm.node() for _ in range(3)]
        seen = await fetch_all(nodes, model, origin.source)
        assert all(model.lies_in(node.folder) for node in nodes)
        assert model.size <= origin.server.sent_bytes <= 1.15 * model.size
        assert by_peers(origin) == 0
        assert sum(w.last.bytes_by_source.get("origin", 0) for w in seen) >= model.size


async def test_a_lender_that_hands_everybody_everything_would_be_caught(
    swarm: Swarm, model: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of the test above."""
    pieces = sum(-(-len(data) // model.piece_length) for data in model.files.values())
    alone: dict[str, Lender] = {}
    borrow = Lender.borrow

    def to_each(_: Lender, borrower: str, have: int, now: float, most: int) -> tuple[int, ...]:
        return borrow(alone.setdefault(borrower, Lender(pieces, 0)), borrower, have, now, most)

    monkeypatch.setattr(Lender, "borrow", to_each)
    async with origin_of(swarm, model) as origin:
        nodes = [await swarm.node() for _ in range(3)]
        await fetch_all(nodes, model, origin.source)
        assert origin.server.sent_bytes > 1.15 * model.size


async def test_a_lender_that_refuses_is_asked_as_a_peer(swarm: Swarm, model: Thing) -> None:
    async with origin_of(swarm, model, find=lambda _: None) as origin:
        node = await swarm.node()
        seen = await node.fetch(model, origin.source)
        assert model.lies_in(node.folder)
        assert seen.last.bytes_by_source == {"origin": model.size}


async def test_a_lender_that_nobody_answers_for_is_asked_as_a_peer(swarm: Swarm, model: Thing) -> None:
    async with origin_of(swarm, model) as origin:
        source = origin.source
        await origin.server.close()
        node = await swarm.node()
        await node.fetch(model, source)
        assert model.lies_in(node.folder)


async def test_a_lender_that_forgets_everything_goes_on_from_what_is_there(swarm: Swarm, model: Thing) -> None:
    async with origin_of(swarm, model) as origin:
        origin.server.limit(SLOW_BYTES_PER_SECOND)
        nodes = [await swarm.node() for _ in range(2)]
        fetching = asyncio.create_task(fetch_all(nodes, model, origin.source))
        await until(lambda: origin.server.sent_bytes > model.size // 2, 60)
        await origin.die_and_come_back()
        await fetching
        assert all(model.lies_in(node.folder) for node in nodes)


async def lose_a_borrower(swarm: Swarm, model: Thing, seconds: float) -> None:
    async with origin_of(swarm, model) as origin:
        origin.server.limit(SLOW_BYTES_PER_SECOND)
        stays, dies = await swarm.node(), await swarm.node()
        lost = asyncio.create_task(dies.fetch(model, origin.source))
        await until(lambda: origin.server.sent_bytes > model.size // 4, 60)
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        async with asyncio.timeout(seconds):
            await stays.fetch(model, origin.source)
        assert model.lies_in(stays.folder)


async def test_what_a_dead_borrower_took_with_it_is_lent_again(swarm: Swarm, model: Thing) -> None:
    await lose_a_borrower(swarm, model, 60)


@pytest.mark.soak
async def test_a_lender_that_counts_on_the_dead_would_be_caught(
    swarm: Swarm, model: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of the test above."""
    monkeypatch.setattr(Lender, "_forget_lost", lambda *_: None)
    monkeypatch.setattr(Lender, "_second", lambda *_: ())
    monkeypatch.setattr(desk, "STARVE_SECONDS", 1e6)
    with pytest.raises((TimeoutError, TransferStalled)):
        await lose_a_borrower(swarm, model, 10)


async def test_wrong_pieces_are_noticed_and_their_lender_is_banned(swarm: Swarm, model: Thing) -> None:
    async with origin_of(swarm, model) as origin:
        for name in model.files:
            path = model.path(origin.node.folder, name)
            path.chmod(0o644)
            path.write_bytes(os.urandom(path.stat().st_size))
        node = await swarm.node()
        fetching = asyncio.create_task(node.fetch(model, origin.source))
        await until(lambda: any(t.banned for t in node.transport.stats().torrents), 30)
        (torrent,) = node.transport.stats().torrents
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        assert torrent.banned == (origin.node.transport.endpoint,)
        assert origin.server.sent_bytes <= 4 * 2**20


async def test_requests_that_are_none_of_a_borrower_are_refused(swarm: Swarm, model: Thing) -> None:
    async with origin_of(swarm, model) as origin:
        host, port = origin.server.endpoint.removeprefix("http://").split("/")[0].split(":")
        for path, more in (
            (f"/{'0' * 32}/l/{model.artifact}", f"Fleetcast-Borrower: {peer_tag('x')}\r\nFleetcast-Have: \r\n"),
            (f"/{origin.server.endpoint[-32:]}/l/{model.artifact}", ""),
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{more}\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 405")
            writer.close()
            await writer.wait_closed()
