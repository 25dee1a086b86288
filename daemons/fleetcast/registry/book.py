"""What is kept in a stream with one value per subject, and how it changes: read through the leader, written by
compare-and-swap, together with the facts that tell of it (ADR 0006). Knows nothing of what is decided."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from pydantic import ValidationError

from fleetcast.bus import BatchMessage, Bus, Entry, tracing
from fleetcast.bus.errors import BusUnavailable, Conflict, TransportFailed
from fleetcast.bus.retry import CONFLICT
from fleetcast.events.content import Value
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import Payload
from fleetcast.events.state import Cause
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.rules import dump

V = TypeVar("V", bound=Value)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Found(Generic[V]):
    """A stored value and its sequence; 0 when there is none."""

    value: V | None
    sequence: int


@dataclass(frozen=True, slots=True)
class Antecedent:
    """A cause as the envelope wants it: an event of which only the ids are known."""

    id: str
    correlationid: str

    @classmethod
    def of(cls, cause: Cause) -> "Antecedent":
        return cls(cause.event, cause.correlation)


def now() -> datetime:
    return datetime.now(UTC)


class Book:
    """One stream of states and facts.

    Attributes:
        stream: its name.
        fact_prefix: where its facts are published; they reach FC_EVENTS below `fc.ev.`.
    """

    def __init__(self, bus: Bus, stream: str, fact_prefix: str, *, clock: Callable[[], datetime] = now) -> None:
        self.bus = bus
        self.clock = clock
        self.stream = stream
        self.fact_prefix = fact_prefix
        self._source = f"/fleet/{bus.node}/{bus.daemon}"
        self._locks: dict[str, asyncio.Lock] = {}

    async def find(self, subject: str, kind: type[V]) -> Found[V]:
        """The newest value.

        Raises:
            TransportFailed: the bus does not answer.
            RecordDamaged: it cannot be read.
        """
        entry = await self.bus.last(self.stream, subject)
        return Found(None, 0) if entry is None else Found(read(kind, entry), entry.sequence)

    async def all(self, subjects: tuple[str, ...], kind: type[V]) -> list[V]:
        """The newest values of all subjects that match; errors as `find`."""
        return [read(kind, entry) for entry in await self.bus.newest(self.stream, subjects)]

    def fact(self, payload: Payload, cause: Antecedent | None, discriminator: str) -> Event:
        """A fact that follows from *cause*."""
        fact = new_event(
            payload, source=self._source, cause=cause, discriminator=discriminator, time=self.clock(), key=None
        )
        return tracing.stamped(fact)

    def fact_message(self, fact: Event) -> BatchMessage:
        """A fact as part of a batch: its last token makes the subject its own, because the stream keeps one message
        per subject and FC_EVENTS copies with a delay."""
        data, headers = fact.encode()
        return BatchMessage(f"{fact.type.fact_subject(fact.key, self.fact_prefix)}.{fact.id}", data, 0, headers)

    async def write(self, states: Sequence[BatchMessage], facts: Sequence[Event] = ()) -> int:
        """Store *states* (`stored`) and *facts*, all of it or nothing; the sequence of the last message.

        Raises:
            Conflict: somebody else wrote first, or a fact was told before: read again, decide again.
            OutcomeUnknown: no answer; `until_settled` reads what is there and decides again.
        """
        return await self.bus.batch([*states, *(self.fact_message(fact) for fact in facts)])

    async def until_settled(self, about: str, attempt: Callable[[], Awaitable[R]]) -> R:
        """Repeat *attempt*, which reads before it writes, until nobody else was quicker; one at a time *about* a
        thing.

        Raises:
            BusUnavailable: not before the publish deadline.
        """
        deadline = time.monotonic() + self.bus.settings.publish_deadline_seconds
        failures = 0
        async with self._locks.setdefault(about, asyncio.Lock()):
            while True:
                try:
                    return await attempt()
                except Conflict as e:
                    problem: Exception = e
                except TransportFailed as e:
                    # An unknown outcome is settled by the next attempt: it reads what is there.
                    problem = e
                    await self.bus.wire.wait_connected(max(deadline - time.monotonic(), 0.0))
                failures += 1
                if time.monotonic() >= deadline:
                    raise BusUnavailable(f"no decision about {about} was stored in time: {problem}") from problem
                await asyncio.sleep(CONFLICT.delay(failures))


def read(kind: type[V], entry: Entry) -> V:
    """A stored value.

    Raises:
        RecordDamaged: it cannot be read.
    """
    try:
        return kind.model_validate_json(entry.data)
    except ValidationError as e:
        raise RecordDamaged(f"{entry.subject} cannot be read: {e.errors()[0]['msg']}") from e


def stored(subject: str, value: Value, expected_sequence: int) -> BatchMessage:
    """A state as part of a batch; *expected_sequence* is that of the value it was decided from, 0: there was none."""
    return BatchMessage(subject, dump(value), expected_sequence)
