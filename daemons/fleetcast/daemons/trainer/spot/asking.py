"""One small question to a metadata service over HTTP/1.1, by h11 on the loop: an answer that never ends is cut off by
the time limit of the whole question. Never over a proxy: the address is that of this very machine."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11

LARGEST_ANSWER: Final = 64 * 1024
CHUNK: Final = 16 * 1024


class NoAnswer(Exception):
    """The service is not there, or says something that is not HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers by lower-case name, and the body as text."""

    status: int
    headers: Mapping[str, str]
    text: str


async def ask(
    base: str, path: str, *, headers: Mapping[str, str], method: str = "GET", timeout_seconds: float
) -> Answer:
    """The answer to one request.

    Args:
        base: `http://host[:port]`.

    Raises:
        NoAnswer: there is none in time.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _exchange(base, path, headers, method)
    except TimeoutError:
        raise NoAnswer(f"{base} does not answer in {timeout_seconds:g} s") from None
    except h11.ProtocolError as e:
        raise NoAnswer(f"{base} answers with something that is not HTTP") from e
    except (OSError, EOFError) as e:
        raise NoAnswer(f"{base}: {e or type(e).__name__}") from e


async def _exchange(base: str, path: str, headers: Mapping[str, str], method: str) -> Answer:
    place = urlsplit(base)
    reader, writer = await asyncio.open_connection(place.hostname, place.port or 80, limit=CHUNK)
    try:
        http = h11.Connection(h11.CLIENT)
        named = {"Host": place.netloc, "User-Agent": "fleetcast", "Connection": "close", **headers}
        if method == "PUT":
            named["Content-Length"] = "0"
        for event in (h11.Request(method=method, target=path, headers=list(named.items())), h11.EndOfMessage()):
            writer.write(http.send(event) or b"")
        await writer.drain()
        return await _answer(http, reader)
    finally:
        writer.transport.abort()


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    response: h11.Response | None = None
    body = b""
    while len(body) <= LARGEST_ANSWER:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(CHUNK))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif not isinstance(event, h11.InformationalResponse):
            break
    if response is None:
        raise EOFError
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    return Answer(response.status_code, named, body[:LARGEST_ANSWER].decode("utf-8", "replace").strip())
