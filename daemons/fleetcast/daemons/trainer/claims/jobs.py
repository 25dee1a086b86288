"""Jobs in `FC_WORK`: one waits per class and lane (`lanes/queue.py` puts it), and is held until its run has a node.

An acknowledgement is never a claim. A trainer that is given a job holds it until its run does not wait any more,
whoever took it; a trainer that dies meanwhile leaves it to the next one. The race for the run needs no job: it is seen
in the run's record.
"""

import asyncio
from collections.abc import Iterable

from pydantic import ValidationError

from fleetcast.bus import Bus, ConsumerSpec, Delivery, Reject, Retry
from fleetcast.bus.streams import WORK
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.events.content import Stored
from fleetcast.events.ids import Name
from fleetcast.events.training import TrainingPhase, TrainingRunState, WorkClass

PATIENCE = 10
PATIENCE_SECONDS = 1.0
"""A job whose run is not there yet is asked for so often, at this distance."""
HELD_AT_ONCE = 64
DELIVERIES = 10**6
"""A job waits as long as no node will do: it never becomes a dead letter for that."""


class Job(Stored):
    """What waits in `FC_WORK`: which run wants a node. What is to be done is in the run's record."""

    run: Name
    lane: Name


def job_of(run: TrainingRunState) -> bytes:
    """The job of a run, as JSON."""
    return Job(run=run.run, lane=run.lane).model_dump_json().encode()


class Jobs:
    """Holds the jobs of runs that wait."""

    def __init__(self, bus: Bus, store: RunStore, watch: RunWatch) -> None:
        self._bus = bus
        self._store = store
        self._watch = watch
        self._changed = watch.waker()

    async def run(self, classes: Iterable[WorkClass] = tuple(WorkClass)) -> None:
        """Hold jobs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in classes:
                tasks.create_task(self._consume(each), name=f"jobs-{each.value}")

    async def _consume(self, work_class: WorkClass) -> None:
        spec = ConsumerSpec(
            stream=WORK,
            subjects=(f"fc.work.{work_class.value}.*",),
            durable=f"trainers-{work_class.value}",
            concurrency=HELD_AT_ONCE,
            max_deliver=DELIVERIES,
            description=f"jobs of class {work_class.value}, held until somebody has claimed their run",
        )
        await self._bus.consume(spec, self._hold)

    async def _hold(self, delivery: Delivery) -> None:
        """Return once the run of a job waits no more.

        Raises:
            Reject: it is no job.
            Retry: its run is not there yet.
        """
        run = _run_of(delivery)
        await self._watch.known.wait()
        while self._watch.get(run) is None:
            kept = await self._store.find(run)
            if kept is None and delivery.attempt < PATIENCE:
                raise Retry(PATIENCE_SECONDS, f"run {run} is not there yet")
            if kept is None:
                raise Reject(f"the job's run {run} does not exist", field="run", next_step="fleetcast lanes")
            self._watch.take(kept.run)
            if kept.run.phase is not TrainingPhase.QUEUED:
                return
        while (there := self._watch.get(run)) is not None and there.phase is TrainingPhase.QUEUED:
            await self._next_change()

    async def _next_change(self) -> None:
        # Several hold at once: the event is only ever set by the watch and cleared here, before the next wait.
        self._changed.clear()
        await self._changed.wait()


def _run_of(delivery: Delivery) -> str:
    try:
        return Job.model_validate_json(delivery.data).run
    except ValidationError as e:
        raise Reject(
            f"no job: {e.errors()[0]['msg']}", field="run", next_step="fleetcast trigger LANE puts one there"
        ) from e
