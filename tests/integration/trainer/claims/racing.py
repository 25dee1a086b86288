"""A race for runs: nodes as processes that stall and die, a server that is killed, and an origin that believes what the
fence lets through."""

import asyncio
import contextlib
import functools
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from fleetcast.bus import Bus, ConsumerSpec, Delivery, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import EVENTS, LEASES_BUCKET, NODES_BUCKET, STREAMS
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition, Resources
from fleetcast.daemons.trainer.lanes.queue import put
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.envelope import Event
from fleetcast.events.state import Cause
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase, TrainingRunState, WorkClass
from fleetcast.registry.commands import stamp
from fleetcast.registry.fencing import Fence

WORKER = Path(__file__).with_name("worker.py")
LEASE_SECONDS = 1
STALL_SECONDS = 3.0
"""Longer than a lease, a silence and a grace together."""


@dataclass
class Race:
    """What came of a race.

    Attributes:
        effects: ids of the events that had one, by run.
        refused: events that the fence refused.
        killed, stalled: processes.
    """

    effects: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    refused: int = 0
    killed: int = 0
    stalled: int = 0
    runs: list[TrainingRunState] = field(default_factory=list)

    @property
    def double_commits(self) -> int:
        return sum(len(events) - 1 for events in self.effects.values())

    @property
    def lost_jobs(self) -> list[str]:
        ended_well = {run.run for run in self.runs if run.phase is TrainingPhase.SUCCEEDED}
        return [run.run for run in self.runs if run.run not in ended_well or run.run not in self.effects]


class Node:
    """A node: started again when it is killed, let go on when it has stalled long enough."""

    def __init__(self, race: Race, url: str, name: str, log: Path) -> None:
        self._race, self._log = race, log
        self._command = [sys.executable, str(WORKER), url, name]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_at: float | None = None
        self.name = name

    @property
    def is_stopped(self) -> bool:
        """Whether it stands still right now."""
        return self._stopped_at is not None

    def look(self) -> None:
        """Start it, start it again, or let it go on."""
        if self._process is None or self._process.poll() is not None:
            self._race.killed += self._process is not None
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
            self._stopped_at = None
            return
        with contextlib.suppress(psutil.Error):
            if psutil.Process(self._process.pid).status() != psutil.STATUS_STOPPED:
                self._stopped_at = None
                return
            self._stopped_at = self._stopped_at or time.monotonic()
            if time.monotonic() - self._stopped_at > STALL_SECONDS:
                self._race.stalled += 1
                self._process.send_signal(signal.SIGCONT)
                self._stopped_at = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def waiting_run(number: int) -> TrainingRunState:
    """A run that anybody may take."""
    lane = LaneDefinition(
        name=f"lane-{number}",
        model=f"model-{number}",
        work_class=WorkClass.CPU,
        command=("true",),
        resources=Resources(disk_bytes=0),
    )
    now = stamp(datetime.now(UTC))
    return TrainingRunState(
        run=f"run-{number}",
        lane=lane.name,
        model=lane.model,
        work_class=lane.work_class,
        definition=lane.kept(),
        created_at=now,
        at=now,
        cause=Cause(event=f"export-{number}", sequence=0, by="/test", correlation=f"export-{number}"),
    )


async def race(
    folder: Path, *, jobs: int, nodes: int, first: int = 0, fenced: bool = True, server_kills: int = 0
) -> Race:
    """Have *nodes* do *jobs*; returns when all have ended, who stalled has gone on, and all that was said has been
    judged. *first*: number of the first run; what goes wrong with each follows from it.
    """
    made = Race()
    async with _server(folder) as server, connect(fast_settings(server.url), node="origin", daemon="test") as bus:
        await _declare(bus)
        store = RunStore(TrainingLedger(bus), node="origin")
        workers = [Node(made, server.url, f"n{n}", folder / f"n{n}.log") for n in range(nodes)]
        origin = asyncio.create_task(_origin(bus, made, fenced))
        tending = asyncio.create_task(_tend(workers))
        try:
            for number in range(first, first + jobs):
                await _ask(bus, store, number)
            await _until_ended(store, server, jobs, server_kills)
            await _until_awake(bus, workers)
            await _until_judged(bus)
            made.runs = await store.runs()
        finally:
            for task in (origin, tending):
                task.cancel()
            await asyncio.gather(origin, tending, return_exceptions=True)
            for worker in workers:
                await asyncio.to_thread(worker.kill)
    return made


@contextlib.asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[LocalServer]:
    async with nats_server(folder / "nats") as server:
        yield server


async def _declare(bus: Bus) -> None:
    """All streams, with leases that a test can wait for."""
    short = (replace(s, max_age_seconds=LEASE_SECONDS) if s.name == f"KV_{LEASES_BUCKET}" else s for s in STREAMS)
    await declare(bus, 1, tuple(short))


async def _ask(bus: Bus, store: RunStore, number: int) -> None:
    run = waiting_run(number)
    await store.save(None, run)
    await put(bus, run)


async def _tend(workers: list[Node]) -> None:
    while True:
        for worker in workers:
            await asyncio.to_thread(worker.look)
        await asyncio.sleep(0.05)


async def _origin(bus: Bus, made: Race, fenced: bool) -> None:
    """Have the effect of everything that is said, as far as the fence lets it through."""
    fence = Fence(bus)

    async def handle(event: Event, _delivery: Delivery) -> None:
        run = str(getattr(event.payload, "run_id", ""))
        if fenced and await fence.commit(event) is not None:
            made.refused += 1
            return
        made.effects[run].add(event.id)

    spec = ConsumerSpec(stream=EVENTS, subjects=("fc.ev.model.promoted.*",), durable="origin", concurrency=8)
    await bus.consume_events(spec, handle, reject_source="/test")


async def _until_ended(store: RunStore, server: LocalServer, jobs: int, kills: int) -> None:
    """Wait for the end of all runs; on the way the server dies so often, each time after a further share of them."""
    left = kills
    async with asyncio.timeout(60 + 5 * jobs):
        while True:
            ended = sum(run.phase in TRAINING_ENDED for run in await store.runs())
            if ended >= jobs:
                return
            if left and ended > jobs * (kills - left + 1) / (kills + 2):
                left -= 1
                await server.kill_async()
                await server.start_async()
            await asyncio.sleep(0.2)


async def _until_awake(bus: Bus, workers: list[Node]) -> None:
    """Wait until nobody stands still any more, and everybody has been heard of since: who stalled has said by then what
    it was about to say."""
    seen: dict[str, int] = {}
    async with asyncio.timeout(60):
        for _ in range(3):
            await _until(functools.partial(_is_all_new, bus, workers, seen))
            seen = {entry.key: entry.revision for entry in await bus.kv_entries(NODES_BUCKET)}


async def _is_all_new(bus: Bus, workers: list[Node], seen: dict[str, int]) -> bool:
    """Whether nobody stands still, and everybody has been heard of since *seen*."""
    if any(worker.is_stopped for worker in workers):
        return False
    now = {entry.key: entry.revision for entry in await bus.kv_entries(NODES_BUCKET)}
    keys = [f"{worker.name}.trainer" for worker in workers]
    return all(key in now and now[key] > seen.get(key, 0) for key in keys)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await holds():
            return
        await asyncio.sleep(0.05)


async def _until_judged(bus: Bus) -> None:
    async with asyncio.timeout(60):
        while True:
            info: dict[str, Any] = await bus.js.api("CONSUMER.INFO.FC_EVENTS.origin")
            if info["num_pending"] == 0 and info["num_ack_pending"] == 0:
                return
            await asyncio.sleep(0.05)
