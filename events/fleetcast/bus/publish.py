"""Durable publishing: retried beyond a leader election, with an id made once, so that a retry stores nothing twice."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from fleetcast.bus.errors import (
    BusTimeout,
    BusUnavailable,
    Conflict,
    ConnectionLost,
    NoResponder,
    OperationRefused,
    OutcomeUnknown,
    TransportFailed,
)
from fleetcast.bus.jetstream import DUPLICATE_IN_BATCH, JetStream, Unready, decode
from fleetcast.bus.link import Message
from fleetcast.bus.retry import PUBLISH
from fleetcast.client.ulid import new_ulid

EXPECTED_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
MESSAGE_ID = "Nats-Msg-Id"
BATCH_LIMIT = 1000
STREAM_STANDS_STILL = (
    "look at /healthz of the NATS server and at the room on its disk: a stream that could not be written stands still, "
    "while all others work, until there is room and the server was restarted (docs/runbooks/streams.md)"
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a stream holds a message.

    Attributes:
        duplicate: the stream already had a message of this id; nothing was stored now.
    """

    stream: str
    sequence: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class BatchMessage:
    """One message of an atomic batch.

    Attributes:
        expected_sequence: sequence of the last message on this subject, 0 for none yet, None: not checked.
    """

    subject: str
    data: bytes
    expected_sequence: int | None = None
    headers: Mapping[str, str] | None = None


class Publisher:
    """Publishes into streams."""

    def __init__(self, js: JetStream, deadline_seconds: float) -> None:
        self._js = js
        self._deadline_seconds = deadline_seconds

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, deadline_seconds: float | None
    ) -> Receipt:
        """Publish until a stream says it has the message.

        A message without an id is given one, so that a retry after a lost answer stores nothing twice, and an expected
        sequence that our own first try has moved is not taken for a conflict.

        Raises:
            BusUnavailable: not before the deadline (seconds from now).
            Conflict, SubjectFull, OperationRefused, PayloadTooLarge: refused for good.
        """
        deadline = time.monotonic() + (self._deadline_seconds if deadline_seconds is None else deadline_seconds)
        identified = {MESSAGE_ID: new_ulid(), **(headers or {})}
        attempt = 0
        while True:
            attempt += 1
            remaining = max(deadline - time.monotonic(), 0.001)
            try:
                timeout = min(self._js.timeout_seconds, remaining)
                answer = await self._js.publish(subject, data, identified, timeout_seconds=timeout)
                return Receipt(str(answer["stream"]), int(answer["seq"]), bool(answer.get("duplicate", False)))
            except TransportFailed as e:
                # 503, timeout, lost connection, "duplicate message id is in process": none of them is an answer.
                await self._wait(attempt, deadline, subject, e)

    async def _wait(self, attempt: int, deadline: float, subject: str, cause: TransportFailed) -> None:
        remaining = deadline - time.monotonic()
        pause = min(PUBLISH.delay(attempt), max(remaining, 0))
        if remaining <= 0 or (pause >= remaining and not self._js.wire.connected):
            silent = self._js.wire.connected and isinstance(cause, BusTimeout)
            raise BusUnavailable(
                f"{subject} was not stored within the deadline, after {attempt} tries: {cause}",
                next_step=STREAM_STANDS_STILL if silent else "fleetcast doctor",
            ) from cause
        if self._js.wire.connected:
            await asyncio.sleep(pause)
        else:
            await self._js.wire.wait_connected(remaining)

    async def batch(self, messages: Sequence[BatchMessage]) -> int:
        """Store all of *messages* or none (ADR-50); returns the sequence of the last one.

        Raises:
            Conflict: an expected sequence did not hold, or an id was stored before; nothing was stored.
            OutcomeUnknown: no answer came; read back before trying again.
            TransportFailed: nothing was stored, try again.
            OperationRefused: refused for good.
        """
        if not 0 < len(messages) <= BATCH_LIMIT:
            raise OperationRefused(f"a batch has 1 to {BATCH_LIMIT} messages, not {len(messages)}")
        for message in messages:
            # A batch that breaks off in the middle keeps its place on the server for 10 s; there are 50 of them.
            self._js.wire.link.check_size(message.subject, message.data, self._batch_headers(message, "", 0))
        refusals: list[Message] = []
        async with self._js.wire.route(lambda m: refusals.append(m) if m.data or m.status else None) as inbox:
            try:
                answer = await self._send_batch(messages, inbox)
            except (BusTimeout, ConnectionLost) as e:
                raise OutcomeUnknown(f"no answer to a batch of {len(messages)} messages") from e
            except Unready:
                raise
            except OperationRefused as e:
                # The first refusal names the cause; the commit that follows it only says that the batch is unknown.
                raise self._refusal(refusals, e) from e
        return answer

    async def _send_batch(self, messages: Sequence[BatchMessage], inbox: str) -> int:
        batch_id = uuid4().hex
        *first, last = [
            (message, self._batch_headers(message, batch_id, number)) for number, message in enumerate(messages, 1)
        ]
        for message, headers in first:
            await self._js.wire.publish(message.subject, message.data, reply=inbox, headers=headers)
        message, headers = last
        committed = await self._js.wire.request(
            message.subject,
            message.data,
            timeout_seconds=self._js.timeout_seconds,
            headers={**headers, "Nats-Batch-Commit": "1"},
        )
        answer = decode(committed)
        if len(messages) > 1 and answer.get("count") != len(messages):
            raise OutcomeUnknown(f"a batch of {len(messages)} was acknowledged as {answer.get('count')}")
        return int(answer["seq"])

    @staticmethod
    def _batch_headers(message: BatchMessage, batch_id: str, number: int) -> dict[str, str]:
        headers = {**(message.headers or {}), "Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
        if message.expected_sequence is not None:
            headers[EXPECTED_SUBJECT_SEQUENCE] = str(message.expected_sequence)
        return headers

    @staticmethod
    def _refusal(refusals: list[Message], last: OperationRefused) -> Exception:
        cause: Exception = last
        for message in refusals[:1]:
            if message.status is not None:
                return NoResponder(f"nobody stores {message.subject}")
            try:
                decode(message)
            except (OperationRefused, TransportFailed) as e:
                cause = e
        if isinstance(cause, OperationRefused) and cause.error_code == DUPLICATE_IN_BATCH:
            return Conflict(str(cause), code=cause.code, error_code=cause.error_code)
        return cause
