"""Lives of a trainer in this process: real claims, a real supervisor, real checkpoints and judgements on one server. A
life that is killed does nothing more; what it started goes on, as it would."""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.errors import BusError
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import LEASES_BUCKET, STREAMS
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.claims.claiming import Claimer, Pace
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts, gpus_for
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.leasing import lease_seconds
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.daemons.trainer.faults.desk import FaultDesk
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition, Resources
from fleetcast.daemons.trainer.lanes.queue import put
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.leftovers import Leftovers
from fleetcast.daemons.trainer.runner import Runner
from fleetcast.daemons.trainer.starting import Place, device_of
from fleetcast.daemons.trainer.supervision.supervisors import Supervisor, is_alive, supervisor_here
from fleetcast.events.gpus import Gpu
from fleetcast.events.state import Cause
from fleetcast.events.training import TrainingRunState, WorkClass
from fleetcast.registry.commands import stamp
from fleetcast.transport import failpoints

LIMIT_SECONDS = 60.0
LEASE_SECONDS = 1
LIMITS = {"cpu": 4, "gpu": 2}
_PIDS = itertools.count(10_000)


def now() -> datetime:
    return datetime.now(UTC)


def a_run(number: str, script: str, **changes: Any) -> TrainingRunState:
    """A run of a script, that anybody may take."""
    lane = LaneDefinition(
        **{
            "name": f"lane-{number}",
            "model": f"model-{number}",
            "work_class": WorkClass.CPU,
            "command": (sys.executable, "-S", "-c", script),
            "resources": Resources(disk_bytes=0),
            "grace_seconds": 2.0,
            **changes,
        }
    )
    at = stamp(now())
    return TrainingRunState(
        run=f"run-{number}",
        lane=lane.name,
        model=lane.model,
        work_class=lane.work_class,
        definition=lane.kept(),
        created_at=at,
        at=at,
        cause=Cause(event=f"export-{number}", sequence=0, by="/test", correlation=f"export-{number}"),
    )


class Killer:
    """Ends a life at a failpoint, and whatever of it comes to another one later."""

    def __init__(self, at: str) -> None:
        self.dead = asyncio.Event()
        self._at = at

    def __call__(self, name: str) -> None:
        if name == self._at or (self.dead.is_set() and name.startswith("training.")):
            self.dead.set()
            raise asyncio.CancelledError


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[tuple[LocalServer, Bus]]:
    """A server with all streams, and a bus of the test's own."""
    short = (replace(s, max_age_seconds=LEASE_SECONDS) if s.name == f"KV_{LEASES_BUCKET}" else s for s in STREAMS)
    async with (
        nats_server(folder / "nats") as running,
        connect(fast_settings(running.url), node="test", daemon="test") as bus,
    ):
        await declare(bus, 1, tuple(short))
        yield running, bus


@asynccontextmanager
async def life(
    bus: Bus,
    folder: Path,
    node: str = "n1",
    *,
    artifacts: frozenset[str] = frozenset(),
    gpus: tuple[Gpu, ...] = (),
    environment: Mapping[str, str] | None = None,
    is_held: Callable[[str, str], bool] = lambda _line, _version: False,
    wired: Callable[[Keeper, Claimer], None] = lambda _keeper, _claimer: None,
) -> AsyncIterator[Keeper]:
    """A trainer from its start until it is stopped or killed.

    Args:
        artifacts: that its node is known to hold.
        gpus: that it has.
        environment: of the daemon; None: a path.
        is_held: whether another node has a version.
        wired: called before it begins to work.
    """
    at = Place(node, folder / node, environment or {"PATH": os.environ["PATH"]})
    async with connect(bus.settings, node=node, daemon="trainer") as own:
        made = await _trainer(own, at, artifacts, gpus)
        made.runner.is_held = is_held
        wired(made.keeper, made.claimer)
        work = [asyncio.create_task(each) for each in made.works()]
        try:
            yield made.keeper
        finally:
            for task in reversed(work):
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


@dataclass
class _Trainer:
    """The parts of a trainer, wired."""

    place: Place
    supervisor: Supervisor
    watch: RunWatch
    runner: Runner
    keeper: Keeper
    claimer: Claimer
    leftovers: Leftovers

    def works(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What it does all the time, the first begun first."""
        reading = self.runner.readers.keep(
            self.place.node,
            self.watch,
            in_hand=lambda: [owned.run for owned in self.keeper.owned.values()],
            is_alive=lambda run: is_alive(self.supervisor, self.place.folder(run)),
        )
        return self.watch.run(), self.keeper.run(), self.leftovers.run(), reading, self.claimer.run()


async def _trainer(own: Bus, place: Place, artifacts: frozenset[str], gpus: tuple[Gpu, ...]) -> _Trainer:
    node = place.node
    ledger = TrainingLedger(own)
    store, watch, supervisor = RunStore(ledger, node=node), RunWatch(own), supervisor_here("process")
    runner = Runner(
        place,
        supervisor,
        Checkpoints(own, store, place.data, node=node),
        FaultDesk(QuarantineBook(ledger, now=now), node=node, now=now, read_kernel=lambda _: ()),
        now=now,
        queue=lambda run: put(own, run),
        log_bytes=2**20,
    )
    pid, lease = next(_PIDS), await lease_seconds(own)
    keeper = Keeper(own, store, watch, pid=pid, now=now, lease_seconds=lease, carry=runner.carry, look_seconds=0.1)

    def facts() -> NodeFacts:
        return NodeFacts(node, artifacts=artifacts, limits=LIMITS, runs=keeper.reported, gpus=gpus)

    runner.gpus_for = lambda lane, run: gpus_for(lane, run, facts())
    claimer = Claimer(
        own,
        store,
        watch,
        pid=pid,
        here=facts,
        device=lambda run, indices: device_of(run, [gpu for gpu in gpus if gpu.index in indices]),
        now=now,
        begin=keeper.begin,
        pace=Pace(0.01, 0.1),
    )
    claimer.settled, keeper.claiming = (lambda: keeper.settled), claimer.claiming.__contains__
    leftovers = Leftovers(place, supervisor, store, watch, in_hand=keeper.owned.__contains__)
    return _Trainer(place, supervisor, watch, runner, keeper, claimer, leftovers)


async def killed_at(bus: Bus, folder: Path, point: str, **more: Any) -> None:
    """Live until the failpoint, and die there."""
    killer = Killer(point)
    with failpoints.watched(killer):
        async with life(bus, folder, **more):
            async with asyncio.timeout(LIMIT_SECONDS):
                await killer.dead.wait()


async def until(bus: Bus, run: str, holds: Callable[[TrainingRunState], bool]) -> TrainingRunState:
    """A run, once a condition holds for it."""
    store = RunStore(TrainingLedger(bus), node="test")
    last = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                with contextlib.suppress(BusError):
                    kept = await store.find(run)
                    last = kept.run if kept is not None else None
                if last is not None and holds(last):
                    return last
                await asyncio.sleep(0.02)
    raise AssertionError(f"not within {LIMIT_SECONDS:g} s; the run is {last}")


async def ask(bus: Bus, run: TrainingRunState) -> None:
    """Have a run waiting."""
    await RunStore(TrainingLedger(bus), node="test").save(None, run)
    await put(bus, run)


async def until_true(holds: Callable[[], bool]) -> None:
    """Wait for a condition on this machine."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


async def until_file(path: Path) -> None:
    """Wait until a file has been written."""
    await until_true(lambda: path.exists() and path.stat().st_size > 0)
