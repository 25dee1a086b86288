"""The trainer's shell: connects its parts, and stops them in order. Runs outlive it."""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from fleetcast.bus import Bus, Service, connect
from fleetcast.bus.streams import declare
from fleetcast.config.settings import Settings
from fleetcast.daemons import metrics
from fleetcast.daemons.distributor.hardware import detect_vendor, labels_of
from fleetcast.daemons.metrics.readings.training import TrainingReading
from fleetcast.daemons.runtime import Daemon, Stage, run_daemon
from fleetcast.daemons.runtime.beat import VERSION, Heartbeat, until_closed
from fleetcast.daemons.runtime.readiness import say_ready
from fleetcast.daemons.runtime.requests import with_reading
from fleetcast.daemons.trainer.checkpoints.commands import CHECKPOINTS_SUBJECT
from fleetcast.daemons.trainer.checkpoints.courier import bring_subject
from fleetcast.daemons.trainer.checkpoints.desk import CheckpointDesk
from fleetcast.daemons.trainer.claims.answering import RunService
from fleetcast.daemons.trainer.faults.answering import QuarantineService
from fleetcast.daemons.trainer.lanes.answering import LaneService
from fleetcast.daemons.trainer.lanes.commands import READS
from fleetcast.daemons.trainer.lanes.judging import Judges
from fleetcast.daemons.trainer.lanes.loading import Lanes, load_all
from fleetcast.daemons.trainer.parts import Claims, Known, LaneWork, Machine, Upkeep, Work
from fleetcast.daemons.trainer.starting import Place
from fleetcast.daemons.trainer.supervision.service import LogDesk
from fleetcast.events.quarantine import QUARANTINE_SUBJECT
from fleetcast.events.training import LANES_SUBJECT, RUNS_SUBJECT, folders_subject, logs_subject

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

GROUP = "trainer"
"""Trainers share requests that are about the fleet: each is answered by one of them."""


class AlreadyRunning(Exception):
    """Another trainer has this node's runs in hand."""

    def __init__(self, folder: Path) -> None:
        self.next_step = "stop the other trainer (fleetcast status), or give this one a store.data of its own"
        super().__init__(f"another trainer works in {folder}")


def main(settings: Settings) -> int:
    """Run the trainer until it is told to stop; returns the process's exit code."""
    return run_daemon("trainer", settings, run)


async def run(daemon: Daemon) -> None:
    """The body of the daemon."""
    settings = await asyncio.to_thread(_with_hardware, daemon.settings)
    lanes = await asyncio.to_thread(load_all, settings.trainer.lanes)
    place = Place(daemon.node, settings.store.data, dict(os.environ))
    with _alone(place.runs):
        async with connect(settings.bus, node=daemon.node, daemon="trainer") as bus:
            await declare(bus, settings.bus.replicas)
            parts = await _parts(daemon, settings, bus, place, lanes)
            await _live(daemon, bus, parts)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a trainer is made of."""

    known: Known
    machine: Machine
    work: Work
    upkeep: Upkeep
    claims: Claims
    lanes: LaneWork
    beat: Heartbeat


async def _parts(daemon: Daemon, settings: Settings, bus: Bus, place: Place, lanes: Lanes) -> Parts:
    """Make everything; nothing runs yet but the clock has been asked once."""
    known = await Known.make(bus, settings)
    machine = Machine.make(known, settings, place)
    work = await Work.make(bus, known, machine, settings)
    upkeep = Upkeep.make(known, machine, work, settings)
    claims = Claims.make(bus, known, machine, work, settings)
    lane_work = LaneWork.make(bus, known, lanes, settings)
    here, desk = machine.here, lane_work.desk
    digests = lanes.digests
    beat = Heartbeat(
        daemon,
        bus,
        lambda: f"{here.sentence()}, {desk.sentence()}",
        more=lambda: {**here.said(), "lanes": digests},
    )
    here.told = machine.ward.changed = beat.changed
    return Parts(
        known=known,
        machine=machine,
        work=work,
        upkeep=upkeep,
        claims=claims,
        lanes=lane_work,
        beat=beat,
    )


async def _live(daemon: Daemon, bus: Bus, parts: Parts) -> None:
    """Know what there is first; then take what waits."""
    known, machine = parts.known, parts.machine
    async with daemon.roots() as roots:
        roots.start("bus", until_closed(bus), stage=Stage.SUPPORT)
        roots.start("clock", known.clock.run(), stage=Stage.SUPPORT)
        roots.start("runs", known.runs.run(), stage=Stage.SUPPORT)
        roots.start("nodes", known.nodes.run(), stage=Stage.SUPPORT)
        roots.start("quarantines", known.book.watch(), stage=Stage.SUPPORT)
        await machine.here.look_at_disk()
        roots.start("disk", machine.here.watch_disk(), stage=Stage.SUPPORT)
        roots.start("gpus", machine.ward.run(), stage=Stage.SUPPORT)
        roots.start("metrics", metrics.serve(daemon, bus, _reading(parts).read), stage=Stage.SUPPORT)
        roots.start("heartbeat", parts.beat.run(), stage=Stage.SUPPORT)
        await asyncio.gather(known.runs.known.wait(), known.nodes.known.wait(), machine.ward.known.wait())
        parts.beat.changed()
        # What is ours already is taken in hand before anything else is.
        roots.start("keeper", parts.work.keeper.run(), stage=Stage.SUPPORT)
        roots.start("leftovers", parts.work.leftovers.run())
        roots.start("data sets", parts.upkeep.readers(), stage=Stage.SUPPORT)
        roots.start("folders", parts.upkeep.pruner.run())
        roots.start("spot", parts.work.leaving.run())
        roots.start("claims", parts.claims.claimer.run())
        roots.start("jobs", parts.claims.jobs.run())
        roots.start("takeovers", parts.claims.takeover.run())
        roots.start("returns", parts.work.moving.watch_returns())
        roots.start("lanes", parts.lanes.desk.run())
        roots.start("exports", parts.lanes.exporter.run())
        service = await bus.serve(_service(daemon, bus, parts))
        await say_ready(daemon, bus, parts.beat.sentence)
    await service.stop()
    await parts.beat.stopped()


def _reading(parts: Parts) -> TrainingReading:
    known, work = parts.known, parts.work
    return TrainingReading(
        known.runs, work.keeper, parts.machine.ward, work.leaving, parts.lanes.desk, now=known.clock.now
    )


def _service(daemon: Daemon, bus: Bus, parts: Parts) -> Service:
    known, keeper, desk = parts.known, parts.work.keeper, parts.lanes.desk

    def data() -> Mapping[str, Any]:
        return {"runs": len(keeper.owned), "lanes": len(desk.lanes.all)}

    answers = CheckpointDesk(parts.work.checkpoints)
    lanes = LaneService(bus, desk, Judges(known.nodes), known.nodes.lanes)
    runs = RunService(known.store, now=known.clock.now, is_silent=known.nodes.is_silent)
    return Service(
        name="fleetcast-trainer",
        version=VERSION,
        description="starts what lanes ask for, and sees it to its end",
        metadata={"node": daemon.node, "daemon": "trainer", "pid": str(os.getpid())},
        endpoints={
            # A trainer without lanes would say of every lane that there is none.
            **(with_reading("lanes", LANES_SUBJECT, lanes.answer, READS) if desk.lanes.all else {}),
            "runs": (RUNS_SUBJECT, runs.answer),
            "checkpoints": (CHECKPOINTS_SUBJECT, answers.answer),
            "bring": (bring_subject(daemon.node), answers.answer),
            "quarantine": (QUARANTINE_SUBJECT, QuarantineService(known.book).answer),
            "logs": (logs_subject(daemon.node), LogDesk(parts.machine.place.runs, daemon.node).answer),
            "folders": (folders_subject(daemon.node), parts.upkeep.pruner.answer),
        },
        group=GROUP,
        data=data,
    )


def _with_hardware(settings: Settings) -> Settings:
    """The settings, with what the machine has among the labels."""
    labels = labels_of(settings.node.labels, detect_vendor())
    return settings.model_copy(update={"node": settings.node.model_copy(update={"labels": labels})})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Own a node's runs for the duration.

    Raises:
        AlreadyRunning: somebody else does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise AlreadyRunning(folder) from taken
        yield
