"""One decision, one atomic batch: states by compare-and-swap, the audit record that follows from the one before, and
the facts that tell the fleet (ADR 0006). Knows nothing of what is decided."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import structlog
from pydantic import ValidationError

from fleetcast.bus import BatchMessage, Bus, Entry
from fleetcast.bus.errors import BusUnavailable, Conflict, TransportFailed
from fleetcast.bus.retry import CONFLICT
from fleetcast.bus.streams import REGISTRY
from fleetcast.events.content import Value
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import Payload
from fleetcast.events.state import AuditRecord, Cause, ChainState, chain_subject, log_subject
from fleetcast.registry import rules
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

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


Facts = Callable[[int], tuple[Event, ...]]
"""The facts that a decision tells, given the number of its audit record."""


def no_facts(_: int) -> tuple[Event, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one decision writes besides the chain.

    Attributes:
        chain: the chain of the model's audit records as it was read before the decision was made; with None it is
            read when it is written, which is enough where all that was looked at is written too.
        at: moment of the decision, the same as in the states that it writes; None: when it is written.
    """

    model: str
    action: str
    request: str
    actor: str
    reason: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    evidence: Mapping[str, Any] | None = None
    states: tuple[BatchMessage, ...] = ()
    facts: Facts = field(default=no_facts)
    chain: Found[ChainState] | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a decision was written: the number of its audit record, and the sequence of its last message."""

    n: int
    sequence: int


def now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """Reads through the leader, and writes by compare-and-swap."""

    def __init__(self, bus: Bus, *, clock: Callable[[], datetime] = now) -> None:
        self.bus = bus
        self.clock = clock
        self._source = f"/fleet/{bus.node}/{bus.daemon}"
        self._locks: dict[str, asyncio.Lock] = {}

    async def find(self, subject: str, kind: type[V]) -> Found[V]:
        """The newest value.

        Raises:
            TransportFailed: the bus does not answer.
            RecordDamaged: it cannot be read.
        """
        entry = await self.bus.last(REGISTRY, subject)
        return Found(None, 0) if entry is None else Found(read(kind, entry), entry.sequence)

    async def all(self, subjects: tuple[str, ...], kind: type[V]) -> list[V]:
        """The newest values of all subjects that match; errors as `find`."""
        return [read(kind, entry) for entry in await self.bus.newest(REGISTRY, subjects)]

    async def chain(self, model: str) -> Found[ChainState]:
        """The end of a model's audit records; errors as `find`."""
        return await self.find(chain_subject(model), ChainState)

    def fact(self, payload: Payload, cause: Antecedent | None, discriminator: str) -> Event:
        """A fact that follows from *cause*."""
        return new_event(
            payload, source=self._source, cause=cause, discriminator=discriminator, time=self.clock(), key=None
        )

    async def commit(self, change: Change) -> Committed:
        """Write a decision, all of it or nothing.

        Raises:
            Conflict: somebody else wrote first.
            OutcomeUnknown: no answer.
        """
        found = change.chain or await self.chain(change.model)
        chain = found.value or rules.NO_CHAIN
        record = AuditRecord(
            n=chain.n + 1,
            model=change.model,
            action=change.action,
            request=change.request,
            actor=change.actor,
            reason=change.reason,
            before=_plain(change.before),
            after=_plain(change.after),
            evidence=_plain(change.evidence),
            at=change.at or stamp(self.clock()),
            prev_sha256=chain.sha256,
        )
        data, following = rules.next_link(chain, record)
        messages = [
            *change.states,
            BatchMessage(chain_subject(change.model), rules.dump(following), found.sequence),
            BatchMessage(log_subject(change.model, record.n), data, 0),
            *(_fact_message(fact) for fact in change.facts(record.n)),
        ]
        sequence = await self.bus.batch(messages)
        log.info("registry.decided", model=change.model, action=change.action, n=record.n, request=change.request)
        return Committed(record.n, sequence)

    async def until_settled(self, model: str, attempt: Callable[[], Awaitable[R]]) -> R:
        """Repeat *attempt*, which reads before it writes, until nobody else was quicker.

        Raises:
            BusUnavailable: not before the publish deadline.
        """
        deadline = time.monotonic() + self.bus.settings.publish_deadline_seconds
        failures = 0
        async with self._locks.setdefault(model, asyncio.Lock()):
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
                    raise BusUnavailable(f"no decision about {model} was stored in time: {problem}") from problem
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


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)


def _fact_message(fact: Event) -> BatchMessage:
    """A fact as part of a batch: its last token makes the subject its own, because FC_REGISTRY keeps one message per
    subject and FC_EVENTS copies with a delay."""
    data, headers = fact.encode()
    return BatchMessage(f"{fact.type.fact_subject(fact.key)}.{fact.id}", data, 0, headers)
