"""Serves the store over HTTP/1.1 ranges, with sendfile (RFC 9110, RFC 9112, ADR 0010).

`/<capability>/c/<sha256>` is a file by its digest; `/<capability>/a/<artifact>/<artifact16>/<path>` is a file of an
artifact, in the form that BitTorrent web seeds (BEP 19) and aria2 need. `POST /<capability>/l/<artifact>` borrows
pieces (`lending`), `POST /<capability>/r/<token>` asks for a rate (`pacing`). Whoever knows the capability, 128 random
bits, may read; nothing can be listed. No part of a URL ever becomes a path: files are found by digest and record only.
"""

import asyncio
import contextlib
import hmac
import os
import secrets
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from io import FileIO
from pathlib import Path
from typing import cast
from urllib.parse import unquote_to_bytes

import h11
import structlog

from fleetcast.config.settings import HttpSettings
from fleetcast.events.content import Content
from fleetcast.transport.capped import Pacer
from fleetcast.transport.errors import CannotListen
from fleetcast.transport.guests import Guest, Guests
from fleetcast.transport.lending.desk import LendingDesk, Loan, borrower_of
from fleetcast.transport.metainfo import torrent_name
from fleetcast.transport.pacing import SENT, Full, Paced, Paces
from fleetcast.transport.spans import Span, Unsatisfiable, wanted_span

MAX_REQUEST_BYTES = 16 * 1024
"""Request line and headers together; the longest path that is served takes under 2 KiB."""
SLICE_BYTES = 2**20
"""Bytes that a reader must take within `idle_seconds`; with 30 s that is 35 kB/s."""
BACKLOG = 512
ACCEPT_PAUSE_SECONDS = 0.1
"""Pause after accept() failed, e.g. for want of descriptors."""
TURNED_AWAY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_READ = 8 * 1024
_DIGEST_LENGTH = 64
_HEX = frozenset("0123456789abcdef")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a URL names, open: its digest, its size in bytes."""

    sha256: str
    size: int
    file: FileIO


def new_capability() -> str:
    """A path segment that nobody can guess: 128 random bits, 32 hexadecimal digits."""
    return secrets.token_hex(16)


class StoreServer:
    """The file server of a node.

    Args:
        bind: address to listen on; `0.0.0.0` for all.
        advertise: address by which others reach this node; part of `endpoint`.
        find: where the file with a SHA-256 lies; None when it is not here.
        content_of: the content of an artifact; None when it is not here. Without it only `/c/` is served.
        capability: the secret first part of every path, from `new_capability`; None: a fresh one.
        desk: lends pieces; None: nobody can borrow here.
    """

    def __init__(
        self,
        settings: HttpSettings,
        *,
        bind: str,
        advertise: str,
        find: Callable[[str], Path | None],
        content_of: Callable[[str], Content | None] | None = None,
        capability: str | None = None,
        desk: LendingDesk | None = None,
    ) -> None:
        self._settings, self._bind = settings, bind
        self._host = f"[{advertise}]" if ":" in advertise else advertise
        self._find, self._content_of = find, content_of
        self._capability = capability or new_capability()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._guests = Guests(settings.max_connections_per_client, settings.requests_per_second)
        self._pacer = Pacer()
        self._paces = Paces(self._capability)
        self._desk = desk
        self.sent_bytes = 0

    @property
    def endpoint(self) -> str:
        """Base URL that others reach the store by: `http://host:port/<capability>`."""
        assert self._listener is not None
        return f"http://{self._host}:{self._listener.getsockname()[1]}/{self._capability}"

    def limit(self, bytes_per_second: int | None) -> None:
        """Send so much in all at most, from now on; None: no cap."""
        self._pacer.limit(bytes_per_second)

    async def start(self) -> None:
        """Listen.

        Raises:
            CannotListen: the port is taken or not allowed.
        """
        self._listener = _listen(self._bind, self._settings.port)
        self._accepting = asyncio.create_task(self._accept(self._listener), name="http accept")

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._listener is None or self._accepting is None:
            return
        tasks = [self._accepting, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop, room = asyncio.get_running_loop(), asyncio.Semaphore(self._settings.max_connections)
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as e:
                log.warning("http.accept_failed", reason=str(e))
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            with contextlib.ExitStack() as unless_served:
                unless_served.callback(accepted.close)
                self._guests.crowded(now_full=room.locked())
                await room.acquire()
                self._guests.crowded(now_full=False)
                unless_served.pop_all()
            self._let_in(accepted, address[0], room)

    def _let_in(self, accepted: socket.socket, address: str, room: asyncio.Semaphore) -> None:
        guest = self._guests.come(address)
        if guest is None:
            room.release()
            _turn_away(accepted)
            return
        task = asyncio.create_task(self._serve(accepted, guest), name="http connection")
        guest.drop = task.cancel
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda _: guest.leave(time.monotonic()))
        task.add_done_callback(lambda _: room.release())

    async def _serve(self, accepted: socket.socket, guest: Guest) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=accepted)
        except OSError:
            accepted.close()
            return
        try:
            await _Connection(
                reader,
                writer,
                self._settings.idle_seconds,
                self._look_up,
                self._count,
                self._pacer,
                self._paces,
                self._borrowing,
                guest,
            ).run()
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), self._settings.idle_seconds)
        except (TimeoutError, OSError) as e:
            log.debug("http.connection_dropped", reason=type(e).__name__)
        finally:
            # What is still buffered belongs to a reader that is too slow or gone.
            writer.transport.abort()

    def _count(self, sent: int) -> None:
        self.sent_bytes += sent

    def _look_up(self, target: str) -> Found | None:
        """Open the file that *target* names. Blocks for the store's look-up and an open."""
        capability, _, rest = target.removeprefix("/").partition("/")
        if not hmac.compare_digest(capability.encode(), self._capability.encode()):
            return None
        kind, _, name = rest.partition("/")
        sha256 = name if kind == "c" else self._sha256_in_artifact(name) if kind == "a" else None
        if sha256 is None or not _is_digest(sha256):
            return None
        path = self._find(sha256)
        return _open(sha256, path) if path is not None else None

    async def _borrowing(self, target: str, headers: dict[str, str]) -> tuple[LendingDesk, Loan] | None:
        """What the borrower who asks for *target* is to be sent, and who must be told how that went."""
        capability, _, rest = target.removeprefix("/").partition("/")
        kind, _, artifact = rest.partition("/")
        asked = borrower_of(headers)
        if self._desk is None or asked is None or kind != "l" or not _is_digest(artifact):
            return None
        if not hmac.compare_digest(capability.encode(), self._capability.encode()):
            return None
        loan = await self._desk.borrow(artifact, *asked)
        return (self._desk, loan) if loan is not None else None

    def _sha256_in_artifact(self, name: str) -> str | None:
        artifact, _, rest = name.partition("/")
        folder, _, quoted = rest.partition("/")
        if self._content_of is None or not _is_digest(artifact) or folder != torrent_name(artifact):
            return None
        content = self._content_of(artifact)
        path = unquote_to_bytes(quoted)
        files = content.files if content is not None else ()
        return next((f.sha256 for f in files if f.path.encode() == path), None)


class _Connection:
    """One client, request by request. `look_up` blocks and is called in a thread."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        idle_seconds: float,
        look_up: Callable[[str], Found | None],
        count: Callable[[int], None],
        pacer: Pacer,
        paces: Paces,
        borrowing: Callable[[str, dict[str, str]], Awaitable[tuple[LendingDesk, Loan] | None]],
        guest: Guest,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._idle_seconds = idle_seconds
        self._look_up, self._count, self._pacer = look_up, count, pacer
        self._paces, self._borrowing, self._guest = paces, borrowing, guest
        self._bodiless = False
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_BYTES)

    async def run(self) -> None:
        """Answer requests until the client leaves or one of them ends the connection.

        Raises:
            TimeoutError: the client neither asks nor reads.
            OSError: the connection broke.
        """
        while True:
            try:
                request = await self._request()
                if request is None:
                    return
                if pause := self._guest.work(time.monotonic()):
                    await asyncio.sleep(pause)
                await self._answer(request)
            except h11.RemoteProtocolError as e:
                if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                    await self._refuse(e.error_status_hint, "not a request that this server understands")
                return
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self) -> h11.Request | None:
        """Read the next request whole; None when the client is gone. One deadline for all of it stops slow drips."""
        self._guest.rest()
        async with asyncio.timeout(self._idle_seconds):
            request = await self._event()
            if not isinstance(request, h11.Request):
                return None
            # Two ways to say how long a body is are how a request is smuggled; a request here has none.
            if any(name == b"transfer-encoding" for name, _ in request.headers):
                raise h11.RemoteProtocolError("a request with a body", error_status_hint=413)
            self._bodiless = request.method == b"HEAD"
            if not isinstance(await self._event(), h11.EndOfMessage):
                raise h11.RemoteProtocolError("a request with a body", error_status_hint=413)
            return request

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ))
        return event

    async def _answer(self, request: h11.Request) -> None:
        if request.method == b"POST":
            await self._answer_post(request.target.decode("latin-1"), _headers(request))
            return
        if request.method not in {b"GET", b"HEAD"}:
            await self._refuse(405, "only GET and HEAD", [("Allow", "GET, HEAD")])
            return
        found = await asyncio.to_thread(self._look_up, request.target.decode("latin-1"))
        if found is None:
            await self._refuse(404, "nothing here")
            return
        with found.file:
            await self._answer_with(request, found)

    async def _answer_post(self, target: str, headers: dict[str, str]) -> None:
        try:
            sent = self._paces.asked(self._guest.address, target, headers, time.monotonic())
        except Full:
            await self._refuse(503, "too many receivers have rates", [("Retry-After", "1")])
            return
        if sent is not None:
            await self._send(204, [(SENT, str(sent))])
            return
        lent = await self._borrowing(target, headers)
        if lent is None:
            await self._refuse(405, "only GET and HEAD", [("Allow", "GET, HEAD")])
            return
        desk, loan = lent
        try:
            await self._send_loan(desk, loan)
        finally:
            desk.close(loan)

    async def _send_loan(self, desk: LendingDesk, loan: Loan) -> None:
        if not loan.parts:
            await self._send(204, [])
            return
        with contextlib.ExitStack() as stack:
            found = await asyncio.to_thread(_open_parts, loan, stack)
            if found is None:
                await self._refuse(404, "nothing here")
                return
            length = [("Content-Length", str(loan.size)), ("Content-Type", "application/octet-stream")]
            await self._send(200, [*loan.headers, *length], end=False)
            for part, file in zip(loan.parts, found, strict=True):
                await self._send_file(file, Span(part.start, part.stop))
                desk.sent(loan, part)
            self._write(h11.EndOfMessage())

    async def _answer_with(self, request: h11.Request, found: Found) -> None:
        headers = _headers(request)
        size, etag = found.size, f'"{found.sha256}"'
        common = [("ETag", etag), ("Accept-Ranges", "bytes"), ("Content-Type", "application/octet-stream")]
        if headers.get("if-none-match") in {etag, "*"}:
            await self._send(304, common)
            return
        asked = headers.get("range") if headers.get("if-range", etag) == etag else None
        try:
            span = wanted_span(asked, size)
        except Unsatisfiable:
            await self._refuse(416, "no such range", [("Content-Range", f"bytes */{size}")])
            return
        status, whole = (200, Span(0, size)) if span is None else (206, span)
        partial = [("Content-Range", f"bytes {whole.start}-{whole.stop - 1}/{size}")] if span else []
        await self._send(status, [*common, *partial, ("Content-Length", str(len(whole)))], end=False)
        if not self._bodiless:
            paced = self._paces.of(self._guest.address, headers, time.monotonic())
            with paced or contextlib.nullcontext():
                await self._send_file(found.file, whole, paced)
        self._write(h11.EndOfMessage())

    async def _send_file(self, file: FileIO, span: Span, paced: Paced | None = None) -> None:
        loop = asyncio.get_running_loop()
        # h11 keeps count of the body; the bytes themselves go from the file to the socket in the kernel.
        self._http.send_with_data_passthrough(h11.Data(data=cast("bytes", span)))
        start = span.start
        while start < span.stop:
            most = self._pacer.slice_bytes(SLICE_BYTES)
            count = min(paced.pacer.slice_bytes(most) if paced else most, span.stop - start)
            if paced:
                # First: whoever waits for its own turn takes nothing of what all share.
                await paced.pacer.take(count)
                self._paces.sweep(time.monotonic())
            await self._pacer.take(count)
            if self._writer.transport.is_closing():
                raise ConnectionAbortedError("the reader left while it waited for its turn")
            async with asyncio.timeout(self._idle_seconds):
                sent = await loop.sendfile(self._writer.transport, file, start, count)
            self._count(sent)
            if paced:
                paced.sent += sent
            if sent != count:
                raise ConnectionAbortedError("the file is shorter than it was")
            start += count

    async def _refuse(self, status: int, reason: str, headers: list[tuple[str, str]] | None = None) -> None:
        body = f"{reason}\n".encode()
        more = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        await self._send(status, [*(headers or []), *more], body=body)

    async def _send(self, status: int, headers: list[tuple[str, str]], *, body: bytes = b"", end: bool = True) -> None:
        phrase = HTTPStatus(status).phrase
        response = h11.Response(
            status_code=status, reason=phrase, headers=[("Date", formatdate(usegmt=True)), *headers]
        )
        self._write(response)
        if body and not self._bodiless:
            self._write(h11.Data(data=body))
        if end:
            self._write(h11.EndOfMessage())
        async with asyncio.timeout(self._idle_seconds):
            await self._writer.drain()

    def _write(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)


def _turn_away(accepted: socket.socket) -> None:
    """Its client has connections enough; it may come again."""
    with accepted, contextlib.suppress(OSError):
        accepted.send(TURNED_AWAY)
        accepted.shutdown(socket.SHUT_WR)


def _headers(request: h11.Request) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}


def _open_parts(loan: Loan, stack: contextlib.ExitStack) -> list[FileIO] | None:
    """Open the file of every part; None when one is gone or too short."""
    files = []
    for part in loan.parts:
        found = _open(part.sha256, part.path)
        if found is None:
            return None
        files.append(stack.enter_context(found.file))
        if found.size < part.stop:
            return None
    return files


def _open(sha256: str, path: Path) -> Found | None:
    """Open a plain file; None for anything else, symbolic links included."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    file = FileIO(descriptor, "rb")
    what = os.fstat(descriptor)
    if stat.S_ISREG(what.st_mode):
        return Found(sha256, what.st_size, file)
    file.close()
    return None


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_LENGTH and _HEX.issuperset(text)


def _listen(bind: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Headers and body are two writes; with Nagle's algorithm every small answer waited 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((bind, port))
        listener.listen(BACKLOG)
    except OSError as e:
        listener.close()
        raise CannotListen(
            f"the file server cannot listen on {bind}:{port}: {e.strerror}",
            next_step="set another port in fleetcast.toml: [http] port (0 takes a free one)",
        ) from e
    listener.setblocking(False)
    return listener
