"""For tests: mirrors that serve an artifact by HTTP ranges and misbehave in one way. Real sockets, no aria2 needed."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from fleetcast.transport.protocol import Source


class Manner(StrEnum):
    """How a mirror behaves."""

    HONEST = "honest"
    BLACK_HOLE = "black hole"
    """It accepts connections and never says a word."""
    DRIPS = "drips"
    """Right headers, then some bytes a second, for ever."""
    MISSING = "missing"
    """404 for everything."""
    BACKWARDS = "backwards"
    """416 for every range."""
    DEAF_TO_RANGES = "deaf to ranges"
    """200 and the whole file, whatever was asked."""


@dataclass
class MirrorServer:
    """A mirror of files by path; an async context manager. `manner` may change while it runs.

    Attributes:
        spoil: changes what is sent: (path, offset of the first byte, bytes) to bytes.
        pace: bytes per second of each connection; None for no limit.
        sent: bytes of bodies that were sent.
        ranges: what was asked for, (path, start, stop).
    """

    files: Mapping[str, bytes] = field(repr=False)
    node: str = "mirror"
    host: str = "127.0.0.1"
    manner: Manner = Manner.HONEST
    spoil: Callable[[str, int, bytes], bytes] = lambda _path, _at, data: data
    pace: int | None = None
    sent: int = 0
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _talks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, self.host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.vanish()

    async def vanish(self) -> None:
        """Stop listening and break every connection, as a node that loses its power."""
        if self._server is None:
            return
        self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        self._server = None

    async def silence(self) -> None:
        """Wait until nobody is talked to."""
        await asyncio.gather(*self._talks, return_exceptions=True)

    @property
    def source(self) -> Source:
        """Where it is."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return Source(self.node, http=f"http://{self.host}:{port}/{32 * '0'}", complete=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._talk(reader, writer), name=f"{self.node} talks")
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while head := await reader.readuntil(b"\r\n\r\n"):
                    self.asked.set()
                    await self._answer(head.decode("latin-1"), writer)
        finally:
            writer.transport.abort()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        if self.manner is Manner.BLACK_HOLE:
            await asyncio.Event().wait()
        path = head.split()[1].split("/", 5)[-1]
        data = self.files.get(path)
        if data is None or self.manner is Manner.MISSING:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif self.manner is Manner.BACKWARDS:
            writer.write(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
        else:
            await self._send(path, data, _range(head, len(data)), writer)
        await writer.drain()

    async def _send(self, path: str, data: bytes, span: tuple[int, int], writer: asyncio.StreamWriter) -> None:
        start, stop = (0, len(data)) if self.manner is Manner.DEAF_TO_RANGES else span
        self.ranges.append((path, start, stop))
        whole = self.manner is Manner.DEAF_TO_RANGES
        status = "200 OK" if whole else f"206 Partial Content\r\nContent-Range: bytes {start}-{stop - 1}/{len(data)}"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {stop - start}\r\n\r\n".encode())
        loop = asyncio.get_running_loop()
        at, began = start, loop.time()
        while at < stop:
            step = 64 if self.manner is Manner.DRIPS else 16 * 1024
            chunk = self.spoil(path, at, data[at : min(at + step, stop)])
            writer.write(chunk)
            await writer.drain()
            at, self.sent = at + len(chunk), self.sent + len(chunk)
            pace = 64 if self.manner is Manner.DRIPS else self.pace
            if pace is not None:
                await asyncio.sleep(max(0.0, (at - start) / pace - (loop.time() - began)))


def _range(head: str, size: int) -> tuple[int, int]:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "range":
            first, _, last = value.strip().removeprefix("bytes=").partition("-")
            return int(first), min(int(last) + 1, size) if last else size
    return 0, size
