"""The registry's truth: reads and compare-and-swap writes on FC_REGISTRY (ADR 0006).

A decision is one atomic batch {state, request record, chain, audit record, fact}: what is served, who decided it and
what the fleet is told cannot disagree. Any number of writers may work at once; the expected sequences let one win.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from fleetcast.bus import BatchMessage, Bus, Entry, InSync
from fleetcast.bus.streams import REGISTRY
from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import RolloutState, rollout_subject
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
    request_subject,
    slot_subject,
    version_subject,
)
from fleetcast.registry import rules
from fleetcast.registry.commands import stamp
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.ledger import Antecedent, Change, Facts, Found, Ledger, V, now, read
from fleetcast.registry.rules import RequestRecord, Reserved, SlotOutcome

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

SLOT_SUBJECTS = (slot_subject("*"), slot_subject("*", Kind.DATASET))
DISTRIBUTION_SUBJECTS = ("fc.reg.state.distribution.*.*",)
ROLLOUT_SUBJECTS = (rollout_subject("*"),)


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


class Registry:
    """Versions and slots, over a bus."""

    def __init__(self, bus: Bus, *, clock: Callable[[], datetime] = now) -> None:
        self._bus = bus
        self._ledger = Ledger(bus, clock=clock)

    # -- read

    async def slot(self, model: str, kind: Kind = Kind.MODEL) -> SlotState | None:
        """What is served of a model (or the newest data set of a lane), read through the leader.

        Raises:
            BusUnavailable: the bus does not answer.
            RecordDamaged: what is stored cannot be read.
        """
        return (await self._ledger.find(slot_subject(model, kind), SlotState)).value

    async def slots(self) -> list[SlotState]:
        """All slots; errors as `slot`."""
        return await self._ledger.all(SLOT_SUBJECTS, SlotState)

    async def version(self, model: str, version: str, kind: Kind = Kind.MODEL) -> VersionState | None:
        """A version; errors as `slot`."""
        return (await self._ledger.find(version_subject(model, version, kind), VersionState)).value

    async def versions(self, model: str | None = None) -> list[VersionState]:
        """All versions (of one model or lane), in the order of their reservation; errors as `slot`."""
        return await self._ledger.all((f"fc.reg.state.version.{model or '*'}.*",), VersionState)

    async def history(self, model: str) -> list[AuditRecord]:
        """Every decision about a model, oldest first; errors as `slot`."""
        return [read(AuditRecord, entry) async for entry in self._records(model)]

    async def broken_links(self, model: str) -> list[str]:
        """What is wrong with a model's audit records; nothing: the chain is unbroken and ends where the state says.

        Raises:
            BusUnavailable: the bus does not answer.
        """
        chain = (await self._ledger.find(chain_subject(model), ChainState)).value or rules.NO_CHAIN
        links = [rules.link_of(entry.data) async for entry in self._records(model)]
        problems = rules.broken_links(links)
        # Records that came after the chain was read are no fault; a missing end is.
        if len(links) < chain.n:
            problems.append(f"the chain has {chain.n} records, {len(links)} are there")
        return problems

    async def watch_slots(self) -> AsyncIterator[SlotState | InSync]:
        """Every slot as it is, `InSync`, then every change; begins anew after every interruption, never ends."""
        async for state in self._watch(SLOT_SUBJECTS, SlotState):
            yield state

    async def watch_distributions(self) -> AsyncIterator[DistributionState | InSync]:
        """Every distribution, then every change, as `watch_slots`."""
        async for state in self._watch(DISTRIBUTION_SUBJECTS, DistributionState):
            yield state

    async def watch_rollouts(self) -> AsyncIterator[RolloutState | InSync]:
        """The newest rollout of every model, then every change, as `watch_slots`."""
        async for state in self._watch(ROLLOUT_SUBJECTS, RolloutState):
            yield state

    async def _watch(self, subjects: tuple[str, ...], kind: type[V]) -> AsyncIterator[V | InSync]:
        async for item in self._bus.watch(REGISTRY, subjects):
            if isinstance(item, InSync):
                yield item
                continue
            try:
                state = read(kind, item)
            except RecordDamaged as e:
                # One record that cannot be read must not stop the node from following all the others.
                log.warning("record.unreadable", subject=item.subject, sequence=item.sequence, reason=str(e))
                continue
            yield state

    def _records(self, model: str) -> AsyncIterator[Entry]:
        return self._bus.tail(REGISTRY, [f"fc.reg.log.{model}.*"])

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
            found = await self._ledger.find(subject, VersionState)
            decision = rules.decide_reservation(found.value, state)
            if decision.created:
                message = BatchMessage(subject, rules.dump(state), found.sequence)
                written = True
                await self._ledger.commit(self._reserved(state, message, request, actor))
            # An earlier attempt of this call may have been stored although its answer was lost.
            return Reserved(decision.state, created=decision.created or (written and found.value == state))

        return await self._ledger.until_settled(state.model, attempt)

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
        return await self._ledger.until_settled(model, lambda: self._try_order(order))

    async def _try_order(self, order: _Order) -> SlotOutcome:
        record = await self._request(order)
        found = await self._ledger.find(slot_subject(order.model, order.kind), SlotState)
        if record is not None and found.value is not None:
            ours = record.attempt == order.nonce
            return SlotOutcome(record.kind if ours or record.kind == "superseded" else "repeated", found.value)
        outcome = rules.decide_order(
            found.value,
            model=order.model,
            kind=order.kind,
            entry=order.entry,
            cause=order.cause,
            at=stamp(self._ledger.clock()),
        )
        if outcome.kind == "moved":
            await self._ledger.commit(self._moved(order, found, outcome.state))
        elif outcome.kind == "superseded":
            await self._ledger.commit(self._superseded(order, outcome.state))
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
            found = await self._ledger.find(subject, DistributionState)
            if found.value is not None and found.value.cause.sequence >= wanted.cause.sequence:
                return found.value
            message = BatchMessage(subject, rules.dump(wanted), found.sequence)
            await self._ledger.commit(self._distributed(wanted, found.value, message, request, actor))
            return wanted

        return await self._ledger.until_settled(wanted.model, attempt)

    # -- what a decision writes

    def _moved(self, order: _Order, found: Found[SlotState], state: SlotState) -> Change:
        slot = BatchMessage(slot_subject(order.model, order.kind), rules.dump(state), found.sequence)
        return Change(
            model=order.model,
            action="slot.ordered",
            request=order.request,
            actor=order.actor,
            reason=order.reason,
            before=rules.as_mapping(found.value),
            after=rules.as_mapping(state),
            states=(slot, _request_message(order, "moved", state.generation)),
            facts=self._ordered_fact(state),
        )

    def _superseded(self, order: _Order, present: SlotState) -> Change:
        later = present.cause
        return Change(
            model=order.model,
            action="slot.superseded",
            request=order.request,
            actor=order.actor,
            reason=f"event {later.sequence} ({later.event}) had ordered generation {present.generation} already",
            before=rules.as_mapping(present),
            after=rules.as_mapping(order.entry),
            states=(_request_message(order, "superseded", present.generation),),
        )

    def _reserved(self, state: VersionState, message: BatchMessage, request: str, actor: str) -> Change:
        return Change(
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
            facts=self._reserved_fact(state),
        )

    def _distributed(
        self,
        wanted: DistributionState,
        before: DistributionState | None,
        message: BatchMessage,
        request: str,
        actor: str,
    ) -> Change:
        return Change(
            model=wanted.model,
            action="distribution.ordered",
            request=request,
            actor=actor,
            reason=None,
            before=rules.as_mapping(before),
            after=rules.as_mapping(wanted),
            states=(message,),
            facts=self._distributed_fact(wanted),
        )

    # -- facts

    def _distributed_fact(self, state: DistributionState) -> Facts:
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

    def _ordered_fact(self, state: SlotState) -> Facts:
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

    def _reserved_fact(self, state: VersionState) -> Facts:
        payload = VersionReserved(
            model=state.model, version=state.version, artifact=state.artifact, origin=state.origin.node
        )
        return self._fact(payload, state.cause, f"{state.kind.value}/{state.version}")

    def _fact(self, payload: Payload, cause: Cause, discriminator: str) -> Facts:
        fact = self._ledger.fact(payload, Antecedent.of(cause), discriminator)
        return lambda _n: (fact,)


def _request_message(order: _Order, kind: rules.Kinds, generation: int) -> BatchMessage:
    record = RequestRecord(order.request, kind, generation, order.nonce)
    return BatchMessage(request_subject(order.model, order.request), record.encode(), 0)
