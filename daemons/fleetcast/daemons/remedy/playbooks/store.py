"""Runs as they are kept: every change is one atomic batch of the run, the books about its resource where they change,
and the facts that tell of it. The run's own sequence is the compare-and-swap that fences a daemon that was away."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from fleetcast.bus import BatchMessage
from fleetcast.bus.errors import Conflict, TransportFailed
from fleetcast.bus.retry import CONFLICT
from fleetcast.daemons.remedy.ledger import Antecedent, Found, RemedyLedger, stored
from fleetcast.daemons.remedy.playbooks import telling
from fleetcast.daemons.remedy.playbooks.turns import Books
from fleetcast.events.envelope import Event
from fleetcast.events.incidents import ResourceType
from fleetcast.events.remedies import (
    FLEET_RUNS_SUBJECT,
    RUN_ENDED,
    FleetRuns,
    PlaybookRunState,
    ResourceRuns,
    resource_key,
    resource_subject,
    run_subject,
)
from fleetcast.transport.failpoints import failpoint

TRIES = 20


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as it is stored, and the sequence that the next change is written against."""

    run: PlaybookRunState
    sequence: int


@dataclass(frozen=True, slots=True)
class Shelf:
    """The books about a resource as they are stored; 0: there is nothing yet."""

    books: Books
    resource_sequence: int
    fleet_sequence: int


class RunStore:
    """Reads and writes runs."""

    def __init__(self, ledger: RemedyLedger, *, actor: str) -> None:
        self._ledger = ledger
        self._actor = actor

    async def find(self, run: str) -> Kept | None:
        """A run; None: there is none.

        Raises:
            TransportFailed: the bus does not answer.
            RecordDamaged: it cannot be read.
        """
        found = await self._ledger.find(run_subject(run), PlaybookRunState)
        return None if found.value is None else Kept(found.value, found.sequence)

    async def shelf(self, resource_type: ResourceType, resource_id: str) -> Shelf:
        """The books about a resource; errors as `find`."""
        subject = resource_subject(resource_key(resource_type, resource_id))
        resource: Found[ResourceRuns]
        fleet: Found[FleetRuns]
        resource, fleet = await asyncio.gather(
            self._ledger.find(subject, ResourceRuns), self._ledger.find(FLEET_RUNS_SUBJECT, FleetRuns)
        )
        known = resource.value or ResourceRuns(resource_type=resource_type, resource_id=resource_id)
        return Shelf(Books(known, fleet.value or FleetRuns()), resource.sequence, fleet.sequence)

    async def resources(self) -> list[ResourceRuns]:
        """The books about all resources; errors as `find`."""
        return await self._ledger.all((resource_subject("*"),), ResourceRuns)

    async def runs(self) -> list[PlaybookRunState]:
        """All runs that are kept, in no order; errors as `find`."""
        return await self._ledger.all((run_subject("*"),), PlaybookRunState)

    async def save(
        self,
        before: Kept | None,
        run: PlaybookRunState,
        now: datetime,
        *,
        shelf: Shelf | None = None,
        books: Books | None = None,
        superseded: Kept | None = None,
    ) -> Kept:
        """Store a run, with *books* in place of what *shelf* read.

        Raises:
            Conflict: somebody else wrote first: whoever did goes on.
            TransportFailed: not stored, and not known to be.
            RecordDamaged: what is there cannot be read.
        """
        following = run.model_copy(update={"n": (before.run.n if before else 0) + 1})
        messages = [*self._facts(before, following, now)]
        if superseded is not None and books is not None and books.superseded is not None:
            given_way = books.superseded.model_copy(update={"n": superseded.run.n + 1})
            messages += self._facts(superseded, given_way, now)
            messages.append(stored(run_subject(given_way.run), given_way, superseded.sequence))
        if shelf is not None and books is not None:
            messages += _changed_books(shelf, books)
        # Last, so that the sequence of the batch is the run's own.
        messages.append(stored(run_subject(run.run), following, before.sequence if before else 0))
        failpoint(f"playbook.{_place(following)}.before")
        sequence = await self._write(messages, following, before)
        failpoint(f"playbook.{_place(following)}.after")
        return Kept(following, sequence)

    async def _write(self, messages: list[BatchMessage], run: PlaybookRunState, before: Kept | None) -> int:
        """Write a batch; an answer that was lost is looked up."""
        failures = 0
        while True:
            try:
                return await self._ledger.bus.batch(messages)
            except Conflict:
                there = await self.find(run.run)
                if there is not None and there.run == run:
                    return there.sequence
                raise
            except TransportFailed:
                failures += 1
                if failures >= TRIES:
                    raise
                await self._ledger.bus.wire.wait_connected(CONFLICT.cap_seconds * failures)
                await asyncio.sleep(CONFLICT.delay(failures))

    def _facts(self, before: Kept | None, run: PlaybookRunState, now: datetime) -> list[BatchMessage]:
        cause = Antecedent.of(run.cause)
        payload = telling.changed(before.run if before else None, run, self._actor, now)
        facts: list[Event] = [self._ledger.fact(payload, cause, f"{run.run}/{run.n}")]
        raised = telling.escalation(run) if run.phase in RUN_ENDED else None
        if raised is not None:
            facts.append(self._ledger.fact(raised, cause, f"{run.run}/{run.n}"))
        return [self._ledger.fact_message(fact) for fact in facts]


def _changed_books(shelf: Shelf, books: Books) -> list[BatchMessage]:
    """The books that changed. The fleet's are checked whenever the breaker was asked, so that no two runs are counted
    as one."""
    resource = books.resource
    subject = resource_subject(resource_key(resource.resource_type, resource.resource_id))
    messages = [stored(subject, resource, shelf.resource_sequence)]
    if books.fleet != shelf.books.fleet:
        messages.append(stored(FLEET_RUNS_SUBJECT, books.fleet, shelf.fleet_sequence))
    return messages


def _place(run: PlaybookRunState) -> str:
    """What a write is about, for failpoints: the step that it begins, or the end."""
    if run.phase in RUN_ENDED:
        return "ended"
    under_way = next((step.name for step in run.steps if step.outcome.value == "running"), None)
    return under_way or run.phase.value


def with_owner(kept: Kept, run: PlaybookRunState) -> PlaybookRunState:
    """A run that was taken: fenced by the sequence of what it was taken from, which only grows."""
    return run.model_copy(update={"fence": kept.sequence})
