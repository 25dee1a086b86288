"""Runs as they are kept: every change is one atomic batch of the run's record and the facts that tell of it. The
record's own sequence is the compare-and-swap that fences whoever was away."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetcast.bus import BatchMessage
from fleetcast.bus.errors import Conflict, TransportFailed
from fleetcast.bus.retry import CONFLICT
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.ledger import Antecedent, TrainingLedger, stored
from fleetcast.events.payloads import Payload
from fleetcast.events.training import TRAINING_ENDED, RunMoved, TrainingRunState, training_subject
from fleetcast.transport.failpoints import failpoint

TRIES = 20


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as it is stored, and the sequence that the next change is written against."""

    run: TrainingRunState
    sequence: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a run becomes, and what is told of it besides its next phase."""

    run: TrainingRunState
    facts: tuple[Payload, ...] = ()


Decide = Callable[[TrainingRunState], Change | TrainingRunState | None]
"""Makes the next value of a run from the newest one; None leaves it. It may raise what its caller wants to hear."""


class RunStore:
    """Reads and writes runs of lanes."""

    def __init__(self, ledger: TrainingLedger, *, node: str) -> None:
        self.ledger = ledger
        self._node = node

    async def find(self, run: str) -> Kept | None:
        """A run; None: there is none.

        Raises:
            TransportFailed: the bus does not answer.
            RecordDamaged: it cannot be read.
        """
        found = await self.ledger.find(training_subject(run), TrainingRunState)
        return None if found.value is None else Kept(found.value, found.sequence)

    async def runs(self) -> list[TrainingRunState]:
        """All runs that are kept, in no order; errors as `find`."""
        return await self.ledger.all((training_subject("*"),), TrainingRunState)

    async def save(self, before: Kept | None, run: TrainingRunState, facts: Sequence[Payload] = ()) -> Kept:
        """Store a run in place of what was read; a new phase is told (`run.moved`).

        Raises:
            Conflict: somebody else wrote first: read again, decide again.
            TransportFailed: not stored, and not known to be.
            RecordDamaged: what is there cannot be read.
        """
        following = run.model_copy(update={"n": (before.run.n if before else 0) + 1})
        cause = Antecedent.of(following.cause)
        told = [*self._moved(before, following), *facts]
        events = [self.ledger.fact(p, cause, f"{following.run}/{following.n}/{i}") for i, p in enumerate(told)]
        messages = [self.ledger.fact_message(event) for event in events]
        # Last, so that the sequence of the batch is the run's own.
        messages.append(stored(training_subject(following.run), following, before.sequence if before else 0))
        failpoint(f"training.{following.phase.value}.before")
        kept = await self._write(messages, following)
        failpoint(f"training.{following.phase.value}.after")
        return kept

    async def _write(self, messages: Sequence[BatchMessage], run: TrainingRunState) -> Kept:
        """Write a batch; an answer that was lost is looked up."""
        failures = 0
        while True:
            try:
                return Kept(run, await self.ledger.bus.batch(messages))
            except Conflict:
                there = await self.find(run.run)
                if there is not None and there.run == run:
                    return there
                raise
            except TransportFailed:
                failures += 1
                if failures >= TRIES:
                    raise
                await self.ledger.bus.wire.wait_connected(CONFLICT.cap_seconds * failures)
                await asyncio.sleep(CONFLICT.delay(failures))

    async def change(self, run: str, decide: Decide) -> Kept:
        """Have *decide* make the next value of a run from the newest one, as often as somebody else writes between.

        Raises:
            KeyError: there is no such run.
            ValueError: what *decide* made does not follow from what it was given.
            BusUnavailable: not stored before the publish deadline.
            RecordDamaged: what is there cannot be read.
        """

        async def attempt() -> Kept:
            kept = await self.find(run)
            if kept is None:
                raise KeyError(run)
            made = decide(kept.run)
            if made is None:
                return kept
            change = made if isinstance(made, Change) else Change(made)
            if change.run.n != kept.run.n:
                # It would undo what others wrote meanwhile: a commit, say, and an effect would be had twice.
                raise ValueError(f"a change of {run} was made from record {change.run.n}, the newest is {kept.run.n}")
            return await self.save(kept, change.run, change.facts)

        return await self.ledger.until_settled(f"run {run}", attempt)

    async def order(
        self, run: str, decide: Decide, *, dry_run: bool
    ) -> tuple[TrainingRunState, TrainingRunState] | None:
        """`change` for what people ask for: the record that was decided by, and what is there now; None: no such run.

        Args:
            dry_run: nothing is decided, and the record stays as it is.
        """
        found = await self.find(run)
        if found is None or dry_run:
            return (found.run, found.run) if found is not None else None
        before = found.run

        def noting(there: TrainingRunState) -> TrainingRunState | Change | None:
            nonlocal before
            before = there
            return decide(there)

        after = (await self.change(run, noting)).run
        return before, after

    async def change_held(self, run: str, claim: int, decide: Decide) -> Kept:
        """As `change`, by the owner of a claim.

        Raises:
            ClaimLost: this node's claim does not hold the run any more.
        """
        return await self.change(run, lambda there: decide(rules.held(there, self._node, claim)))

    def _moved(self, before: Kept | None, run: TrainingRunState) -> list[Payload]:
        if before is not None and (before.run.phase, before.run.claim) == (run.phase, run.claim):
            return []
        return [
            RunMoved(
                run_id=run.run,
                node=(rules.last_node(run) if run.phase in TRAINING_ENDED else run.owner) or self._node,
                claim=run.claim or None,
                lane=run.lane,
                model=run.model,
                phase=run.phase,
                attempt=run.claim,
                device=run.device or None,
                detail=run.phase_detail,
            )
        ]
