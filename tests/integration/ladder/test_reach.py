"""Whether a source is alive is asked of it, for every transport in its own way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.integration.ladder.conftest import thing

from fleetcast.daemons.distributor.reach import live_sources
from fleetcast.transport.protocol import Source

pytestmark = pytest.mark.asyncio

IT = thing()
FOUND = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
GONE = b"HTTP/1.1 404 Not Found\r\n\r\n"


@contextlib.asynccontextmanager
async def speaker(words: bytes | None) -> AsyncIterator[str]:
    """`host:port` of a server that says *words* to everybody who connects; None: it accepts and is silent."""
    talking: list[asyncio.StreamWriter] = []

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.append(writer)
        if words is not None:
            writer.write(words)
            await writer.drain()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in talking:
            writer.close()


def source(transport: str, address: str, *, complete: bool = True) -> Source:
    where = {"bittorrent": "bt", "aria2": "http", "rsync": "rsync"}[transport]
    endpoint = {"bt": address, "http": f"http://{address}/secret", "rsync": f"ssh://fleetcast@{address}"}[where]
    return Source("n", complete=complete, **{where: endpoint})


@pytest.mark.parametrize(
    ("transport", "words", "alive"),
    [
        ("aria2", FOUND, 1),
        ("aria2", GONE, 0),
        ("aria2", None, 0),
        ("rsync", b"SSH-2.0-OpenSSH_9.2\r\n", 1),
        ("rsync", b"@RSYNCD: 31.0\n", 1),
        ("rsync", None, 0),
        ("bittorrent", None, 1),
    ],
)
async def test_a_source_is_alive_when_it_says_the_right_word(transport: str, words: bytes | None, alive: int) -> None:
    async with speaker(words) as address:
        assert (
            await live_sources(transport, [source(transport, address)], IT.content, 0.5 if not alive else 10) == alive
        )


@pytest.mark.parametrize("transport", ["bittorrent", "aria2", "rsync"])
async def test_where_nobody_listens_nobody_is_alive(transport: str) -> None:
    async with speaker(None) as address:
        pass
    assert await live_sources(transport, [source(transport, address)], IT.content, 5) == 0


async def test_a_node_that_holds_only_a_part_is_not_asked() -> None:
    async with speaker(FOUND) as address:
        assert await live_sources("aria2", [source("aria2", address, complete=False)], IT.content, 5) == 0


async def test_an_endpoint_that_makes_no_sense_is_not_alive() -> None:
    assert await live_sources("aria2", [Source("n", http="http://[::1", complete=True)], IT.content, 5) == 0
    assert await live_sources("bittorrent", [Source("n", bt="nonsense", complete=True)], IT.content, 5) == 0
