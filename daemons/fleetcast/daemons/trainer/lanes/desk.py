"""The shell around lanes: data sets, requests and time come in; ledgers change, and jobs are put. Any trainer runs one;
of any number the quickest writes, and the others find it done. Whoever composes it runs `run` and answers
`fc.svc.trainer.lanes` by `answering.py`."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import structlog

from fleetcast.bus import Bus, BusState, ConsumerSpec, Delivery, Entry, InSync, Reject, Retry
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS, REGISTRY, TRAINING
from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.remedy.stream_time import StreamClock
from fleetcast.daemons.trainer.lanes import bucket, queue
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.lanes.loading import Lanes
from fleetcast.daemons.trainer.lanes.store import LaneStore, Newest
from fleetcast.daemons.trainer.ledger import TrainingLedger, read
from fleetcast.events.content import Kind
from fleetcast.events.envelope import Event
from fleetcast.events.names import find
from fleetcast.events.state import Cause, SlotState, slot_subject
from fleetcast.events.training import LaneState, LaneTriggered, TrainingPhase, TrainingRunState, lane_subject
from fleetcast.registry.errors import RecordDamaged

V = TypeVar("V", LaneState, SlotState)

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

CONSUMER: Final = "lanes"
LEDGERS: Final = lane_subject("*")
DATA: Final = slot_subject("*", Kind.DATASET)
PATIENCE: Final = 3
"""Looks at a request for a lane that this trainer does not know before it is refused: another trainer's file may."""
PATIENCE_SECONDS: Final = 0.5
HANDED_ON_SECONDS: Final = 5.0


class Runs(Protocol):
    """The runs that have not ended, followed as they change (`claims.watching.RunWatch`)."""

    known: asyncio.Event

    def listen(self, listener: Callable[[TrainingRunState], None]) -> None:
        """Call *listener* with every record that changes, ends included."""

    def get(self, run: str) -> TrainingRunState | None:
        """A run that has not ended."""


class LaneDesk:
    """Looks after the lanes of a trainer's files.

    Attributes:
        lanes: their definitions.
        store: their ledgers.
        clock: the server's time.
        known: set once all ledgers and newest data sets have been read.
        export: begins a lane's export command (`Exporter.begin`); None: not on this node.
    """

    def __init__(
        self,
        bus: Bus,
        ledger: TrainingLedger,
        lanes: Lanes,
        settings: TrainerSettings,
        runs: Runs,
        *,
        clock: StreamClock | None = None,
    ) -> None:
        self.lanes = lanes
        self.clock = clock or StreamClock(bus)
        self.store = LaneStore(ledger, self.clock.now)
        self.known = asyncio.Event()
        self.export: Callable[[LaneDefinition], None] | None = None
        self._bus = bus
        self._settings = settings
        self._runs = runs
        self._states: dict[str, LaneState] = {}
        self._newest: dict[str, Newest] = {}
        self._counted: dict[str, int] = {}
        self._heads: dict[str, int] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._source = f"/fleet/{bus.node}/{bus.daemon}"
        runs.listen(self._run_changed)

    @property
    def states(self) -> tuple[LaneState, ...]:
        """The ledgers of the lanes of this trainer's files, as far as they were heard of."""
        return tuple(state for lane, state in sorted(self._states.items()) if lane in self.lanes.all)

    def sentence(self) -> str:
        """How many lanes there are, for people."""
        count = len(self.lanes.all)
        return f"{count} lane{'' if count == 1 else 's'}"

    async def run(self) -> None:
        """Work until cancelled. The clock is run by whoever gave it, the exporter by whoever made that."""
        states, newest = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_states(states), name="lanes-ledgers")
            tasks.create_task(self._follow_data(newest), name="lanes-data")
            if self.lanes.all:
                # A trainer that knows no lane could only refuse what another one knows.
                tasks.create_task(self._consume(), name="lanes-requests")
            await asyncio.gather(states.wait(), newest.wait(), self._runs.known.wait())
            self.known.set()
            self._look_at(*self.lanes.all)
            tasks.create_task(self._work(), name="lanes-work")
            tasks.create_task(self._time(), name="lanes-time")
            tasks.create_task(self._reconcile(), name="lanes-reconcile")

    def _look_at(self, *lanes: str) -> None:
        self._changed.update(lane for lane in lanes if lane in self.lanes.all)
        self._wake.set()

    # -- what is there

    async def _follow_states(self, known: asyncio.Event) -> None:
        async for entry in self._bus.watch(TRAINING, (LEDGERS,)):
            if isinstance(entry, InSync):
                known.set()
            else:
                self._ledger_came(entry)

    async def _follow_data(self, known: asyncio.Event) -> None:
        async for entry in self._bus.watch(REGISTRY, (DATA,)):
            if isinstance(entry, InSync):
                known.set()
            else:
                self._data_came(entry)

    def _ledger_came(self, entry: Entry) -> None:
        state = self._read(LaneState, TRAINING, entry)
        if state is not None:
            self.note(state)
            self._look_at(state.lane)

    def _data_came(self, entry: Entry) -> None:
        slot = self._read(SlotState, REGISTRY, entry)
        if slot is not None:
            self._newest[slot.model] = Newest(slot, entry.sequence, entry.time)
            self._look_at(slot.model)

    def _read(self, kind: type[V], stream: str, entry: Entry) -> V | None:
        self._heads[stream] = max(self._heads.get(stream, 0), entry.sequence)
        self.clock.seen(entry.time)
        try:
            return read(kind, entry)
        except RecordDamaged as e:
            # One record that cannot be read must not keep all the other lanes waiting.
            log.warning("record.unreadable", subject=entry.subject, reason=str(e))
            return None

    def _run_changed(self, run: TrainingRunState) -> None:
        self._look_at(run.lane)

    # -- what is done about it

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for lane in sorted(self._changed):
                self._changed.discard(lane)
                await self.look(lane)

    async def look(self, lane: str) -> None:
        """Do what is to be done about a lane now; what does not work is tried again by the next comparison."""
        definition = self.lanes.find(lane)
        if definition is None:
            return
        try:
            await self._look(definition)
        except (BusError, RecordDamaged) as e:
            log.warning("lane.waiting", lane=lane, reason=str(e))

    async def _look(self, definition: LaneDefinition) -> None:
        state = self._states.get(definition.name)
        newest = self._newest.get(definition.name)
        if newest is not None and self._counted.get(definition.name, 0) < newest.sequence:
            state = self.note(await self.store.count(definition, newest)) or state
            self._counted[definition.name] = newest.sequence
        if state is not None and state.run is not None and self._runs.get(state.run) is None:
            state = self.note(await self.store.release(definition)) or state
        if state is not None and bucket.due(state, definition, self.clock.now()).yes:
            await self.start(definition)
        if self.export is not None and self._is_export_due(definition, state):
            self.export(definition)

    def note(self, state: LaneState | None) -> LaneState | None:
        """A ledger as it was just written or read; what is known and newer stays. Gives what was noted."""
        if state is None:
            return None
        known = self._states.get(state.lane)
        if known is None or known.n <= state.n:
            self._states[state.lane] = state
        return state

    def _is_export_due(self, definition: LaneDefinition, state: LaneState | None) -> bool:
        now = self.clock.now()
        known = state or bucket.opened(definition.name, now, Cause(event="", sequence=0, by="", correlation=""))
        return bucket.export_due(known, definition, now)

    async def start(self, definition: LaneDefinition) -> TrainingRunState | None:
        """Queue a run of a lane that is due; None: it is not, or another trainer was quicker.

        Raises:
            BusUnavailable: not stored in time.
            RecordDamaged: what is stored cannot be read.
        """
        run = await self.store.start(definition)
        if run is None:
            return None
        log.info(
            "lane.run_queued",
            lane=run.lane,
            run=run.run,
            version=run.data[0].version,
            samples=run.data[0].samples,
            priority=run.priority,
            correlation_id=run.cause.correlation,
        )
        await queue.put(self._bus, run)
        return run

    # -- time

    async def _time(self) -> None:
        """Look at lanes that time alone makes due."""
        while True:
            await asyncio.sleep(self._settings.look_seconds)
            now = self.clock.now()
            for lane, loaded in self.lanes.all.items():
                state = self._states.get(lane)
                is_due = state is not None and bucket.due(state, loaded.definition, now).yes
                if is_due or (self.export is not None and self._is_export_due(loaded.definition, state)):
                    self._look_at(lane)

    async def _reconcile(self) -> None:
        """Compare now and then with what there is: a change that was missed starts a run late, and not never."""
        while True:
            await asyncio.sleep(self._settings.reconcile_seconds)
            if self._bus.state is not BusState.READY:
                continue
            try:
                await self._compare()
            except (BusError, RecordDamaged) as e:
                log.warning("lanes.waiting", reason=str(e))
            self._look_at(*self.lanes.all)

    async def _compare(self) -> None:
        """Read what the watches did not bring, and put back the jobs of runs that wait; a quiet fleet costs two small
        questions."""
        if await self._is_behind(REGISTRY, DATA):
            for entry in await self._bus.newest(REGISTRY, (DATA,)):
                self._data_came(entry)
        if await self._is_behind(TRAINING, LEDGERS):
            for entry in await self._bus.newest(TRAINING, (LEDGERS,)):
                self._ledger_came(entry)
        for state in list(self._states.values()):
            run = self._runs.get(state.run) if state.run is not None else None
            if run is not None and run.phase is TrainingPhase.QUEUED:
                await queue.put(self._bus, run)

    async def _is_behind(self, stream: str, subject: str) -> bool:
        entry = await self._bus.last(stream, subject)
        return entry is not None and entry.sequence > self._heads.get(stream, 0)

    # -- requests by event

    async def _consume(self) -> None:
        spec = ConsumerSpec(
            EVENTS,
            find("lane.triggered").filters(),
            durable=CONSUMER,
            concurrency=4,
            ack_wait_seconds=HANDED_ON_SECONDS,
            description="what asks lanes for a run",
        )
        await self._bus.consume_events(spec, self._triggered, reject_source=self._source, report_invalid=True)

    async def _triggered(self, event: Event, delivery: Delivery) -> None:
        asked = event.payload
        assert isinstance(asked, LaneTriggered)
        definition = self.lanes.find(asked.lane)
        if definition is None:
            if delivery.attempt < PATIENCE:
                raise Retry(PATIENCE_SECONDS, f"no lane {asked.lane} here")
            raise Reject(
                f"no trainer that was asked knows a lane {asked.lane}", "lane", f"{self.lanes.close_to(asked.lane)}"
            )
        cause = Cause(
            event=event.id, sequence=delivery.sequence, by=asked.requested_by, correlation=event.correlationid
        )
        outcome = await self.store.ask(definition, asked.reason, cause)
        if outcome.refused:
            raise Reject(outcome.refused, "lane", outcome.next_step)
        self.note(outcome.state)
        await self.look(definition.name)
