"""JetStream over plain requests: the API as JSON, acknowledgement subjects, reads by the leader.

Written against the wire protocol instead of nats-py's `js`, whose faults would all have to be worked around
(docs/adr/0005). Protocol: ADR-1, ADR-13, ADR-15 of nats-architecture-and-design.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fleetcast.bus.errors import (
    BusUnavailable,
    Conflict,
    NotFound,
    OperationRefused,
    SubjectFull,
    TransportFailed,
)
from fleetcast.bus.link import Message
from fleetcast.bus.wire import Wire
from fleetcast.events.envelope import Event, parse

NO_MESSAGE = 10037
CONSUMER_NOT_FOUND = 10014
STREAM_NOT_FOUND = 10059
STREAM_EXISTS = 10058
CONSUMER_EXISTS = 10148
NOT_ENABLED = (10039, 10076)
WRONG_SEQUENCE = (10071, 10164)
# No leader yet, no peers yet, as many consumers as may be, Raft or a store in trouble, an id that is being stored now.
TRANSIENT = frozenset({10005, 10006, 10009, 10026, 10041, 10051, 10104, 10158})
DUPLICATE_IN_BATCH = 10201
STORE_FAILED = 10077

NANOSECONDS = 10**9


class Unready(TransportFailed):
    """JetStream cannot do it right now; nothing was done."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored message.

    Attributes:
        sequence: in its stream; grows.
        time: when the server stored it, UTC.
        pending: how many more messages were waiting for this consumer, where known.
    """

    subject: str
    data: bytes
    sequence: int
    time: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: str = ""
    pending: int = 0

    @property
    def deleted(self) -> bool:
        """Whether this is the marker of a deleted key or object rather than a value."""
        return self.headers.get("KV-Operation") in {"DEL", "PURGE"} or "Nats-Marker-Reason" in self.headers

    def event(self) -> Event:
        """The event in a message of the event log.

        Raises:
            EventInvalid: it is none.
        """
        return parse(
            self.data,
            subject=self.subject,
            headers=self.headers,
            stream=self.stream or None,
            sequence=self.sequence,
            time=self.time,
        )


@dataclass(frozen=True, slots=True)
class AckSubject:
    """What a consumer's reply subject says (`$JS.ACK…`, both the nine-token and the twelve-token form of ADR-15)."""

    stream: str
    consumer: str
    delivered: int
    stream_sequence: int
    consumer_sequence: int
    time: datetime
    pending: int


def parse_ack_subject(reply: str) -> AckSubject:
    """Read a reply subject.

    Raises:
        ValueError: it is none.
    """
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:
        raise ValueError(f"{reply!r} is no acknowledgement subject")
    stream, consumer, *numbers = tokens[2:9] if len(tokens) < 11 else tokens[4:11]
    delivered, stream_sequence, consumer_sequence, nanoseconds, pending = map(int, numbers)
    time = datetime.fromtimestamp(nanoseconds / NANOSECONDS, UTC)
    return AckSubject(stream, consumer, delivered, stream_sequence, consumer_sequence, time, pending)


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as servers write it, with up to nine digits of fraction."""
    whole, dot, rest = text.rstrip("Z").partition(".")
    fraction = f".{rest[:6]}" if dot else ""
    return datetime.fromisoformat(f"{whole}{fraction}").replace(tzinfo=UTC)


def parse_headers(raw: bytes) -> dict[str, str]:
    """The header block of a stored message as a mapping."""
    lines = raw.decode("utf-8", "replace").split("\r\n")[1:]
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def delivered(message: Message) -> tuple[Entry, int]:
    """A message delivered by a consumer, as an entry; and the sequence that the consumer counts by, in which no number
    is left out.

    Raises:
        ValueError: its reply subject is not one of a consumer.
    """
    ack = parse_ack_subject(message.reply)
    entry = Entry(
        message.subject, message.data, ack.stream_sequence, ack.time, message.headers, ack.stream, ack.pending
    )
    return entry, ack.consumer_sequence


def error_of(answer: Mapping[str, Any]) -> Exception | None:
    """The error inside an answer of the API, classified; None when there is none."""
    error = answer.get("error")
    if not error:
        return None
    code, error_code = int(error.get("code", 0)), int(error.get("err_code", 0))
    text = str(error.get("description", "unknown error"))
    if error_code in WRONG_SEQUENCE:
        return Conflict(text, code=code, error_code=error_code)
    if error_code == STORE_FAILED and "per subject" in text:
        return SubjectFull(text, code=code, error_code=error_code)
    if error_code in NOT_ENABLED:
        step = "start nats-server with JetStream (-js), or enable it for this account"
        return OperationRefused(text, code=code, error_code=error_code, next_step=step)
    if code == 404 or "no message found" in text:
        return NotFound(text, code=code, error_code=error_code)
    if code in {408, 503} or error_code in TRANSIENT or "too many" in text:
        return Unready(f"{text} ({error_code})")
    return OperationRefused(text, code=code, error_code=error_code)


def decode(message: Message) -> dict[str, Any]:
    """The JSON of an answer.

    Raises:
        BusUnavailable: it is not JSON.
        Unready, Conflict, NotFound, SubjectFull, OperationRefused: as the server says.
    """
    try:
        answer = json.loads(message.data or b"null")
    except ValueError as e:
        raise BusUnavailable(f"an unreadable answer on {message.subject}") from e
    if not isinstance(answer, dict):
        raise BusUnavailable(f"an empty answer on {message.subject}")
    error = error_of(answer)
    if error is not None:
        raise error
    return answer


class JetStream:
    """The JetStream API of one account."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.timeout_seconds = wire.settings.request_timeout_seconds

    async def api(
        self, subject: str, body: Mapping[str, Any] | None = None, *, timeout_seconds: float | None = None
    ) -> dict[str, Any]:
        """One request to `$JS.API.<subject>`; not repeated.

        Raises:
            TransportFailed: no answer (NoResponder, BusTimeout, ConnectionLost, Unready).
            OperationRefused: refused (NotFound, Conflict, ...).
        """
        data = json.dumps(body).encode() if body is not None else b""
        timeout = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        return decode(await self.wire.request(f"$JS.API.{subject}", data, timeout_seconds=timeout))

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None, *, timeout_seconds: float
    ) -> dict[str, Any]:
        """Publish once and wait for the stream's answer; errors as `api`."""
        return decode(await self.wire.request(subject, data, timeout_seconds=timeout_seconds, headers=headers))

    async def message(self, stream: str, **query: Any) -> Entry | None:
        """Read one stored message through the stream's leader (`seq=…` or `last_by_subj=…`); None when there is none.

        Never a direct get: those are answered by followers that may be behind.
        """
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", query)
        except NotFound as e:
            if e.error_code == NO_MESSAGE:
                return None
            raise
        stored = answer["message"]
        return Entry(
            subject=stored["subject"],
            data=base64.b64decode(stored.get("data", "")),
            sequence=int(stored["seq"]),
            time=parse_time(stored["time"]),
            headers=parse_headers(base64.b64decode(stored.get("hdrs", ""))),
            stream=stream,
        )
