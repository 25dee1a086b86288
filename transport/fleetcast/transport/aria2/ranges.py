"""Reads one range of one file from one mirror: what probes a mirror, and what finds the one that lied.

Bounded in every way: the answer must be exactly the range asked for (RFC 9110, 14.4), of a file of the right size, and
every step has its time. No redirects, no proxies, nothing kept.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

_CHUNK = 256 * 1024
_MAX_HEAD = 16 * 1024


class MirrorFault(Exception):
    """A mirror did not send what it was asked for.

    Attributes:
        answers: it accepted the connection.
    """

    def __init__(self, reason: str, *, answers: bool) -> None:
        super().__init__(reason)
        self.answers = answers


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for each step, and bytes per second that must come after as many seconds."""

    seconds: float
    floor: int


async def read_range(url: str, start: int, stop: int, size: int, patience: Patience) -> AsyncGenerator[bytes, None]:
    """Yield the bytes from *start* up to, and without, *stop* of the file at *url*, which has *size* bytes.

    Raises:
        MirrorFault: it is not reached, says something else, or is too slow.
    """
    reader, writer = await _connect(url, patience)
    try:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        writer.write(http.send(_request(url, start, stop)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        response = await _event(http, reader, patience)
        if not isinstance(response, h11.Response):
            raise MirrorFault("it hung up", answers=True)
        _check(response, start, stop, size)
        async for chunk in _body(http, reader, stop - start, patience):
            yield chunk
    except h11.ProtocolError as e:
        raise MirrorFault(f"it speaks no HTTP: {e}", answers=True) from e
    except OSError as e:
        raise MirrorFault(f"the connection broke: {e.strerror or e}", answers=True) from e
    finally:
        writer.transport.abort()


async def _connect(url: str, patience: Patience) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(patience.seconds):
            return await asyncio.open_connection(parts.hostname, parts.port or 80)
    except TimeoutError as e:
        raise MirrorFault("it does not answer", answers=False) from e
    except (OSError, UnicodeError) as e:
        raise MirrorFault(f"it cannot be reached: {getattr(e, 'strerror', None) or e}", answers=False) from e


def _request(url: str, start: int, stop: int) -> h11.Request:
    parts = urlsplit(url)
    headers = [("Host", parts.netloc), ("Range", f"bytes={start}-{stop - 1}"), ("Connection", "close")]
    return h11.Request(method="GET", target=parts.path, headers=headers)


async def _event(http: h11.Connection, reader: asyncio.StreamReader, patience: Patience) -> object:
    try:
        async with asyncio.timeout(patience.seconds):
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(_CHUNK))
            return event
    except TimeoutError as e:
        raise MirrorFault(f"no byte in {patience.seconds:g} s", answers=True) from e


def _check(response: h11.Response, start: int, stop: int, size: int) -> None:
    headers = {name: value.decode("latin-1") for name, value in response.headers}
    if response.status_code != 206:
        raise MirrorFault(f"it answers {response.status_code}", answers=True)
    said, expected = headers.get(b"content-range", "nothing"), f"bytes {start}-{stop - 1}/{size}"
    if said != expected:
        raise MirrorFault(f"it offers {said[:80]!r}, not {expected!r}", answers=True)


async def _body(
    http: h11.Connection, reader: asyncio.StreamReader, length: int, patience: Patience
) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    began, count = loop.time(), 0
    while isinstance(event := await _event(http, reader, patience), h11.Data):
        count += len(event.data)
        if count > length:
            raise MirrorFault("it sends more than the range", answers=True)
        yield bytes(event.data)
        elapsed = loop.time() - began
        if count < length and elapsed > patience.seconds and count < patience.floor * elapsed:
            raise MirrorFault(f"it sends {count / elapsed:.0f} bytes per second", answers=True)
    if count < length:
        raise MirrorFault("it sends less than the range", answers=True)


async def range_bytes(url: str, start: int, stop: int, size: int, patience: Patience) -> bytes:
    """Read a small range into memory; see `read_range`."""
    async with contextlib.aclosing(read_range(url, start, stop, size, patience)) as chunks:
        return b"".join([chunk async for chunk in chunks])
