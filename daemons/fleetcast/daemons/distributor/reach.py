"""Whether sources are alive: a complete one is asked for a word before a transfer is handed over to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

from fleetcast.events.content import Content
from fleetcast.transport.ladder import ENDPOINTS, complete_sources
from fleetcast.transport.protocol import Source

ASKED = 8
"""Sources that are asked for one transport: one that answers is enough."""
_WORD_BYTES = 256
_SSH_PORT = 22
_RSYNC_PORT = 873


async def live_sources(transport: str, sources: Iterable[Source], content: Content, seconds: float) -> int:
    """How many of the complete sources answer for *transport* within *seconds*; eight are asked at most."""
    asked = complete_sources(transport, sources)[:ASKED]
    digest = content.files[0].sha256
    answers = await asyncio.gather(
        *(_answers(transport, ENDPOINTS[transport](s) or "", digest, seconds) for s in asked)
    )
    return sum(answers)


async def _answers(transport: str, endpoint: str, digest: str, seconds: float) -> bool:
    ask = {"bittorrent": _accepts, "aria2": _has_file, "rsync": _greets}[transport]
    try:
        async with asyncio.timeout(seconds):
            return await ask(endpoint, digest)
    except (OSError, ValueError, asyncio.IncompleteReadError):
        return False


async def _accepts(endpoint: str, _digest: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    async with _opened(host.strip("[]"), int(port)):
        return True


async def _has_file(endpoint: str, digest: str) -> bool:
    """A node that hangs accepts connections all the same, so it is asked for the head of the file."""
    url = urlsplit(f"{endpoint}/c/{digest}")
    async with _opened(url.hostname or "", url.port or 80) as (reader, writer):
        writer.write(f"HEAD {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read(_WORD_BYTES)).startswith(b"HTTP/1.1 200")


async def _greets(endpoint: str, _digest: str) -> bool:
    url = urlsplit(endpoint)
    port = url.port or (_SSH_PORT if url.scheme == "ssh" else _RSYNC_PORT)
    async with _opened(url.hostname or "", port) as (reader, _):
        return (await reader.read(_WORD_BYTES)).startswith((b"SSH-", b"@RSYNCD:"))


@contextlib.asynccontextmanager
async def _opened(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
