"""Dead letters: what was refused or ran out of deliveries, why, and how it is tried once more."""

import base64
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleetcast.bus.errors import NotFound
from fleetcast.bus.jetstream import Entry, JetStream, parse_time
from fleetcast.bus.publish import MESSAGE_ID, Publisher, Receipt
from fleetcast.bus.streams import DEAD
from fleetcast.events.envelope import EventInvalid, parse
from fleetcast.events.ids import derived_id

SCHEMA = 1
ADVISORY_PREFIX = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."
JSON_OVERHEAD_BYTES = 16 * 1024
EVENT_SUBJECTS = "fc.ev."
DEAD_PREFIX = "fc.dead."
EXHAUSTED = "the server delivered it as often as allowed and nobody finished it (the daemon crashed or was killed)"
EXHAUSTED_STEP = "look for crashes of the daemon, then fleetcast dlq retry"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be buried, and why."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    stream: str
    sequence: int
    consumer: str
    attempts: int
    reason: str
    field: str | None
    next_step: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as it is kept.

    Attributes:
        sequence: its number in FC_DEAD: what `show`, `retry` and `drop` take.
        subject: of the original message; "" when it is no longer stored anywhere.
        event_id: id of the event in it, where it can be told.
        at: when it died, UTC.
        data, headers: of the original message.
        origin_stream, origin_sequence: where the original is stored.
    """

    sequence: int
    subject: str
    event_id: str
    reason: str
    field: str | None
    next_step: str
    consumer: str
    attempts: int
    at: datetime
    data: bytes = dataclasses.field(repr=False)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    origin_stream: str = ""
    origin_sequence: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What died where: a crash between writing the letter and ending the deliveries leaves two records of one."""
        return (self.consumer, self.origin_stream, self.origin_sequence)


def event_id_of(data: bytes, headers: Mapping[str, str], stream: str, sequence: int) -> str:
    """Id of the event in a message: of the envelope, else the message's id, else its place in the stream."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("id"), str) and "specversion" in body:
        return str(body["id"])
    lowered = {name.lower(): value for name, value in headers.items()}
    return lowered.get("ce-id") or lowered.get("nats-msg-id") or f"{stream}:{sequence}"


def encode(letter: Letter, *, now: datetime, max_payload: int) -> bytes:
    """The JSON that is stored: the original is inside unless it would not fit (it is then read from its stream)."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "reason": letter.reason,
        "field": letter.field,
        "next_step": letter.next_step,
        "consumer": letter.consumer,
        "attempts": letter.attempts,
        "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event_id": event_id_of(letter.data, letter.headers, letter.stream, letter.sequence),
        "subject": letter.subject,
        "stream": letter.stream,
        "sequence": letter.sequence,
        "headers": dict(letter.headers),
    }
    whole = json.dumps({**document, **_body(letter.data)}, ensure_ascii=False).encode()
    if len(whole) <= max_payload - JSON_OVERHEAD_BYTES:
        return whole
    return json.dumps({**document, "headers": {}, "omitted_bytes": len(letter.data)}, ensure_ascii=False).encode()


def _body(data: bytes) -> dict[str, str]:
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data_b64": base64.b64encode(data).decode()}


def decode(entry: Entry) -> DeadLetter:
    """Read a stored dead letter of ours; a foreign message under fc.dead is shown as what it is."""
    try:
        document = json.loads(entry.data)
        data = base64.b64decode(document["data_b64"]) if "data_b64" in document else document.get("data", "").encode()
        return DeadLetter(
            sequence=entry.sequence,
            subject=document["subject"],
            event_id=document["event_id"],
            reason=document["reason"],
            field=document["field"],
            next_step=document["next_step"],
            consumer=document["consumer"],
            attempts=int(document["attempts"]),
            at=parse_time(document["at"]),
            data=data,
            headers=document["headers"],
            origin_stream=document["stream"],
            origin_sequence=int(document["sequence"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return DeadLetter(
            sequence=entry.sequence,
            subject=entry.subject,
            event_id="",
            reason="not written by fleetcast: its form is unknown",
            field=None,
            next_step="read it with: nats stream get FC_DEAD " + str(entry.sequence),
            consumer=entry.subject.removeprefix(DEAD_PREFIX),
            attempts=0,
            at=entry.time,
            data=entry.data,
            headers=entry.headers,
        )


class DeadLetterBox:
    """FC_DEAD: write, list, show, retry, drop."""

    def __init__(
        self,
        js: JetStream,
        publisher: Publisher,
        read: Callable[[str], AsyncIterator[Entry]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._js = js
        self._publisher = publisher
        self._read = read
        self._clock = clock

    async def put(self, letter: Letter, *, deadline_seconds: float | None = None) -> Receipt:
        """Store a letter; the same message of the same consumer is stored once.

        Raises:
            BusUnavailable: not within *deadline_seconds*.
        """
        data = encode(letter, now=self._clock(), max_payload=self._js.wire.max_payload)
        identity = derived_id(f"{letter.stream}:{letter.sequence}", "dead", letter.consumer)
        return await self._publisher.publish(
            f"{DEAD_PREFIX}{letter.consumer}", data, {MESSAGE_ID: identity}, deadline_seconds=deadline_seconds
        )

    async def list(self) -> list[DeadLetter]:
        """All dead letters, oldest first; messages that ran out of deliveries included.

        Raises:
            TransportFailed: the bus does not answer.
        """
        letters: dict[tuple[str, str, int], DeadLetter] = {}
        async for entry in self._read(DEAD):
            letter = await self._decode(entry)
            known = letters.get(letter.key)
            # A letter with its reason says more than the server's advisory about the same message.
            if known is None or known.reason == EXHAUSTED:
                letters[letter.key] = letter
        return sorted(letters.values(), key=lambda letter: letter.sequence)

    async def show(self, sequence: int) -> DeadLetter:
        """One dead letter, with the original message.

        Raises:
            NotFound: there is none of that number (any more).
            TransportFailed: the bus does not answer.
        """
        entry = await self._js.message(DEAD, seq=sequence)
        if entry is None:
            raise NotFound(f"there is no dead letter {sequence}", next_step="fleetcast dlq ls")
        letter = await self._decode(entry)
        if letter.data or not letter.origin_stream:
            return letter
        return await self._with_original(letter)

    async def _decode(self, entry: Entry) -> DeadLetter:
        if not entry.subject.startswith(ADVISORY_PREFIX):
            return decode(entry)
        try:
            advisory = json.loads(entry.data)
            stream, number = str(advisory["stream"]), int(advisory["stream_seq"])
            consumer, attempts = str(advisory["consumer"]), int(advisory["deliveries"])
        except (ValueError, KeyError, TypeError):
            return decode(entry)
        letter = DeadLetter(
            sequence=entry.sequence,
            subject="",
            event_id="",
            reason=EXHAUSTED,
            field=None,
            next_step=EXHAUSTED_STEP,
            consumer=consumer,
            attempts=attempts,
            at=entry.time,
            data=b"",
            origin_stream=stream,
            origin_sequence=number,
        )
        return await self._with_original(letter)

    async def _with_original(self, letter: DeadLetter) -> DeadLetter:
        try:
            original = await self._js.message(letter.origin_stream, seq=letter.origin_sequence)
        except NotFound:
            original = None
        if original is None:
            return letter
        return dataclasses.replace(
            letter,
            subject=original.subject,
            event_id=event_id_of(original.data, original.headers, letter.origin_stream, letter.origin_sequence),
            data=original.data,
            headers=original.headers,
        )

    async def retry(self, sequence: int) -> Receipt:
        """Publish the original once more, then drop the letter; a second call finds it gone.

        The event keeps its id, so that what follows from it keeps its ids too. The message gets a fresh one, made from
        the letter's number: the original's would be swallowed by the duplicate window, a random one would let a
        retry that is itself repeated store it twice.

        Raises:
            NotFound: no such letter, or as `publish_again`.
            BusUnavailable: the bus does not answer; calling again is safe.
        """
        receipt = await self.publish_again(await self.show(sequence))
        with contextlib.suppress(NotFound):
            # Somebody else retried it at the same moment: the shared message id let one of us store it.
            await self.drop(sequence)
        return receipt

    async def publish_again(self, letter: DeadLetter) -> Receipt:
        """Publish the original of a letter, which stays; done twice, it is stored once.

        Raises:
            NotFound: the original is not stored anywhere any more, or is none that anybody handles.
            AccessDenied: this role may not publish it.
            BusUnavailable: the bus does not answer; calling again is safe.
        """
        next_step = f"fleetcast dlq drop {letter.sequence}"
        if not letter.subject:
            raise NotFound(f"the message of dead letter {letter.sequence} is no longer stored", next_step=next_step)
        if letter.subject.startswith((DEAD_PREFIX, ADVISORY_PREFIX)):
            raise NotFound(f"dead letter {letter.sequence} holds no message that anybody handles", next_step=next_step)
        data, headers = with_event_id(letter)
        headers[MESSAGE_ID] = f"retry-{letter.sequence}-{letter.at:%Y%m%dT%H%M%S%f}"
        return await self._publisher.publish(letter.subject, data, headers, deadline_seconds=None)

    async def drop(self, sequence: int) -> None:
        """Remove a letter for good; its original stays where it is stored.

        Raises:
            NotFound: there is none of that number (any more).
            TransportFailed: the bus does not answer.
        """
        letter = await self._js.message(DEAD, seq=sequence)
        if letter is None:
            raise NotFound(f"there is no dead letter {sequence}", next_step="fleetcast dlq ls")
        await self._js.api(f"STREAM.MSG.DELETE.{DEAD}", {"seq": sequence})


def with_event_id(letter: DeadLetter) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a retried message, without a message id: an event typed by hand gets the id of its first
    delivery written into it; what is no event stays as it is."""
    kept = {name: value for name, value in letter.headers.items() if not name.lower().startswith("nats-")}
    if not letter.subject.startswith(EVENT_SUBJECTS):
        return letter.data, kept
    try:
        event = parse(
            letter.data,
            subject=letter.subject,
            headers=letter.headers,
            stream=letter.origin_stream,
            sequence=letter.origin_sequence,
            time=letter.at,
        )
        data, headers = event.encode()
    except EventInvalid:
        return letter.data, kept
    return data, {**kept, **headers}
