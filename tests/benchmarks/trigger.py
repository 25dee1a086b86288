"""`fleetcast bench trigger`: from new data to a training that runs, and from a dead owner to the node that goes on.

Server, distributors and trainers are processes with the settings of a fleet; every state is on disk before it is acted
on. Promises are counted in the race of `tests/integration/trainer/claims`: nodes that stall beyond their leases and
die, a server that is killed, and an origin that believes what the fence lets through.
"""

import asyncio
import contextlib
import io
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.benchmarks._report import Figure, Report, arguments, median, percentile
from tests.integration.trainer.claims.racing import Race, race

from fleetcast.bus.streams import EVENTS, LEASE_SECONDS
from fleetcast.config.settings import BusSettings, LogSettings, Settings
from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.testing import Fleet, TrainerProcess, fleet
from fleetcast.events.training import TRAINING_ENDED, TrainingRunState, training_subject

LANE = "bench"
REQUIRED_START_SECONDS = 2.0
REQUIRED_RESUME_SECONDS = 2 * LEASE_SECONDS + 5.0
SECONDS = 180.0
LANES = """
[lane.bench]
work_class = "cpu"
command = ["sh", "-c", "test -e {wait} && sleep 600; true"]
resources = {{ disk_bytes = 0 }}
[lane.bench.bucket]
required = 1
"""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: from the verified data set and from the stored export to the process, and from a dead owner to the
    process on another node."""

    verified_to_started: list[float]
    exported_to_started: list[float]
    killed_to_resumed: list[float]


@dataclass
class Rig:
    """A fleet whose nodes all train."""

    fleet: Fleet
    trainers: dict[str, TrainerProcess]
    wait: Path

    async def export(self, number: int) -> int:
        """Have new data; the sequence of the event."""
        data = io.BytesIO()
        np.savez(data, x=np.full((10 + number, 4), number, "float32"))
        path = await asyncio.to_thread(self.fleet.publish, f"{number}.npz", data.getvalue())
        body = {"path": str(path), "node": "node-1", "samples_new": 10, "samples_total": 10 + number}
        return await self.fleet.say(f"fc.ev.export.completed.{LANE}", body)

    async def until_run(self, after: set[str], holds: Callable[[TrainingRunState], bool]) -> TrainingRunState:
        """The one run that was not there before, once a condition holds for it."""
        async with asyncio.timeout(SECONDS):
            while True:
                new = [run for run in await self.runs() if run.run not in after]
                if len(new) > 1:
                    raise RuntimeError(f"{len(new)} runs began instead of one")
                if new and holds(new[0]):
                    return new[0]
                await asyncio.sleep(0.05)

    async def runs(self) -> list[TrainingRunState]:
        entries = await self.fleet.bus.newest("FC_TRAINING", (training_subject("*"),))
        return [TrainingRunState.model_validate_json(entry.data) for entry in entries]

    async def stored_at(self, *subjects: str, start: int) -> float:
        """When the first event from a sequence on was stored."""
        async for entry in self.fleet.bus.tail(EVENTS, subjects, start_sequence=start):
            return entry.time.timestamp()
        raise RuntimeError(f"nothing was stored under {subjects}")

    def started_at(self, run: TrainingRunState) -> float:
        """When the process of the newest claim was started."""
        state = json.loads((self.trainers[run.attempts[-1].node].runs / run.run / "state.json").read_bytes())
        return float(state["started_at"])


@contextlib.asynccontextmanager
async def _rig(folder: Path, nodes: int) -> AsyncIterator[Rig]:
    lanes, wait = folder / "lanes.toml", folder / "wait"
    lanes.write_text(LANES.format(wait=wait))
    trainers: dict[str, TrainerProcess] = {}

    def settings(_: str, base: Settings) -> Settings:
        real = {"bus": BusSettings(url=base.bus.url), "log": LogSettings(format="json")}
        trains = {"distributor": Settings().distributor, "trainer": TrainerSettings(lanes=lanes, supervision="process")}
        return base.model_copy(update={**real, **trains})

    async with fleet(folder, nodes=nodes, settings=settings) as f:
        try:
            for name, node in f.nodes.items():
                trainers[name] = TrainerProcess(name, node.folder, node.settings)
                trainers[name].start()
            for trainer in trainers.values():
                await trainer.until_ready()
            yield Rig(f, trainers, wait)
        finally:
            for trainer in trainers.values():
                trainer.kill_all()


async def measure(folder: Path, nodes: int, starts: int, kills: int) -> Times:
    """Trigger so many runs, then kill the owners of so many."""
    times = Times([], [], [])
    async with _rig(folder, nodes) as rig:
        for number in range(starts):
            before = {run.run for run in await rig.runs()}
            sequence = await rig.export(number)
            run = await rig.until_run(before, lambda run: run.phase in TRAINING_ENDED)
            started = rig.started_at(run)
            times.exported_to_started.append(started - await rig.stored_at("fc.ev.export.completed.*", start=sequence))
            verified = await rig.stored_at("fc.ev.version.installed.*", start=sequence)
            times.verified_to_started.append(started - verified)
        rig.wait.touch()
        for number in range(kills):
            times.killed_to_resumed.append(await _kill(rig, starts + number))
    return times


async def _kill(rig: Rig, number: int) -> float:
    """Begin a run, kill its owner with all that it runs, and wait until another node has its process."""
    before = {run.run for run in await rig.runs()}
    await rig.export(number)
    run = await rig.until_run(before, lambda run: run.phase.value == "running")
    owner = run.attempts[-1].node
    await asyncio.to_thread(rig.trainers[owner].kill_all)
    killed = time.time()
    again = await rig.until_run(before, lambda run: run.phase.value == "running" and run.claim > 1)
    resumed = rig.started_at(again) - killed
    # It is ended as a machine would end it, and its node comes back: the next run begins with all nodes.
    rig.wait.unlink()
    rig.trainers[again.attempts[-1].node].kill_all()
    for name in (owner, again.attempts[-1].node):
        rig.trainers[name].start()
        await rig.trainers[name].until_ready()
    await rig.until_run(before, lambda run: run.phase in TRAINING_ENDED)
    rig.wait.touch()
    return resumed


def _promises(folder: Path, jobs: int) -> Race:
    return asyncio.run(race(folder, jobs=jobs, nodes=6, server_kills=3))


def main() -> int:
    """Measure and report."""
    given = arguments(
        __doc__ or "",
        {
            "nodes": (4, "nodes that train"),
            "starts": (20, "runs that are timed"),
            "kills": (2, "owners that are killed"),
            "jobs": (150, "runs of the race"),
        },
    )
    report = Report("trigger")
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as name:
        times = asyncio.run(measure(Path(name), given.nodes, given.starts, given.kills))
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as name:
        made = _promises(Path(name), given.jobs)
    report.conditions |= {
        "nodes": given.nodes,
        "starts": given.starts,
        "kills": given.kills,
        "race": f"{given.jobs} jobs over 6 nodes, leases of 1 s: {made.killed} kills, {made.stalled} stalls, "
        f"{made.refused} effects refused, 3 kills of the server",
        "verified_to_started": "version.installed of the data set on the first node stored -> process started",
        "lease_seconds": LEASE_SECONDS,
        "sync_interval": "always",
    }
    starts, figures = times.verified_to_started, report.figures
    figures["verified_to_started_p95_seconds"] = Figure(percentile(starts, 0.95), "s", required=REQUIRED_START_SECONDS)
    figures["verified_to_started_p50_seconds"] = Figure(median(starts), "s")
    figures["exported_to_started_p95_seconds"] = Figure(percentile(times.exported_to_started, 0.95), "s")
    figures["killed_to_resumed_seconds"] = Figure(max(times.killed_to_resumed), "s", required=REQUIRED_RESUME_SECONDS)
    figures["double_commits"] = Figure(made.double_commits, "effects", required=0)
    figures["lost_jobs"] = Figure(len(made.lost_jobs), "jobs", required=0)
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
