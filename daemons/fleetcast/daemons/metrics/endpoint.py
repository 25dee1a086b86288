"""The HTTP endpoint of one daemon: `GET /metrics`, and nothing else.

On the daemon's own loop, so it is bounded in every direction: connections, size of a request, and the time that a
reader may take to send it and to take the answer. Each connection serves one request.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import h11
import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.metrics")

MOST_CONNECTIONS: Final = 16
"""Prometheus uses one, a person another; those above are turned away at once."""
MOST_REQUEST_BYTES: Final = 8 * 1024
REQUEST_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
"""The time in which Prometheus gives up by default: what a reader has not taken by then, nobody waits for."""
FAREWELL_SECONDS: Final = 1.0
"""How long what was written last may take to leave."""
FRESH_SECONDS: Final = 0.5
"""An answer so young is given again: a hundred readers cost no more than two a second."""
TURNED_AWAY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)

Write = Callable[[], Awaitable[tuple[str, bytes]]]
"""Gives the content type and the text."""


class Endpoint:
    """Answers whoever asks with what *write* gives."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._open = 0
        self._turn = asyncio.Lock()
        self._written: tuple[str, bytes] = ("", b"")
        self._written_at = float("-inf")

    async def serve(self, listener: socket.socket) -> None:
        """Answer until cancelled; *listener* is closed then."""
        server = await asyncio.start_server(self._connected, sock=listener, limit=MOST_REQUEST_BYTES)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= MOST_CONNECTIONS:
            writer.write(TURNED_AWAY)
            await _left(writer)
            return
        self._open += 1
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as gone:
            log.debug("metrics.reader_left", reason=repr(gone))
        except asyncio.CancelledError:
            # The daemon stops; that is no fault of this task, which asyncio's server would otherwise report as one.
            pass
        finally:
            self._open -= 1
            await _left(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speech = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_REQUEST_BYTES)
        async with asyncio.timeout(REQUEST_SECONDS):
            try:
                request = await _request(speech, reader)
            except h11.RemoteProtocolError as wrong:
                status = HTTPStatus(wrong.error_status_hint)
                writer.write(_answer(h11.Connection(h11.SERVER), status, "text/plain", b""))
                await writer.drain()
                return
        if request is None:
            return
        status, kind, body = await self._found(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(_answer(speech, status, kind, body, head=request.method == b"HEAD"))
            await writer.drain()

    async def _found(self, request: h11.Request) -> tuple[HTTPStatus, str, bytes]:
        if request.target.partition(b"?")[0] != b"/metrics":
            return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there is /metrics here, and nothing else\n"
        if request.method not in {b"GET", b"HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", b"GET /metrics\n"
        try:
            return HTTPStatus.OK, *await self._text()
        except Exception as fault:
            # In a thread: a trace reads the source files that it shows.
            await asyncio.to_thread(log.error, "metrics.unreadable", exc_info=fault)
            why = b"what there is could not be read; the daemon's log says why\n"
            return HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", why

    async def _text(self) -> tuple[str, bytes]:
        loop = asyncio.get_running_loop()
        async with self._turn:
            if loop.time() - self._written_at > FRESH_SECONDS:
                self._written = await self._write()
                self._written_at = loop.time()
            return self._written


async def _request(speech: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The request, read to its end; None: the reader left before there was one."""
    request: h11.Request | None = None
    taken = 0
    while True:
        event = speech.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(MOST_REQUEST_BYTES)
            taken += len(data)
            if taken > 2 * MOST_REQUEST_BYTES:
                raise h11.RemoteProtocolError("too long", error_status_hint=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            speech.receive_data(data)
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None


def _answer(speech: h11.Connection, status: HTTPStatus, kind: str, body: bytes, *, head: bool = False) -> bytes:
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    parts = [speech.send(h11.Response(status_code=status, headers=headers, reason=status.phrase))]
    if not head:
        parts.append(speech.send(h11.Data(data=body)))
    parts.append(speech.send(h11.EndOfMessage()))
    return b"".join(part or b"" for part in parts)


async def _left(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await writer.wait_closed()
    except (TimeoutError, asyncio.CancelledError):
        # Closing alone would keep what the reader does not take for as long as it stays.
        writer.transport.abort()
    except OSError:
        return
