"""A connection that is read in large pieces, over loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fleetcast.transport.bittorrent import line as lines
from fleetcast.transport.bittorrent.line import ENOUGH_BYTES, Line

pytestmark = pytest.mark.asyncio
PACKET = 1024
PACKETS = 4 * ENOUGH_BYTES // PACKET
Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def line_to(say: Say, stall_seconds: float = 30.0) -> AsyncIterator[Line]:
    """A line to somebody who says something and then waits for the other side to hang up."""

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await say(reader, writer)
            await reader.read()
        writer.close()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    line = await Line.open(host, port, stall_seconds)
    try:
        yield line
    finally:
        line.close()
        await served.wait()
        await asyncio.sleep(0)
        server.close()


def said(*chunks: bytes) -> Say:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()

    return say


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Packet by packet, each time letting the reader have a look."""
    for _packet in range(PACKETS):
        writer.write(bytes(PACKET))
        await writer.drain()
        for _turn in range(5):
            await asyncio.sleep(0)


async def times_woken(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(lines, "LOOK_SECONDS", 30.0)
    async with line_to(drip) as line:
        return len([chunk async for chunk in line.body(PACKETS * PACKET)])


async def test_a_reader_is_woken_for_much_and_not_for_every_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await times_woken(monkeypatch) <= 6


async def test_a_reader_that_is_woken_for_every_packet_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant of the test above."""
    monkeypatch.setattr(Line, "_wait_for", lambda _line, _enough: None)
    assert await times_woken(monkeypatch) > 6


async def test_a_head_and_the_bodies_after_it_arrive_as_they_were_sent() -> None:
    body = bytes(range(256)) * 1024
    first, second = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
    async with line_to(said(first + body[:10], body[10:], second)) as line:
        assert await line.head(1024) == first
        assert b"".join([chunk async for chunk in line.body(len(body))]) == body
        assert await line.head(1024) == second


async def test_what_is_too_little_to_be_woken_for_is_taken_after_a_while() -> None:
    async with line_to(said(b"first", b"then nothing more")) as line:
        body = line.body(10 * ENOUGH_BYTES)
        seen = b""
        while len(seen) < len(b"firstthen nothing more"):
            seen += await anext(body)
        assert seen == b"firstthen nothing more"


async def test_a_sender_that_falls_silent_is_given_up() -> None:
    async with line_to(said(b"a")) as line:
        body = line.body(ENOUGH_BYTES)
        assert await anext(body) == b"a"
        line._stall_seconds = 0.0
        with pytest.raises(TimeoutError):
            await anext(body)


async def test_a_sender_that_hangs_up_is_noticed() -> None:
    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        writer.close()

    async with line_to(leave) as line:
        with pytest.raises(EOFError):
            async for _ in line.body(ENOUGH_BYTES):
                pass


async def test_a_head_without_an_end_is_refused() -> None:
    async with line_to(said(b"x" * 2048)) as line:
        with pytest.raises(ValueError, match="without an end"):
            await line.head(1024)
