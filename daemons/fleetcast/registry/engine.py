"""The registry's decisions carried out: read a view, decide by a pure function, commit one batch, answer.

Two daemons may run it at once: whoever reads the end of a model's chain first and writes second has a conflict, and
decides anew. A request that was answered before has the same answer."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from fleetcast.bus import BatchMessage, Bus, tracing
from fleetcast.bus.streams import EVENTS
from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Kind, Stored
from fleetcast.events.envelope import Event
from fleetcast.events.ids import canonical_json
from fleetcast.events.lifecycle import (
    FLEET,
    DrainState,
    EntryState,
    FreezeState,
    RolloutState,
    TrustState,
    drain_subject,
    entry_subject,
    freeze_subject,
    rollout_subject,
    trust_subject,
)
from fleetcast.events.state import SlotEntry, SlotState, VersionState, request_subject, slot_subject, version_subject
from fleetcast.registry import rules
from fleetcast.registry.commands import (
    Adopt,
    Advance,
    Announce,
    Answer,
    AnyCommand,
    Approve,
    ArchiveKept,
    Command,
    Describe,
    Distribute,
    Drain,
    Evaluate,
    Freeze,
    Move,
    Order,
    Promote,
    Reserve,
    Resume,
    Returned,
    Rollback,
    Transition,
    Trust,
    stamp,
)
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.fencing import Fence, Stale, speech_of
from fleetcast.registry.gates.policy import Policy
from fleetcast.registry.gates.trust import current
from fleetcast.registry.ledger import Antecedent, Change, Found, Ledger
from fleetcast.registry.registry import Registry
from fleetcast.registry.transitions import announcing, archiving, holds, promote, rollback, rollouts, trusting, versions
from fleetcast.registry.transitions.view import Decision, NodeFacts, Readiness, Refusal, View

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

V = TypeVar("V", bound=Stored)
ReadinessOf = Callable[[str, str], Readiness]
"""Of a model and an artifact."""
NodeFactsOf = Callable[[str, Iterable[str]], NodeFacts]
"""Of a node, beside others of which some are drained."""


class RequestState(Stored):
    """What a request was answered, kept in its batch; `attempt`: of the call that wrote it."""

    request: str
    attempt: str
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Read:
    """A view, and the sequences of what it was read from."""

    view: View
    chain: Found[Any]


class Engine:
    """Carries out transitions over a bus."""

    def __init__(
        self,
        bus: Bus,
        *,
        policy: Callable[[], Policy],
        readiness: ReadinessOf,
        ledger: Ledger,
        archive_node: str = "",
        obeyed: Callable[[str], int] = lambda _model: 0,
        node_facts: NodeFactsOf = lambda _node, _drained: NodeFacts(known=True),
        fence: Fence | None = None,
    ) -> None:
        self._bus = bus
        self._node_facts = node_facts
        self._obeyed = obeyed
        self._policy = policy
        self._readiness = readiness
        self._archive_node = archive_node
        self._ledger = ledger
        self._registry = Registry(bus, clock=ledger.clock)
        self._fence = fence or Fence(bus)
        self.on_answer: Callable[[Transition, Answer], None] = lambda _transition, _answer: None
        """Called (synchronous, quick) with every answer."""

    async def handle(self, transition: Transition) -> Answer:
        """Decide and write; the answer says what became of it.

        Raises:
            BusUnavailable: not before the publish deadline; the same request again is safe.
            RecordDamaged: what is stored cannot be read.
        """
        with _span(transition) as span:
            answer = await self._handled(transition)
            span.note(outcome=answer.outcome, code=answer.code or None, generation=answer.generation)
            if not answer.accepted:
                span.failed(answer.message)
        self.on_answer(transition, answer)
        return answer

    async def _handled(self, transition: Transition) -> Answer:
        command = transition.command
        said = speech_of(transition)
        fence = self._fence.check_speech if transition.dry_run else self._fence.commit_speech
        # Before anything is decided: what is noted here is had, whoever claims the run later.
        if (stale := await fence(said)) is not None:
            return _stale(transition, stale)
        if isinstance(command, Order):
            return await self._order(transition, command)
        if isinstance(command, Distribute):
            return await self._distribute(transition, command)
        model = chain_of(command)
        attempt_id = new_ulid()
        return await self._ledger.until_settled(model, lambda: self._attempt(model, transition, attempt_id))

    async def _attempt(self, model: str, transition: Transition, attempt_id: str) -> Answer:
        chain = await self._ledger.chain(model)
        known, read = await asyncio.gather(
            self._ledger.find(request_subject(model, transition.request), RequestState),
            self._view(model, transition.command, chain),
        )
        if known.value is not None:
            return _again(known.value, attempt_id)
        try:
            decision = DECISIONS[type(transition.command)](read.view, transition, transition.command)
        except Refusal as refused:
            return refused.answer.model_copy(update={"dry_run": transition.dry_run})
        if transition.dry_run:
            return decision.answer.model_copy(update={"dry_run": True})
        return await self._commit(model, transition, decision, read, attempt_id)

    async def _view(self, model: str, command: AnyCommand, chain: Found[Any]) -> _Read:
        """Everything that a decision about a model looks at. The chain was read before: what is written meanwhile
        makes the decision a conflict."""
        find = self._ledger.find
        slot, rollout, freeze, all_freeze, head = await asyncio.gather(
            find(slot_subject(model), SlotState),
            find(rollout_subject(model), RolloutState),
            find(freeze_subject(model), FreezeState),
            find(freeze_subject(FLEET), FreezeState),
            self._head(command),
        )
        named = _versions_named(command, slot.value, rollout.value)
        entries = await asyncio.gather(*(find(entry_subject(model, v), EntryState) for v in named))
        sequences = {
            slot_subject(model): slot.sequence,
            rollout_subject(model): rollout.sequence,
            freeze_subject(model): freeze.sequence,
            freeze_subject(FLEET): all_freeze.sequence,
            **{entry_subject(model, v): e.sequence for v, e in zip(named, entries, strict=True)},
        }
        states = await self._states(model, command, sequences)
        drains = await self._drains(command, sequences)
        trust = await self._trust(model, command, sequences)
        known = {v: e.value for v, e in zip(named, entries, strict=True) if e.value is not None}
        freezes = {key: f.value for key, f in ((model, freeze), (FLEET, all_freeze)) if f.value is not None}
        view = View(
            model=model,
            now=self._ledger.clock(),
            chain=chain.value or rules.NO_CHAIN,
            slot=slot.value,
            rollout=rollout.value,
            freezes=freezes,
            entries=known,
            versions=states,
            sequences=sequences,
            head=head,
            policy=self._policy().for_model(model),
            readiness=lambda artifact: self._readiness(model, artifact),
            obeyed=self._obeyed(model),
            archive_node=self._archive_node,
            drains=drains,
            trust=trust,
            node_facts=self._node_facts,
        )
        missing = [v for v in named if v not in known and not isinstance(command, Reserve | Adopt | Announce)]
        if missing:
            view = replace(view, entries={**known, **await self._unadopted(view, missing)})
        return _Read(view, chain)

    async def _unadopted(self, view: View, missing: list[str]) -> dict[str, EntryState]:
        """Entries of versions that an origin wrote itself, as they would be; a decision about them writes them."""
        found = await asyncio.gather(
            *(self._ledger.find(version_subject(view.model, v), VersionState) for v in missing)
        )
        states = [f.value for f in found if f.value is not None]
        return {state.version: versions.first_entry(view, state) for state in states}

    async def _states(self, model: str, command: AnyCommand, sequences: dict[str, int]) -> dict[str, VersionState]:
        """The content of a version, where the command is about that."""
        if isinstance(command, Reserve):
            version, kind = command.state.version, command.state.kind
        elif isinstance(command, Adopt | Announce):
            version, kind = command.version, Kind.MODEL
        else:
            return {}
        subject = version_subject(model, version, kind)
        found = await self._ledger.find(subject, VersionState)
        sequences[subject] = found.sequence
        return {} if found.value is None else {version: found.value}

    async def _drains(self, command: AnyCommand, sequences: dict[str, int]) -> dict[str, DrainState]:
        """Which nodes are out of service, where the command is about one: two that serve a model alone together must
        not both leave, so this is read here, and not from what is followed."""
        if not isinstance(command, Drain):
            return {}
        own = await self._ledger.find(drain_subject(command.node), DrainState)
        sequences[drain_subject(command.node)] = own.sequence
        return {state.node: state for state in await self._ledger.all((drain_subject("*"),), DrainState)}

    async def _trust(self, model: str, command: AnyCommand, sequences: dict[str, int]) -> TrustState | None:
        """How far the model is trusted, where the command is about that, or a gate asks."""
        asks = isinstance(command, Promote) and self._policy().for_model(model).asks_for_trust
        if not asks and not isinstance(command, Trust):
            return None
        found = await self._ledger.find(trust_subject(model), TrustState)
        sequences[trust_subject(model)] = found.sequence
        if isinstance(command, Trust):
            return found.value
        # A gate looks at what is so now, and not at what was kept after the last rollback.
        return current(found.value, await self._registry.history(model), model, stamp(self._ledger.clock()))

    async def _head(self, command: AnyCommand) -> int:
        """Sequence of the newest event, where a person decides: a decision comes after all events before it."""
        asks_now = isinstance(command, Rollback | Resume | Announce) or (
            isinstance(command, Promote) and command.cause is None
        )
        return await self._bus.last_sequence(EVENTS) if asks_now else 0

    async def _commit(
        self, model: str, transition: Transition, decision: Decision, read: _Read, attempt_id: str
    ) -> Answer:
        n = read.view.chain.n + 1
        answer = decision.answer.model_copy(update={"n": n})
        kept = RequestState(
            request=transition.request, attempt=attempt_id, answer=answer.model_dump(mode="json", exclude={"state"})
        )
        states = [
            BatchMessage(subject, rules.dump(value), read.view.sequences.get(subject, 0))
            for subject, value in decision.writes.items()
        ]
        states.append(BatchMessage(request_subject(model, transition.request), _dump(kept), 0))
        cause = decision.cause
        part_of = transition.correlation or transition.request
        antecedent = Antecedent.of(cause) if cause else Antecedent(transition.request, part_of)

        def facts(number: int) -> tuple[Event, ...]:
            payloads = decision.facts(number)
            return tuple(
                self._ledger.fact(payload, antecedent, f"{model}/{number}/{index}")
                for index, payload in enumerate(payloads)
            )

        committed = await self._ledger.commit(
            Change(
                model=model,
                action=decision.action,
                request=transition.request,
                actor=transition.actor,
                reason=decision.reason,
                before=decision.before,
                after=decision.after,
                evidence=decision.evidence,
                states=tuple(states),
                facts=facts,
                chain=read.chain,
                at=read.view.at,
            )
        )
        return answer.model_copy(update={"sequence": committed.sequence})

    # -- what needs no entry: data sets of lanes, distributions

    async def _order(self, transition: Transition, command: Order) -> Answer:
        outcome = await self._registry.order_slot(
            command.model,
            command.entry,
            kind=command.kind,
            cause=command.cause,
            request=transition.request,
            actor=transition.actor,
            reason=transition.reason,
        )
        state = outcome.state
        return Answer(
            outcome="superseded" if outcome.kind == "superseded" else "done",
            repeated=outcome.kind == "repeated",
            model=command.model,
            version=command.entry.version,
            message=f"{outcome.kind}, generation {state.generation}",
            generation=state.generation,
            state=state.model_dump(mode="json", by_alias=True),
        )

    async def _distribute(self, transition: Transition, command: Distribute) -> Answer:
        state = await self._registry.order_distribution(
            command.state, request=transition.request, actor=transition.actor
        )
        return Answer(
            outcome="done",
            model=state.model,
            version=state.version,
            message=f"distributed to {', '.join(state.to)}",
            state=state.model_dump(mode="json", by_alias=True),
        )


DECISIONS: Mapping[type[Command], Callable[[View, Transition, Any], Decision]] = {
    Promote: promote.decide,
    Rollback: rollback.decide,
    Advance: rollouts.advance,
    Move: versions.move,
    ArchiveKept: archiving.kept,
    Returned: archiving.returned,
    Announce: announcing.announce,
    Describe: versions.describe,
    Evaluate: versions.evaluate,
    Approve: versions.approve,
    Reserve: versions.reserve,
    Adopt: versions.adopt,
    Freeze: holds.freeze,
    Drain: holds.drain,
    Resume: holds.resume,
    Trust: trusting.rate,
}
"""The one table from commands to decisions; `order` and `distribute` need no view."""

OF_ONE_VERSION = (Announce, Describe, Evaluate, Approve, Reserve, Adopt, Freeze, Trust, Drain)
"""Commands that are about their own version, or none, whatever is served."""


def _span(transition: Transition) -> AbstractContextManager[tracing.Span]:
    command = transition.command
    cause = getattr(command, "cause", None)
    return tracing.span(
        f"decide {command.do}",
        parent=tracing.recall(cause.event) if cause else "",
        model=getattr(command, "model", None),
        version=getattr(command, "version", None),
        cid=cause.correlation if cause else transition.correlation or transition.request,
        actor=transition.actor,
    )


def chain_of(command: AnyCommand) -> str:
    """Whose chain of audit records a decision belongs to: a model's, or the fleet's."""
    if isinstance(command, Drain):
        return FLEET
    return command.key if isinstance(command, Freeze) else command.model


def _versions_named(command: AnyCommand, slot: SlotState | None, rollout: RolloutState | None) -> tuple[str, ...]:
    """Versions whose entries a decision may look at: each is a request, and entries remember many stages."""
    asked = getattr(command, "version", None) or getattr(command, "to", None)
    if isinstance(command, Reserve):
        asked = command.state.version
    named = [asked]
    if not isinstance(command, OF_ONE_VERSION):
        named += [rollout.version if rollout else None, *(e.version for e in _held(command, slot) if e is not None)]
    return tuple(dict.fromkeys(v for v in named if isinstance(v, str)))


def _held(command: AnyCommand, slot: SlotState | None) -> tuple[SlotEntry | None, ...]:
    """What a decision may look at of a slot: one that goes forward, never at what was served before."""
    if slot is None:
        return ()
    if isinstance(command, Promote | Advance):
        return (slot.production,)
    return (slot.production, slot.canary, slot.previous, *slot.former)


def _dump(state: RequestState) -> bytes:
    return canonical_json(state.model_dump(mode="json"))


def _stale(transition: Transition, stale: Stale) -> Answer:
    """The answer to a run that another claim has now."""
    command = transition.command
    return Answer(
        outcome="refused",
        model=chain_of(command),
        version=getattr(command, "version", None),
        dry_run=transition.dry_run,
        code="claim",
        message=stale.reason,
        next_step=stale.next_step,
        winner=stale.winner,
    )


def _again(known: RequestState, attempt_id: str) -> Answer:
    """The answer of a request that was decided before, or by this very call, whose confirmation was lost."""
    try:
        answer = Answer.model_validate(known.answer)
    except ValidationError as e:
        raise RecordDamaged(f"request {known.request}: {e.errors()[0]['msg']}") from e
    return answer.model_copy(update={"repeated": known.attempt != attempt_id})
