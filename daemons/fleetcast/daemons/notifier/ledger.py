"""What is owed, in FC_REMEDY: read once, followed, and written by compare-and-swap. Topics that are over, and of which
everybody was told, leave the memory; what is stored of them stays."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from fleetcast.bus import BatchMessage, Bus, Entry, InSync
from fleetcast.bus.jetstream import parse_time
from fleetcast.bus.streams import REMEDY
from fleetcast.daemons.notifier.rules import noted
from fleetcast.daemons.notifier.state import (
    OUTBOX_STATE,
    TOPIC_STATE,
    Member,
    Outbox,
    Topic,
    outbox_subject,
    topic_subject,
)
from fleetcast.events.names import REMEDY_PREFIX
from fleetcast.registry.book import Book, Found, read
from fleetcast.registry.errors import RecordDamaged

log = structlog.get_logger("fleetcast.notifier")

CLOCK_SECONDS = 600.0
"""How long the server's clock is reckoned on with ours before it is asked again."""


class StreamClock:
    """The server's time: asked for, and in between counted by a clock that nobody sets."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._time = datetime.now(UTC)
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Ask the server, unless that was done lately.

        Raises:
            TransportFailed: it does not answer.
        """
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at < CLOCK_SECONDS:
            return
        answer = await self._bus.js.api(f"STREAM.INFO.{REMEDY}")
        self._time = parse_time(str(answer["ts"]))
        self._read_at = loop.time()

    def now(self) -> datetime:
        """The server's time, as far as it is known."""
        loop = asyncio.get_running_loop()
        if self._read_at == float("-inf"):
            return datetime.now(UTC)
        return datetime.fromtimestamp(self._time.timestamp() + loop.time() - self._read_at, UTC)


@dataclass(frozen=True, slots=True)
class Kept:
    """A topic as it was read, and its sequence."""

    value: Topic
    sequence: int


class Ledger:
    """Owner of the memory: topics that matter, and the outboxes of all channels."""

    def __init__(self, bus: Bus) -> None:
        self.book = Book(bus, REMEDY, REMEDY_PREFIX)
        self.clock = StreamClock(bus)
        self.known = asyncio.Event()
        """Set once everything that is stored has been read."""
        self._bus = bus
        self._topics: dict[str, Kept] = {}
        self._outboxes: dict[str, Found[Outbox]] = {}
        self._stored_at: dict[str, datetime] = {}
        self._sequence = 0
        self._changed = asyncio.Condition()

    # -- reading

    @property
    def topics(self) -> list[Topic]:
        """Those that are not over, and those that somebody is to be told of."""
        return [kept.value for kept in self._topics.values()]

    def outbox(self, channel: str) -> Found[Outbox]:
        """The outbox of a channel; an empty one where nothing was ever sent."""
        return self._outboxes.get(channel) or Found(Outbox(channel=channel), 0)

    def stored_at(self, channel: str) -> datetime | None:
        """When the outbox was written last, by the server's clock."""
        return self._stored_at.get(channel)

    @property
    def sequence(self) -> int:
        """How far the stream has been read."""
        return self._sequence

    async def changed(self, since: int, seconds: float | None) -> None:
        """Return once something was read that is newer than *since*, or after *seconds*."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._sequence > since)
        except TimeoutError:
            return

    async def watch(self) -> None:
        """Follow until cancelled."""
        subjects = (topic_subject("*"), outbox_subject("*"))
        async for entry in self._bus.watch(REMEDY, subjects):
            if isinstance(entry, InSync):
                self.known.set()
                continue
            try:
                self._take(entry)
            except RecordDamaged as e:
                log.warning("record.unreadable", subject=entry.subject, reason=str(e))
            async with self._changed:
                self._sequence = max(self._sequence, entry.sequence)
                self._changed.notify_all()

    def _take(self, entry: Entry) -> None:
        if entry.subject.startswith(OUTBOX_STATE):
            channel = entry.subject.removeprefix(OUTBOX_STATE)
            self._outboxes[channel] = Found(read(Outbox, entry), entry.sequence)
            self._stored_at[channel] = entry.time
            return
        topic = read(Topic, entry)
        name = entry.subject.removeprefix(TOPIC_STATE)
        if topic.over and not topic.wishes and not _shares_an_alert(topic):
            self._topics.pop(name, None)
        else:
            self._topics[name] = Kept(topic, entry.sequence)

    async def read_outbox(self, channel: str) -> Found[Outbox]:
        """The outbox as the stream has it now.

        Raises:
            TransportFailed: the bus does not answer.
            RecordDamaged: it cannot be read.
        """
        return await self.book.find(outbox_subject(channel), Outbox)

    # -- writing

    async def put_topic(self, name: str, change: Callable[[Topic | None], Topic | None]) -> bool:
        """Write what *change* makes of a topic as it is stored; whether it was changed.

        Raises:
            BusUnavailable: the bus does not take it in time.
            RecordDamaged: what is stored cannot be read.
        """

        async def attempt() -> bool:
            found = await self.book.find(topic_subject(name), Topic)
            made = change(found.value)
            if made is None:
                return False
            await self._write([_message(topic_subject(name), made, found.sequence)])
            return True

        return await self.book.until_settled(name, attempt)

    async def put_outbox(self, channel: str, before: int, outbox: Outbox) -> int:
        """Write an outbox that was read at the sequence *before*; its new sequence.

        Raises:
            Conflict: another notifier wrote first.
            TransportFailed: not known; read back.
        """
        return await self._write([_message(outbox_subject(channel), outbox, before)])

    async def settle(
        self,
        channel: str,
        members: Iterable[Member],
        now: datetime,
        outbox: Outbox | None = None,
        *,
        claim: str = "",
    ) -> bool:
        """Note that a channel was told of *members*, together with its outbox; False when that is another's by now.

        Raises:
            BusUnavailable: the bus does not take it in time.
        """
        chosen = {each.topic: each for each in members}

        async def attempt() -> bool:
            found = await self.read_outbox(channel)
            if outbox is not None and (found.value is None or found.value.claim != claim):
                return found.value is not None and found.value.sent_total == outbox.sent_total
            messages = []
            for entry in await self._newest([topic_subject(name) for name in chosen]):
                topic = read(Topic, entry)
                member = chosen[entry.subject.removeprefix(TOPIC_STATE)]
                messages.append(_message(entry.subject, noted(topic, channel, member, now), entry.sequence))
            if outbox is not None:
                # Last, so that whoever sees the outbox free has seen what was told: or it would be told again.
                messages.append(_message(outbox_subject(channel), outbox, found.sequence))
            if messages:
                await self._write(messages)
            return True

        return await self.book.until_settled(f"outbox {channel}", attempt)

    async def _newest(self, subjects: list[str]) -> list[Entry]:
        if len(subjects) == 1:
            entry = await self._bus.last(REMEDY, subjects[0])
            return [entry] if entry else []
        return await self._bus.newest(REMEDY, subjects) if subjects else []

    async def _write(self, messages: list[BatchMessage]) -> int:
        """Write all or nothing, and wait until the memory has it: whoever looks next sees what was written."""
        sequence = await self._bus.batch(messages)
        await self.changed(sequence - 1, self._bus.settings.request_timeout_seconds)
        return sequence


def _shares_an_alert(topic: Topic) -> bool:
    """Whether an alert that stands for several topics is still open somewhere: it ends when all of them are over."""
    return any(told.alert.startswith("storm-") and not told.over for told in topic.told.values())


def _message(subject: str, value: Topic | Outbox, expected: int) -> BatchMessage:
    return BatchMessage(subject, value.model_dump_json(exclude_defaults=True).encode(), expected)
