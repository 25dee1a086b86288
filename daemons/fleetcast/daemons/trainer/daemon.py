"""The trainer's shell: connects its parts, and stops them in order. Runs outlive it."""

import asyncio
import fcntl
import functools
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from fleetcast.bus import Bus, Service, connect
from fleetcast.bus.streams import declare
from fleetcast.config.settings import Settings
from fleetcast.daemons.distributor.hardware import detect_vendor, labels_of
from fleetcast.daemons.remedy.stream_time import StreamClock
from fleetcast.daemons.runtime import Daemon, Stage, run_daemon
from fleetcast.daemons.runtime.beat import VERSION, Heartbeat, until_closed
from fleetcast.daemons.trainer.checkpoints.commands import CHECKPOINTS_SUBJECT
from fleetcast.daemons.trainer.checkpoints.courier import bring_subject
from fleetcast.daemons.trainer.checkpoints.desk import CheckpointDesk
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.claims.claiming import Claimer, Pace
from fleetcast.daemons.trainer.claims.jobs import Jobs
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.leasing import lease_seconds
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.takeover import Takeover
from fleetcast.daemons.trainer.claims.watching import NodeWatch, RunWatch
from fleetcast.daemons.trainer.faults.answering import QuarantineService
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.daemons.trainer.faults.desk import FaultDesk
from fleetcast.daemons.trainer.faults.ward import Ward
from fleetcast.daemons.trainer.lanes.answering import LaneService
from fleetcast.daemons.trainer.lanes.desk import LaneDesk
from fleetcast.daemons.trainer.lanes.exporting import Exporter
from fleetcast.daemons.trainer.lanes.judging import Judges
from fleetcast.daemons.trainer.lanes.loading import Lanes, load_all
from fleetcast.daemons.trainer.lanes.queue import put
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.machine import Here
from fleetcast.daemons.trainer.moving import Moving, node_gone
from fleetcast.daemons.trainer.runner import Runner
from fleetcast.daemons.trainer.spot.clouds import adapter_of
from fleetcast.daemons.trainer.spot.leaving import Leaving
from fleetcast.daemons.trainer.starting import Place, device_of
from fleetcast.daemons.trainer.supervision.service import LogDesk
from fleetcast.daemons.trainer.supervision.supervisors import supervisor_here
from fleetcast.events.training import LANES_SUBJECT, QUARANTINE_SUBJECT, logs_subject
from fleetcast.registry.commands import stamp

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

GROUP = "trainer"
"""Trainers share requests that are about the fleet: each is answered by one of them."""
SILENT_BEATS = 3.0
TAKEOVER_LOOK_SECONDS = 1.0


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

    clock: StreamClock
    runs: RunWatch
    nodes: NodeWatch
    book: QuarantineBook
    ward: Ward
    here: Here
    keeper: Keeper
    claimer: Claimer
    takeover: Takeover
    jobs: Jobs
    moving: Moving
    leaving: Leaving
    lanes: LaneDesk
    exporter: Exporter
    beat: Heartbeat
    service: Service


async def _parts(daemon: Daemon, settings: Settings, bus: Bus, place: Place, lanes: Lanes) -> Parts:
    """Make everything; nothing runs yet but the clock has been asked once."""
    node, trainer = daemon.node, settings.trainer
    clock = StreamClock(bus)
    await clock.ask()
    ledger = TrainingLedger(bus, clock=clock.now)
    store, runs = RunStore(ledger, node=node), RunWatch(bus)
    nodes = NodeWatch(bus, silent_after_seconds=SILENT_BEATS * settings.distributor.heartbeat_seconds)
    book = QuarantineBook(ledger, now=clock.now)
    ward = Ward(
        book,
        node=node,
        now=clock.now,
        busy=lambda: here.busy_on_gpu,
        labels=settings.node.labels,
        python=str(trainer.probe_python or sys.executable),
    )
    here = Here(
        node,
        trainer,
        place.data,
        settings.node.labels,
        nodes=nodes,
        ward=ward,
        deadline=lambda: _said(leaving.deadline),
    )
    checkpoints = Checkpoints(bus, store, place.data, node=node, now=clock.now)
    queue = functools.partial(put, bus)
    runner = Runner(
        place,
        supervisor_here(trainer.supervision),
        checkpoints,
        FaultDesk(book, node=node, now=clock.now, gpus=lambda: ward.gpus, arch_list=lambda: ward.arch_list),
        now=clock.now,
        queue=queue,
        log_bytes=trainer.run_log_bytes,
        of_lane=runs.of_lane,
    )
    keeper = Keeper(
        bus,
        store,
        runs,
        pid=os.getpid(),
        now=clock.now,
        lease_seconds=await lease_seconds(bus),
        carry=runner.carry,
        changed=here.changed,
    )
    here.holds(keeper)
    moving = Moving(node, keeper, runner, nodes, now=clock.now)
    runner.others = moving.others
    leaving = Leaving(
        bus,
        moving,
        node=node,
        now=clock.now,
        adapter=adapter_of(trainer, clock.now),
        changed=here.changed,
        counted=functools.partial(count_reclaim, store),
    )
    claimer = Claimer(
        bus,
        store,
        runs,
        pid=os.getpid(),
        here=here.facts,
        device=lambda run, gpus: device_of(run, here.gpus(gpus)),
        now=clock.now,
        begin=keeper.begin,
        pace=Pace(delay_seconds=trainer.claim_delay_seconds, look_seconds=trainer.look_seconds),
    )
    takeover = Takeover(
        bus,
        store,
        runs,
        is_silent=nodes.is_silent,
        lost=functools.partial(node_gone, nodes),
        now=clock.now,
        grace_seconds=trainer.takeover_grace_seconds,
        look_seconds=TAKEOVER_LOOK_SECONDS,
        queue=queue,
    )
    desk = LaneDesk(bus, ledger, lanes, trainer, runs, clock=clock)
    exporter = Exporter(bus, desk.store, settings)
    desk.export = exporter.begin
    beat = Heartbeat(daemon, bus, lambda: f"{here.sentence()}, {desk.sentence()}", more=here.said)
    here.told = ward.changed = beat.changed
    return Parts(
        clock=clock,
        runs=runs,
        nodes=nodes,
        book=book,
        ward=ward,
        here=here,
        keeper=keeper,
        claimer=claimer,
        takeover=takeover,
        jobs=Jobs(bus, store, runs),
        moving=moving,
        leaving=leaving,
        lanes=desk,
        exporter=exporter,
        beat=beat,
        service=_service(daemon, bus, desk, nodes, checkpoints, place, keeper, book),
    )


async def _live(daemon: Daemon, bus: Bus, parts: Parts) -> None:
    """Know what there is first; then take what waits."""
    async with daemon.roots() as roots:
        roots.start("bus", until_closed(bus), stage=Stage.SUPPORT)
        roots.start("clock", parts.clock.run(), stage=Stage.SUPPORT)
        roots.start("runs", parts.runs.run(), stage=Stage.SUPPORT)
        roots.start("nodes", parts.nodes.run(), stage=Stage.SUPPORT)
        roots.start("quarantines", parts.book.watch(), stage=Stage.SUPPORT)
        await parts.here.look_at_disk()
        roots.start("disk", parts.here.watch_disk(), stage=Stage.SUPPORT)
        roots.start("gpus", parts.ward.run(), stage=Stage.SUPPORT)
        roots.start("heartbeat", parts.beat.run(), stage=Stage.SUPPORT)
        await asyncio.gather(parts.runs.known.wait(), parts.nodes.known.wait(), parts.ward.known.wait())
        parts.beat.changed()
        # What is ours already is taken in hand before anything else is.
        roots.start("keeper", parts.keeper.run(), stage=Stage.SUPPORT)
        roots.start("spot", parts.leaving.run())
        roots.start("claims", parts.claimer.run())
        roots.start("jobs", parts.jobs.run())
        roots.start("takeovers", parts.takeover.run())
        roots.start("returns", parts.moving.watch_returns())
        roots.start("lanes", parts.lanes.run())
        roots.start("exports", parts.exporter.run())
        service = await bus.serve(parts.service)
        daemon.ready(parts.beat.sentence())
    await service.stop()
    await parts.beat.stopped()


def _service(
    daemon: Daemon,
    bus: Bus,
    desk: LaneDesk,
    nodes: NodeWatch,
    checkpoints: Checkpoints,
    place: Place,
    keeper: Keeper,
    book: QuarantineBook,
) -> Service:
    def data() -> Mapping[str, Any]:
        return {"runs": len(keeper.owned), "lanes": len(desk.lanes.all)}

    answers = CheckpointDesk(checkpoints)
    return Service(
        name="fleetcast-trainer",
        version=VERSION,
        description="starts what lanes ask for, and sees it to its end",
        metadata={"node": daemon.node, "daemon": "trainer", "pid": str(os.getpid())},
        endpoints={
            "lanes": (LANES_SUBJECT, LaneService(bus, desk, Judges(nodes)).answer),
            "checkpoints": (CHECKPOINTS_SUBJECT, answers.answer),
            "bring": (bring_subject(daemon.node), answers.answer),
            "quarantine": (QUARANTINE_SUBJECT, QuarantineService(book).answer),
            "logs": (logs_subject(daemon.node), LogDesk(place.runs, daemon.node).answer),
        },
        group=GROUP,
        data=data,
    )


async def count_reclaim(store: RunStore, run: str, saved: bool) -> None:
    """Count a notice that a run got, and whether it saved in time for it.

    Raises:
        BusUnavailable: it could not be written.
    """
    await store.change(
        run, lambda there: there.model_copy(update={"reclaims": there.reclaims + 1, "saves": there.saves + saved})
    )


def _said(deadline: datetime | None) -> str | None:
    return stamp(deadline) if deadline is not None else None


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
