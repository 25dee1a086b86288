"""The registry's truth: reads and compare-and-swap writes on FC_REGISTRY (ADR 0006).

A decision is one atomic batch {state, request record, chain, audit record, fact}: what is served, who decided it and
what the fleet is told cannot disagree. Any number of writers may work at once; the expected sequences let one win.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import structlog
from pydantic import ValidationError

from fleetcast.bus import BatchMessage, Bus, Entry, InSync
from fleetcast.bus.errors import BusUnavailable, Conflict, TransportFailed
from fleetcast.bus.retry import CONFLICT
from fleetcast.bus.streams import REGISTRY
from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Kind, Value
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import DistributionOrdered, Payload, SlotOrdered, VersionReserved
from fleetcast.events.state import (
    AuditRecord,
    Cause,
    ChainState,
    DistributionState,
    SlotEntry,
    SlotState,
    VersionState,
    chain_subject,
    distribution_subject,
    log_subject,
    request_subject,
    slot_subject,
    version_subject,
)
from fleetcast.registry import rules
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.rules import RequestRecord, Reserved, SlotOutcome

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

SLOT_SUBJECTS = (slot_subject("*"), slot_subject("*", Kind.DATASET))
DISTRIBUTION_SUBJECTS = ("fc.reg.state.distribution.*.*",)

V = TypeVar("V", bound=Value)
R = TypeVar("R")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Antecedent:
    """A cause as the envelope wants it: an event of which only the ids are known."""

    id: str
    correlationid: str


@dataclass(frozen=True, slots=True)
class _Found(Generic[V]):
    """A stored value and its sequence; 0 when there is none."""

    value: V | None
    sequence: int


@dataclass(frozen=True, slots=True)
class _Order:
    """A slot order as it was asked for; `nonce` tells this call from others with the same request."""

    model: str
    kind: Kind
    entry: SlotEntry
    cause: Cause
    request: str
    actor: str
    reason: str | None
    nonce: str


@dataclass(frozen=True, slots=True)
class _Change:
    """What one decision writes besides the chain."""

    model: str
    action: str
    request: str
    actor: str
    reason: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    states: tuple[BatchMessage, ...]
    fact: Event | None


class Registry:
    """Versions and slots, over a bus."""

    def __init__(self, bus: Bus, *, clock: Callable[[], datetime] = _now) -> None:
        self._bus = bus
        self._clock = clock
        self._source = f"/fleet/{bus.node}/{bus.daemon}"
        self._locks: dict[str, asyncio.Lock] = {}

    # -- read

    async def slot(self, model: str, kind: Kind = Kind.MODEL) -> SlotState | None:
        """What is served of a model (or the newest data set of a lane), read through the leader.

        Raises:
            BusUnavailable: the bus does not answer.
            RecordDamaged: what is stored cannot be read.
        """
        return (await self._find(slot_subject(model, kind), SlotState)).value

    async def slots(self) -> list[SlotState]:
        """All slots; errors as `slot`."""
        return await self._all(SLOT_SUBJECTS, SlotState)

    async def version(self, model: str, version: str, kind: Kind = Kind.MODEL) -> VersionState | None:
        """A version; errors as `slot`."""
        return (await self._find(version_subject(model, version, kind), VersionState)).value

    async def versions(self, model: str | None = None) -> list[VersionState]:
        """All versions (of one model or lane), in the order of their reservation; errors as `slot`."""
        return await self._all((f"fc.reg.state.version.{model or '*'}.*",), VersionState)

    async def history(self, model: str) -> list[AuditRecord]:
        """Every decision about a model, oldest first; errors as `slot`."""
        return [_read(AuditRecord, entry) async for entry in self._records(model)]

    async def broken_links(self, model: str) -> list[str]:
        """What is wrong with a model's audit records; nothing: the chain is unbroken and ends where the state says.

        Raises:
            BusUnavailable: the bus does not answer.
        """
        chain = (await self._find(chain_subject(model), ChainState)).value or rules.NO_CHAIN
        records = [entry.data async for entry in self._records(model)]
        problems = rules.broken_links(records)
        # Records that came after the chain was read are no fault; a missing end is.
        if len(records) < chain.n:
            problems.append(f"the chain has {chain.n} records, {len(records)} are there")
        return problems

    async def watch_slots(self) -> AsyncIterator[SlotState | InSync]:
        """Every slot as it is, `InSync`, then every change; begins anew after every interruption, never ends."""
        async for state in self._watch(SLOT_SUBJECTS, SlotState):
            yield state

    async def watch_distributions(self) -> AsyncIterator[DistributionState | InSync]:
        """Every distribution, then every change, as `watch_slots`."""
        async for state in self._watch(DISTRIBUTION_SUBJECTS, DistributionState):
            yield state

    async def _watch(self, subjects: tuple[str, ...], kind: type[V]) -> AsyncIterator[V | InSync]:
        async for item in self._bus.watch(REGISTRY, subjects):
            if isinstance(item, InSync):
                yield item
                continue
            try:
                state = _read(kind, item)
            except RecordDamaged as e:
                # One record that cannot be read must not stop the node from following all the others.
                log.warning("record.unreadable", subject=item.subject, sequence=item.sequence, reason=str(e))
                continue
            yield state

    def _records(self, model: str) -> AsyncIterator[Entry]:
        return self._bus.tail(REGISTRY, [f"fc.reg.log.{model}.*"])

    async def _find(self, subject: str, kind: type[V]) -> _Found[V]:
        entry = await self._bus.last(REGISTRY, subject)
        return _Found(None, 0) if entry is None else _Found(_read(kind, entry), entry.sequence)

    async def _all(self, subjects: tuple[str, ...], kind: type[V]) -> list[V]:
        return [_read(kind, entry) for entry in await self._bus.newest(REGISTRY, subjects)]

    # -- write

    async def reserve_version(self, state: VersionState, *, request: str, actor: str) -> Reserved:
        """Give a version its content, for ever; the same content again is the same answer.

        *request*: id of the request, for the record; *actor*: who asked.

        Raises:
            VersionTaken: it has other content; names the winner.
            BusUnavailable: not before the publish deadline; calling again is safe.
        """

        written = False

        async def attempt() -> Reserved:
            nonlocal written
            subject = version_subject(state.model, state.version, state.kind)
            found = await self._find(subject, VersionState)
            decision = rules.decide_reservation(found.value, state)
            if decision.created:
                message = BatchMessage(subject, rules.dump(state), found.sequence)
                written = True
                await self._commit(self._reserved(state, message, request, actor))
            # An earlier attempt of this call may have been stored although its answer was lost.
            return Reserved(decision.state, created=decision.created or (written and found.value == state))

        return await self._until_settled(state.model, attempt)

    async def order_slot(
        self,
        model: str,
        entry: SlotEntry,
        *,
        cause: Cause,
        request: str,
        actor: str,
        reason: str | None = None,
        kind: Kind = Kind.MODEL,
    ) -> SlotOutcome:
        """Serve *entry* as the production of a model, unless a later cause has already decided otherwise.

        *request*: idempotency key: the same request again changes nothing and answers `repeated` (or `superseded`,
        when that was the answer).

        Raises:
            BusUnavailable: not before the publish deadline; calling again with the same request is safe.
            RecordDamaged: what is stored cannot be read.
        """
        order = _Order(model, kind, entry, cause, request, actor, reason, nonce=new_ulid())
        return await self._until_settled(model, lambda: self._try_order(order))

    async def _try_order(self, order: _Order) -> SlotOutcome:
        record = await self._request(order)
        found = await self._find(slot_subject(order.model, order.kind), SlotState)
        if record is not None and found.value is not None:
            ours = record.attempt == order.nonce
            return SlotOutcome(record.kind if ours or record.kind == "superseded" else "repeated", found.value)
        outcome = rules.decide_order(
            found.value,
            model=order.model,
            kind=order.kind,
            entry=order.entry,
            cause=order.cause,
            at=_stamp(self._clock()),
        )
        if outcome.kind == "moved":
            await self._commit(self._moved(order, found, outcome.state))
        elif outcome.kind == "superseded":
            await self._commit(self._superseded(order, outcome.state))
        return outcome

    async def _request(self, order: _Order) -> RequestRecord | None:
        entry = await self._bus.last(REGISTRY, request_subject(order.model, order.request))
        if entry is None:
            return None
        try:
            return RequestRecord.decode(entry.data)
        except (ValueError, KeyError, TypeError) as e:
            raise RecordDamaged(f"{entry.subject}: {e}") from e

    async def order_distribution(self, wanted: DistributionState, *, request: str, actor: str) -> DistributionState:
        """Have a version brought to the nodes that *wanted* addresses, unless a later cause has said otherwise.

        Returns:
            What holds now: *wanted*, or what a later cause ordered for the version.

        Raises:
            BusUnavailable: not before the publish deadline; calling again is safe.
            RecordDamaged: what is stored cannot be read.
        """

        async def attempt() -> DistributionState:
            subject = distribution_subject(wanted.model, wanted.version, wanted.kind)
            found = await self._find(subject, DistributionState)
            if found.value is not None and found.value.cause.sequence >= wanted.cause.sequence:
                return found.value
            message = BatchMessage(subject, rules.dump(wanted), found.sequence)
            await self._commit(self._distributed(wanted, found.value, message, request, actor))
            return wanted

        return await self._until_settled(wanted.model, attempt)

    # -- what a decision writes

    def _moved(self, order: _Order, found: _Found[SlotState], state: SlotState) -> _Change:
        slot = BatchMessage(slot_subject(order.model, order.kind), rules.dump(state), found.sequence)
        return _Change(
            model=order.model,
            action="slot.ordered",
            request=order.request,
            actor=order.actor,
            reason=order.reason,
            before=rules.as_mapping(found.value),
            after=rules.as_mapping(state),
            states=(slot, _request_message(order, "moved", state.generation)),
            fact=self._ordered_fact(state),
        )

    def _superseded(self, order: _Order, present: SlotState) -> _Change:
        later = present.cause
        return _Change(
            model=order.model,
            action="slot.superseded",
            request=order.request,
            actor=order.actor,
            reason=f"event {later.sequence} ({later.event}) had ordered generation {present.generation} already",
            before=rules.as_mapping(present),
            after=rules.as_mapping(order.entry),
            states=(_request_message(order, "superseded", present.generation),),
            fact=None,
        )

    def _reserved(self, state: VersionState, message: BatchMessage, request: str, actor: str) -> _Change:
        return _Change(
            model=state.model,
            action="version.reserved",
            request=request,
            actor=actor,
            reason=None,
            before=None,
            # The whole state holds metainfo and can be large; the artifact names its content for ever.
            after={
                "version": state.version,
                "kind": state.kind.value,
                "artifact": state.artifact,
                "origin": state.origin.node,
                "cause": state.cause.model_dump(mode="json"),
            },
            states=(message,),
            fact=self._reserved_fact(state),
        )

    def _distributed(
        self,
        wanted: DistributionState,
        before: DistributionState | None,
        message: BatchMessage,
        request: str,
        actor: str,
    ) -> _Change:
        return _Change(
            model=wanted.model,
            action="distribution.ordered",
            request=request,
            actor=actor,
            reason=None,
            before=rules.as_mapping(before),
            after=rules.as_mapping(wanted),
            states=(message,),
            fact=self._distributed_fact(wanted),
        )

    # -- facts

    def _distributed_fact(self, state: DistributionState) -> Event:
        payload = DistributionOrdered(
            model=state.model,
            kind="dataset" if state.kind is Kind.DATASET else "model",
            version=state.version,
            artifact=state.artifact,
            origin=state.origin,
            to=state.to,
            until=state.until,
        )
        return self._fact(payload, state.cause, f"distribution/{state.kind.value}/{state.version}")

    def _ordered_fact(self, state: SlotState) -> Event:
        assert state.production is not None
        payload = SlotOrdered(
            model=state.model,
            slot="production",
            version=state.production.version,
            artifact=state.production.artifact,
            generation=state.generation,
            previous=state.previous.version if state.previous else None,
        )
        return self._fact(payload, state.cause, f"{state.kind.value}/{state.generation}")

    def _reserved_fact(self, state: VersionState) -> Event:
        payload = VersionReserved(
            model=state.model, version=state.version, artifact=state.artifact, origin=state.origin.node
        )
        return self._fact(payload, state.cause, f"{state.kind.value}/{state.version}")

    def _fact(self, payload: Payload, cause: Cause, discriminator: str) -> Event:
        return new_event(
            payload,
            source=self._source,
            cause=_Antecedent(cause.event, cause.correlation),
            discriminator=discriminator,
            time=self._clock(),
        )

    # -- the batch

    async def _commit(self, change: _Change) -> None:
        """Write a decision, all of it or nothing.

        Raises:
            Conflict: somebody else wrote first.
            OutcomeUnknown: no answer.
        """
        found = await self._find(chain_subject(change.model), ChainState)
        chain = found.value or rules.NO_CHAIN
        record = AuditRecord(
            n=chain.n + 1,
            model=change.model,
            action=change.action,
            request=change.request,
            actor=change.actor,
            reason=change.reason,
            before=None if change.before is None else dict(change.before),
            after=None if change.after is None else dict(change.after),
            at=_stamp(self._clock()),
            prev_sha256=chain.sha256,
        )
        data, following = rules.next_link(chain, record)
        messages = [
            *change.states,
            BatchMessage(chain_subject(change.model), rules.dump(following), found.sequence),
            BatchMessage(log_subject(change.model, record.n), data, 0),
        ]
        if change.fact is not None:
            messages.append(_fact_message(change.fact))
        await self._bus.batch(messages)
        log.info("registry.decided", model=change.model, action=change.action, n=record.n, request=change.request)

    async def _until_settled(self, model: str, attempt: Callable[[], Awaitable[R]]) -> R:
        """Repeat *attempt*, which reads before it writes, until nobody else was quicker."""
        deadline = time.monotonic() + self._bus.settings.publish_deadline_seconds
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
                    await self._bus.wire.wait_connected(max(deadline - time.monotonic(), 0.0))
                failures += 1
                if time.monotonic() >= deadline:
                    raise BusUnavailable(f"no decision about {model} was stored in time: {problem}") from problem
                await asyncio.sleep(CONFLICT.delay(failures))


def _stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(kind: type[V], entry: Entry) -> V:
    try:
        return kind.model_validate_json(entry.data)
    except ValidationError as e:
        raise RecordDamaged(f"{entry.subject} cannot be read: {e.errors()[0]['msg']}") from e


def _request_message(order: _Order, kind: rules.Kinds, generation: int) -> BatchMessage:
    record = RequestRecord(order.request, kind, generation, order.nonce)
    return BatchMessage(request_subject(order.model, order.request), record.encode(), 0)


def _fact_message(fact: Event) -> BatchMessage:
    """A fact as part of a batch: its last token makes the subject its own, because FC_REGISTRY keeps one message per
    subject and FC_EVENTS copies with a delay."""
    data, headers = fact.encode()
    return BatchMessage(f"{fact.type.fact_subject(fact.key)}.{fact.id}", data, 0, headers)
