"""One decision, one atomic batch: states by compare-and-swap, the audit record that follows from the one before, and
the facts that tell the fleet (ADR 0006). Knows nothing of what is decided."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from fleetcast.bus import BatchMessage, Bus
from fleetcast.bus.streams import REGISTRY
from fleetcast.events.envelope import Event
from fleetcast.events.names import FACT_PREFIX
from fleetcast.events.state import AuditRecord, ChainState, chain_subject, log_subject
from fleetcast.registry import rules
from fleetcast.registry.book import Antecedent, Book, Found, R, V, now, read
from fleetcast.registry.commands import stamp

__all__ = ["Antecedent", "Change", "Committed", "Facts", "Found", "Ledger", "R", "V", "no_facts", "now", "read"]

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

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


class Ledger(Book):
    """FC_REGISTRY: every decision is one audit record longer."""

    def __init__(self, bus: Bus, *, clock: Callable[[], datetime] = now) -> None:
        super().__init__(bus, REGISTRY, FACT_PREFIX, clock=clock)

    async def chain(self, model: str) -> Found[ChainState]:
        """The end of a model's audit records; errors as `find`."""
        return await self.find(chain_subject(model), ChainState)

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
            *(self.fact_message(fact) for fact in change.facts(record.n)),
        ]
        sequence = await self.bus.batch(messages)
        log.info("registry.decided", model=change.model, action=change.action, n=record.n, request=change.request)
        return Committed(record.n, sequence)


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)
