"""Ledgers of lanes as they are kept: every change is one atomic batch of the ledger, the run that it begins or ends
with, and the facts that tell of it. Any number of trainers decide at once; the expected sequences let one win."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from fleetcast.bus import BatchMessage
from fleetcast.bus.streams import REGISTRY
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.lanes import bucket, queue
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.ledger import Antecedent, Found, TrainingLedger, read, stored
from fleetcast.events.content import Kind
from fleetcast.events.payloads import Payload
from fleetcast.events.runs import RunOutcome
from fleetcast.events.state import Cause, SlotState, VersionState, version_subject
from fleetcast.events.training import (
    TRAINING_ENDED,
    Cancellation,
    CountedExport,
    LaneChanged,
    LaneState,
    RunMoved,
    TrainingRunState,
    lane_subject,
    training_subject,
)
from fleetcast.registry.commands import stamp
from fleetcast.transport.failpoints import failpoint

R = TypeVar("R")

_EXPORT: Final = "fleetcast emit EXPORT_COMPLETED lane={} path=FILE.npz samples_new=N samples_total=N"


@dataclass(frozen=True, slots=True)
class Newest:
    """Which data set the registry names the newest of a lane, and when it did.

    Attributes:
        sequence: in `FC_REGISTRY`: what was reserved up to it is counted with it.
        at: by the server's clock.
    """

    slot: SlotState
    sequence: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: the ledger afterwards, and why it was refused; empty: it was not."""

    state: LaneState
    refused: str = ""
    next_step: str = ""
    run: TrainingRunState | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """What is written in place of what was read."""

    definition: LaneDefinition
    state: LaneState
    what: str
    detail: str = ""
    by: str = ""
    run: str | None = None
    runs: tuple[tuple[TrainingRunState, int], ...] = ()


class LaneStore:
    """Reads and writes ledgers."""

    def __init__(self, ledger: TrainingLedger, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._now = now
        self._actor = f"/fleet/{ledger.bus.node}/{ledger.bus.daemon}"

    async def find(self, lane: str) -> LaneState | None:
        """A ledger; None: nothing was counted or asked so far.

        Raises:
            TransportFailed: the bus does not answer.
            RecordDamaged: it cannot be read.
        """
        return (await self._ledger.find(lane_subject(lane), LaneState)).value

    async def run(self, run: str) -> TrainingRunState | None:
        """A run's record; errors as `find`."""
        return (await self._ledger.find(training_subject(run), TrainingRunState)).value

    # -- what happens by itself; all of it may be repeated, and raises BusUnavailable and RecordDamaged

    async def count(self, definition: LaneDefinition, newest: Newest) -> LaneState | None:
        """Count the data sets that are new to a lane; None: none is."""

        async def attempt() -> LaneState | None:
            found, state = await self._found(definition.name, newest.slot.cause)
            if state.through >= newest.sequence:
                return None
            exports = await self._exports(definition.name, state.through, newest)
            production = newest.slot.production
            after = bucket.count(
                state,
                definition.bucket,
                exports,
                production.artifact if production is not None else None,
                newest.sequence,
                self._now(),
                newest.slot.cause,
            )
            if after is None:
                return None
            samples = after.samples_in - state.samples_in
            return await self._write(found, _Change(definition, after, "samples", f"{samples} new samples"))

        return await self._settled(definition.name, attempt)

    async def start(self, definition: LaneDefinition) -> TrainingRunState | None:
        """Queue a run if the lane is due: its record is created once, and the bucket pays for it in the same batch.
        None: it is not due, or its run exists already."""

        async def attempt() -> TrainingRunState | None:
            found = await self._ledger.find(lane_subject(definition.name), LaneState)
            state, now = found.value, self._now()
            if state is None or state.latest is None or not (due := bucket.due(state, definition, now)).yes:
                return None
            run = _next_run(definition, state, now)
            known = await self.run(run.run)
            if known is not None:
                await self._write(found, _done_before(definition, state, known, now))
                return None
            change = _Change(
                definition,
                bucket.spend(state, definition.bucket, run.run, now, run.cause),
                "run_queued",
                due.reasons[0],
                run=run.run,
                runs=((run, 0),),
            )
            failpoint("lane.start.before")
            await self._write(found, change)
            failpoint("lane.start.after")
            return run

        return await self._settled(definition.name, attempt)

    async def release(self, definition: LaneDefinition) -> LaneState | None:
        """Let a lane go on once its run has ended; None: there is nothing to do."""

        async def attempt() -> LaneState | None:
            found = await self._ledger.find(lane_subject(definition.name), LaneState)
            state = found.value
            if state is None or state.run is None:
                return None
            run = await self.run(state.run)
            if run is not None and run.phase not in TRAINING_ENDED:
                return None
            cause = run.cause if run is not None else state.cause
            after = bucket.ended(state, state.run, self._now(), cause, run)
            if after is None:
                return None
            detail = "its record is gone" if run is None else f"{run.phase.value} {run.phase_detail}".strip()
            return await self._write(found, _Change(definition, after, "run_ended", detail, run=state.run))

        return await self._settled(definition.name, attempt)

    async def begin_export(self, definition: LaneDefinition, cause: Cause) -> bool:
        """Take it upon this node to run the lane's export command; False: it is not due, or another node was
        quicker."""

        async def attempt() -> bool:
            found, state = await self._found(definition.name, cause)
            now = self._now()
            if not bucket.export_due(state, definition, now):
                return False
            after = bucket.begun_export(state, now, cause)
            await self._write(found, _Change(definition, after, "export_begun", f"on {self._ledger.bus.node}"))
            return True

        return await self._settled(definition.name, attempt)

    # -- what people ask

    async def ask(self, definition: LaneDefinition, reason: str, cause: Cause, *, dry_run: bool = False) -> Outcome:
        """Have a run started now, whatever the bucket holds; the same request starts one."""

        async def attempt() -> Outcome:
            found, state = await self._found(definition.name, cause)
            if state.latest is None:
                return Outcome(state, f"{definition.name} has no data set so far", _EXPORT.format(definition.name))
            if state.paused is not None:
                why = f"{definition.name} is paused by {state.paused.by}: {state.paused.reason}"
                return Outcome(state, why, f"fleetcast resume {definition.name} --reason TEXT")
            made = await self.run(queue.run_id(definition, state.latest.artifact, cause.event))
            if made is not None or dry_run or (state.forced is not None and state.forced.request == cause.event):
                return Outcome(state, run=made)
            after = bucket.asked(state, reason, cause.by, self._now(), cause)
            return Outcome(await self._write(found, _Change(definition, after, "triggered", reason, cause.by)))

        return await self._settled(definition.name, attempt)

    async def pause(self, definition: LaneDefinition, reason: str, cause: Cause, *, dry_run: bool = False) -> Outcome:
        """Have a lane start no run any more; it goes on counting."""

        async def attempt() -> Outcome:
            found, state = await self._found(definition.name, cause)
            if dry_run or (state.paused is not None and state.paused.request == cause.event):
                return Outcome(state)
            after = bucket.paused(state, reason, cause.by, self._now(), cause)
            return Outcome(await self._write(found, _Change(definition, after, "paused", reason, cause.by)))

        return await self._settled(definition.name, attempt)

    async def resume(self, definition: LaneDefinition, reason: str, cause: Cause, *, dry_run: bool = False) -> Outcome:
        """Have a lane start runs again."""

        async def attempt() -> Outcome:
            found, state = await self._found(definition.name, cause)
            if dry_run or state.paused is None:
                return Outcome(state)
            after = bucket.resumed(state, self._now(), cause)
            return Outcome(await self._write(found, _Change(definition, after, "resumed", reason, cause.by)))

        return await self._settled(definition.name, attempt)

    async def withdraw(
        self, definition: LaneDefinition, version: str, reason: str, cause: Cause, *, dry_run: bool = False
    ) -> Outcome:
        """Have nothing trained on a data set any more: what it added to the bucket is taken out, and the run that is
        under way with it is cancelled in the same batch, so that nothing it still does is accepted."""

        async def attempt() -> Outcome:
            found, state = await self._found(definition.name, cause)
            after = bucket.withdrawn(state, definition.bucket, version, self._now(), cause)
            if after is None:
                if any(each.version == version for each in state.exports):
                    return Outcome(state)
                why = f"{definition.name}@{version} was never counted"
                return Outcome(state, why, f"fleetcast why {definition.name}    (shows those that were)")
            stopped = await self._stopped(state, version, reason, cause)
            if dry_run:
                return Outcome(after, run=stopped[0][0] if stopped else None)
            if stopped:
                after = bucket.refunded(after, definition.bucket)
            change = _Change(definition, after, "withdrawn", f"{version}: {reason}", cause.by, runs=stopped)
            return Outcome(await self._write(found, change), run=stopped[0][0] if stopped else None)

        return await self._settled(definition.name, attempt)

    async def _stopped(
        self, state: LaneState, version: str, reason: str, cause: Cause
    ) -> tuple[tuple[TrainingRunState, int], ...]:
        """The lane's run as cancelled, if it reads *version*."""
        if state.run is None:
            return ()
        found = await self._ledger.find(training_subject(state.run), TrainingRunState)
        run = found.value
        if run is None or run.phase in TRAINING_ENDED or version not in {each.version for each in run.data}:
            return ()
        now = self._now()
        words = f"data set {version} was withdrawn: {reason}"
        why = Cancellation(reason=words, by=cause.by, at=stamp(now), request=cause.event)
        over = rules.cancelled(run, why, now)
        assert over is not None
        return ((over.model_copy(update={"n": run.n + 1}), found.sequence),)

    # -- inside

    async def _settled(self, lane: str, attempt: Callable[[], Awaitable[R]]) -> R:
        return await self._ledger.until_settled(f"lane {lane}", attempt)

    async def _found(self, lane: str, cause: Cause) -> tuple[Found[LaneState], LaneState]:
        found = await self._ledger.find(lane_subject(lane), LaneState)
        return found, found.value or bucket.opened(lane, self._now(), cause)

    async def _exports(self, lane: str, through: int, newest: Newest) -> list[CountedExport]:
        """Data sets of a lane that were reserved after *through* and not after its newest one was named, oldest
        first. All of them count, also those that a later one overtook: their origin had proven them."""
        found = []
        subjects = (f"{version_subject(lane, '').rpartition('.')[0]}.*",)
        async for entry in self._ledger.bus.tail(REGISTRY, subjects, start_sequence=through + 1):
            export = _counted(read(VersionState, entry), newest.at)
            if export is not None and entry.sequence <= newest.sequence:
                found.append(export)
        return found

    async def _write(self, found: Found[LaneState], change: _Change) -> LaneState:
        state = change.state.model_copy(update={"n": (found.value.n if found.value is not None else 0) + 1})
        cause = Antecedent.of(state.cause)
        changed = LaneChanged(
            lane=state.lane,
            what=change.what,
            tokens=state.tokens,
            required=change.definition.bucket.required,
            run=change.run,
            detail=change.detail,
            by=change.by or self._actor,
        )
        facts = [self._ledger.fact(changed, cause, f"{state.lane}/{state.n}")]
        states: list[BatchMessage] = []
        for run, expected in change.runs:
            states.append(stored(training_subject(run.run), run, expected))
            told = self._told(run)
            facts += [self._ledger.fact(each, cause, f"{run.run}/{run.n}/{i}") for i, each in enumerate(told)]
        await self._ledger.write([*states, stored(lane_subject(state.lane), state, found.sequence)], facts)
        return state

    def _told(self, run: TrainingRunState) -> list[Payload]:
        """What is told of a run that was created or ended here."""
        moved = RunMoved(
            run_id=run.run,
            node=rules.last_node(run) or self._ledger.bus.node,
            claim=run.claim or None,
            lane=run.lane,
            model=run.model,
            phase=run.phase,
            attempt=run.claim,
            device=run.device or None,
            detail=run.phase_detail,
        )
        return [moved, *(rules.told_end(run, RunOutcome.CANCELLED) if run.phase in TRAINING_ENDED else ())]


def _counted(version: VersionState, at: datetime) -> CountedExport | None:
    """A data set as the bucket counts it; None: it is none, or nobody said how much of it is new."""
    said = version.metadata or {}
    samples, total = said.get("samples_new"), said.get("samples_total")
    if version.kind is not Kind.DATASET or not isinstance(samples, int):
        return None
    return CountedExport(
        artifact=version.artifact,
        version=version.version,
        samples=samples,
        total=total if isinstance(total, int) else samples,
        at=stamp(at),
        node=version.origin.node,
    )


def _next_run(definition: LaneDefinition, state: LaneState, now: datetime) -> TrainingRunState:
    """The run over a lane's newest data set; it follows from that, or from what a person asked."""
    assert state.latest is not None
    forced = state.forced
    if forced is None:
        return queue.new_run(definition, state.latest, now, state.data_cause or state.cause)
    cause = Cause(event=forced.request, sequence=0, by=forced.by, correlation=forced.request)
    return queue.new_run(definition, state.latest, now, cause, asked_for=forced.request)


def _done_before(definition: LaneDefinition, state: LaneState, run: TrainingRunState, now: datetime) -> _Change:
    """The same lane, data, command and code were a run already: there is no second one by itself."""
    under_way = run.run if run.phase not in TRAINING_ENDED else None
    after = bucket.trained_before(state, under_way, now, state.cause)
    return _Change(definition, after, "run_queued", f"{run.run} is of the same data and code", run=run.run)
