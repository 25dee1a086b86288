"""One POST over HTTP/1.1, and what follows from its answer.

By h11 on the loop instead of a thread around urllib: a server that sends a byte now and then is cut off by the time
limit of the whole attempt, whatever it does (ADR 0028). Redirects are not followed: a message would go where nobody
sent it. Certificates are checked; an answer is read up to a bound.
"""

import asyncio
import email.utils
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11

from fleetcast.daemons.notifier.rules import Later, Outcome, Refused, Sent
from fleetcast.daemons.notifier.topics import line

LARGEST_HEAD: Final = 16 * 1024
LARGEST_ANSWER: Final = 64 * 1024
CHUNK: Final = 16 * 1024
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
WRONG: Final = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431})
"""Answers that say that this message will never be taken; all others may change once somebody looks at the service."""


class AddressRefused(Exception):
    """An address that a message is not sent to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers by lower-case name, and the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def address(url: str) -> SplitResult:
    """The parts of an address that a message may go to.

    Raises:
        AddressRefused: it is none, has a password in it, or would carry a secret in the clear.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise AddressRefused("it is no address") from None
    if parts.scheme not in {"http", "https"} or not host or not url.isascii() or any(c <= " " for c in url):
        raise AddressRefused("it is no http or https address")
    if parts.username or parts.password:
        raise AddressRefused("it has a user or password in it")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise AddressRefused(f"http to {host} would be readable on the way: https is needed")
    return parts


async def post(url: str, body: bytes, headers: Mapping[str, str], *, ca: str | None = None) -> Outcome:
    """Post *body*, once; the caller limits the time.

    Args:
        ca: file of the CA that the server is checked against; None: those of the system.
    """
    try:
        parts = address(url)
    except AddressRefused as e:
        return Later(f"the address is not used: {e}")
    host = parts.hostname or ""
    progress = _Progress()
    try:
        answer = await _exchange(parts, body, headers, ca, progress)
    except h11.ProtocolError:
        return Later(f"{host} answers with something that is not HTTP", unsure=progress.sent)
    except ssl.SSLCertVerificationError as e:
        return Later(f"{host} cannot be trusted: {e.verify_message}")
    except (OSError, EOFError) as e:
        return Later(f"{host}: {_reason(e)}", unsure=progress.sent)
    return judged(answer, host, datetime.now(UTC))


class _Progress:
    sent = False


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the connection ended before the answer"
    strerror = getattr(error, "strerror", None)
    return line(strerror or type(error).__name__, 100)


async def _exchange(
    parts: SplitResult, body: bytes, headers: Mapping[str, str], ca: str | None, progress: _Progress
) -> Answer:
    secure = parts.scheme == "https"
    context = await asyncio.to_thread(ssl.create_default_context, cafile=ca) if secure else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context, limit=CHUNK)
    try:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        for event in (_request(parts, body, headers), h11.Data(data=body), h11.EndOfMessage()):
            writer.write(http.send(event) or b"")
        progress.sent = True
        await writer.drain()
        return await _answer(http, reader)
    finally:
        writer.transport.abort()


def _request(parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> h11.Request:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc
    named = {"Host": host, "User-Agent": "fleetcast-notifier", "Connection": "close", **headers}
    return h11.Request(method="POST", target=target, headers=[*named.items(), ("Content-Length", str(len(body)))])


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    response: h11.Response | None = None
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(CHUNK)
            if not data and response is None:
                raise EOFError
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif not isinstance(event, h11.InformationalResponse):
            break
        if len(body) > LARGEST_ANSWER:
            break
    if response is None:
        raise EOFError
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    return Answer(response.status_code, named, body[:LARGEST_ANSWER])


def judged(answer: Answer, host: str, now: datetime) -> Outcome:
    """What an answer means for the message."""
    status = answer.status
    if 200 <= status < 300:
        return Sent(f"{host} answers {status}")
    said = f"{host} answers {status}"
    if 300 <= status < 400:
        return Later(f"{said}, a redirect, which is not followed")
    if status in WRONG:
        return Refused(said)
    return Later(said, after_seconds=retry_after(answer.headers.get("retry-after"), now))


def retry_after(given: str | None, now: datetime) -> float | None:
    """Seconds until a server wants to hear from us (RFC 9110, 10.2.3): a number, or a date; None: it does not say."""
    if given is None:
        return None
    text = given.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((aware - now).total_seconds(), 0.0)
