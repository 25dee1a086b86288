"""A server over one file, and who asks it."""

import asyncio
import hashlib
import http.client
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fleetcast.config.settings import HttpSettings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.transport.serve import StoreServer

NAME = "with space/täg.pt"


@dataclass(frozen=True)
class Shelf:
    """A server over one file that is also an artifact's only file."""

    server: StoreServer
    data: bytes
    content: Content
    sha256: str

    @property
    def url(self) -> str:
        return f"{self.server.endpoint}/c/{self.sha256}"


def content_of(data: bytes) -> Content:
    digest = hashlib.sha256(data).hexdigest()
    file = ContentFile(path=NAME, size=len(data), sha256=digest, pieces_root="0" * 64)
    return Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))


def serve(folder: Path, data: bytes, settings: HttpSettings) -> Shelf:
    content = content_of(data)
    digest = content.files[0].sha256
    (folder / digest).write_bytes(data)
    artifacts = {content.artifact: content}
    server = StoreServer(
        settings,
        bind="127.0.0.1",
        advertise="127.0.0.1",
        find=lambda sha256: folder / sha256 if (folder / sha256).exists() else None,
        content_of=artifacts.get,
    )
    return Shelf(server, data, content, digest)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(url: str, method: str = "GET", **headers: str) -> Reply:
    """One request through the standard library's client, in a thread."""

    def talk() -> Reply:
        parts = urlsplit(url)
        client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            client.putrequest(method, parts.path, skip_accept_encoding=True)
            for name, value in headers.items():
                client.putheader(name.replace("_", "-"), value)
            client.endheaders()
            answer = client.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            client.close()

    return await asyncio.to_thread(talk)


async def say(shelf: Shelf, raw: bytes) -> bytes:
    """Send bytes and read until the server hangs up."""
    parts = urlsplit(shelf.server.endpoint)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(raw)
        async with asyncio.timeout(30):
            return await reader.read(-1)
    finally:
        writer.close()


async def connect(shelf: Shelf, host: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect from an address of one's own."""
    parts = urlsplit(shelf.server.endpoint)
    return await asyncio.open_connection(parts.hostname, parts.port, local_addr=(host, 0))


def get(shelf: Shelf, *headers: str) -> bytes:
    return "\r\n".join([f"GET {urlsplit(shelf.url).path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


async def serving(folder: Path, data: bytes, **settings: float) -> Shelf:
    made = serve(folder, data, HttpSettings(port=0, **settings))
    await made.server.start()
    return made
