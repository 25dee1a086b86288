"""Watching the newest value of every subject, and reading a stream in order.

Whoever waits for what comes is told of nothing that was lost as the last: a server that restarts, a connection that
dropped it. Every reader therefore asks the stream itself now and then (`lookout`), and begins anew where it has missed
something: what is watched is late by `bus.resync_seconds` at most, whatever was lost.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from fleetcast.bus.errors import BusError, NotFound, TransportFailed
from fleetcast.bus.jetstream import NANOSECONDS, Entry, JetStream, delivered
from fleetcast.bus.link import Message
from fleetcast.bus.lookout import Lookout, floor_of
from fleetcast.bus.pull import Interrupted, Pull, create_ephemeral, delete_consumer, open_pull
from fleetcast.bus.retry import RESTART
from fleetcast.bus.shield import finish
from fleetcast.client.ulid import new_ulid

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

INACTIVE_SECONDS = 30.0
CREDIT = 256
STORM_CREDIT = 1000
"""Of a reader that takes batches: so many are asked for at once, so that the answers need not be waited for."""
SILENCE_SECONDS = 0.5


INTERRUPTIONS = 3
"""How often what only reads once begins anew."""


@dataclass(frozen=True, slots=True)
class InSync:
    """Everything that was stored when the watch began (or began anew) has been delivered.

    Attributes:
        sequence: newest sequence seen so far; 0 for none.
        resync: whether this is not the first time: the entries since the last marker are the whole state again, and
            whatever was not among them does not exist any more.
    """

    sequence: int = 0
    resync: bool = False


def reader_config(subjects: Sequence[str], start: Mapping[str, Any], *, headers_only: bool = False) -> dict[str, Any]:
    """The server's JSON of a consumer that only reads."""
    return {
        "name": f"reader-{new_ulid().lower()}",
        "ack_policy": "none",
        "replay_policy": "instant",
        "filter_subjects": list(subjects),
        "headers_only": headers_only,
        "inactive_threshold": int(INACTIVE_SECONDS * NANOSECONDS),
        **start,
    }


class Reader:
    """The messages of one ephemeral consumer, checked for gaps, and against the stream itself.

    `waiting` is how many messages are still there for it of those that were there when it was made.
    """

    def __init__(self, js: JetStream, stream: str, name: str, pull: Pull, waiting: int, lookout: Lookout) -> None:
        self._js = js
        self._stream = stream
        self._name = name
        self._pull = pull
        self._lookout = lookout
        self._expected = 1
        self.waiting = waiting

    async def next(self) -> Entry:
        """The next message.

        Raises:
            Interrupted: one was lost, or the consumer or the connection is gone.
        """
        return self._checked(await self._get(CREDIT))

    async def batch(self) -> list[Entry]:
        """The next messages: those that have come, at least one; errors as `next`."""
        first = await self._get(STORM_CREDIT)
        return [self._checked(message) for message in (first, *self._pull.waiting())]

    async def _get(self, credit: int) -> Message:
        while True:
            try:
                async with asyncio.timeout(self._lookout.patience_seconds(time.monotonic())):
                    return await self._pull.get(credit)
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        """Ask the stream whether there is something that did not come.

        Raises:
            Interrupted: there was at the last look, and nothing has come since.
        """
        if missed := self._lookout.overdue:
            log.warning("watch.fell_silent", stream=self._stream, sequence=missed)
            raise Interrupted(f"message {missed} of {self._stream} is stored and did not come")
        found: list[int] = []
        try:
            for question in self._lookout.questions():
                entry = await self._js.message(self._stream, **question)
                found += [entry.sequence] if entry else []
        except BusError as away:
            log.debug("watch.not_looked", stream=self._stream, reason=str(away))
        self._lookout.answer(found, time.monotonic())

    def _checked(self, message: Message) -> Entry:
        entry, consumer_sequence = delivered(message)
        if consumer_sequence != self._expected:
            raise Interrupted(f"message {self._expected} of the consumer is missing")
        self._expected += 1
        self._lookout.hear(entry.sequence)
        self.waiting = max(min(self.waiting - 1, entry.pending), 0)
        return entry

    async def initial(self) -> AsyncIterator[Entry]:
        """The messages that were there when the consumer was made; ends after the last.

        Some may expire or be replaced before they are delivered, so that the last one counted never comes: after a
        moment of silence the server is asked.

        Raises:
            TransportFailed: as `next`.
        """
        while self.waiting > 0:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    entry = self._checked(await self._pull.get(CREDIT))
            except TimeoutError:
                info = await self._js.api(f"CONSUMER.INFO.{self._stream}.{self._name}")
                self.waiting = min(self.waiting, int(info.get("num_pending", 0)))
                continue
            yield entry


@asynccontextmanager
async def open_reader(
    js: JetStream, stream: str, subjects: Sequence[str], start: Mapping[str, Any]
) -> AsyncIterator[Reader]:
    """Read *stream* from *start* (fields of the consumer's configuration) in a consumer of its own.

    Raises:
        TransportFailed: the bus does not answer.
        NotFound: there is no such stream.
    """
    config = reader_config(subjects, start)
    lookout = Lookout(subjects, floor_of(start), js.wire.settings.resync_seconds, now=time.monotonic())
    info = await create_ephemeral(js, stream, config)
    try:
        async with open_pull(js, stream, config["name"]) as pull:
            yield Reader(js, stream, config["name"], pull, int(info.get("num_pending", 0)), lookout)
    finally:
        if js.wire.connected:
            await finish(delete_consumer(js, stream, config["name"]))


async def watch(js: JetStream, stream: str, subjects: Sequence[str]) -> AsyncGenerator[Entry | InSync, None]:
    """The newest message of every subject, then InSync, then every new message; begins anew after every interruption.

    Never ends by itself. Every new beginning delivers all newest values again.
    """
    failures, newest, resync = 0, 0, False
    while True:
        await js.wire.wait_connected()
        try:
            async with open_reader(js, stream, subjects, {"deliver_policy": "last_per_subject"}) as reader:
                async for entry in reader.initial():
                    newest = max(newest, entry.sequence)
                    yield entry
                yield InSync(newest, resync)
                while True:
                    entry = await reader.next()
                    failures, newest = 0, max(newest, entry.sequence)
                    yield entry
        except (TransportFailed, NotFound) as e:
            failures += 1
            resync = True
            log.info("watch.interrupted", stream=stream, reason=str(e), failures=failures)
            # Jittered: a hundred nodes that come back at the same moment would make a hundred consumers at once.
            await asyncio.sleep(RESTART.delay(failures))


async def snapshot(js: JetStream, stream: str, subjects: Sequence[str]) -> list[Entry]:
    """The newest message of every subject, markers of deleted ones included; read anew when it is interrupted.

    Raises:
        TransportFailed: the bus does not answer.
        NotFound: there is no such stream.
    """
    failures = 0
    while True:
        try:
            async with open_reader(js, stream, subjects, {"deliver_policy": "last_per_subject"}) as reader:
                return [entry async for entry in reader.initial()]
        except Interrupted as e:
            # In a cluster, servers know of a new consumer a moment after it was made: until then nobody answers for it.
            failures += 1
            if failures > INTERRUPTIONS:
                raise
            log.info("snapshot.interrupted", stream=stream, reason=str(e), failures=failures)
            await asyncio.sleep(RESTART.delay(failures))


def _beginning(start_sequence: int | None, start_time: datetime | None) -> dict[str, Any]:
    if start_sequence is not None:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(start_sequence, 1)}
    if start_time is not None:
        if start_time.tzinfo is None:
            raise ValueError("start_time needs a time zone")
        return {"deliver_policy": "by_start_time", "opt_start_time": start_time.isoformat()}
    return {"deliver_policy": "all"}


async def tail(
    js: JetStream,
    stream: str,
    subjects: Sequence[str],
    *,
    start_sequence: int | None = None,
    start_time: datetime | None = None,
    follow: bool = False,
) -> AsyncIterator[Entry]:
    """Every message in order, each once; with *follow* it goes on with what comes, across interruptions.

    Raises:
        TransportFailed: the bus does not answer (only without *follow*).
        NotFound: there is no such stream.
    """
    start = _beginning(start_sequence, start_time)
    failures = 0
    while True:
        try:
            async with open_reader(js, stream, subjects, start) as reader:
                async for entry in reader.initial():
                    failures, start = 0, _beginning(entry.sequence + 1, None)
                    yield entry
                while follow:
                    entry = await reader.next()
                    failures, start = 0, _beginning(entry.sequence + 1, None)
                    yield entry
                return
        except TransportFailed as e:
            failures += 1
            if not follow and failures > INTERRUPTIONS:
                raise
            log.info("tail.interrupted", stream=stream, reason=str(e), failures=failures)
            await asyncio.sleep(RESTART.delay(failures))
            await js.wire.wait_connected(None if follow else js.timeout_seconds)


async def batches(
    js: JetStream,
    stream: str,
    subjects: Sequence[str],
    *,
    start_sequence: int | None = None,
    start_time: datetime | None = None,
) -> AsyncGenerator[list[Entry], None]:
    """As `tail` that follows, for streams that may storm: what has come is given at once. No batch is empty; the
    `pending` of its last message says how far behind the reader is."""
    start = _beginning(start_sequence, start_time)
    failures = 0
    while True:
        await js.wire.wait_connected()
        try:
            async with open_reader(js, stream, subjects, start) as reader:
                while True:
                    entries = await reader.batch()
                    failures, start = 0, _beginning(entries[-1].sequence + 1, None)
                    yield entries
        except (TransportFailed, NotFound) as e:
            failures += 1
            log.info("tail.interrupted", stream=stream, reason=str(e), failures=failures)
            await asyncio.sleep(RESTART.delay(failures))
