"""What a trainer is made of, stage by stage: what it knows of the fleet, its machine, the runs that it has in hand, how
it comes by more of them, and the lanes. Nothing runs yet; `daemon` starts it."""

import functools
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from fleetcast.bus import Bus
from fleetcast.config.settings import Settings
from fleetcast.daemons.remedy.stream_time import StreamClock
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.claims.claiming import Claimer, Pace
from fleetcast.daemons.trainer.claims.jobs import Jobs
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.leasing import lease_seconds
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.takeover import Takeover
from fleetcast.daemons.trainer.claims.watching import NodeWatch, RunWatch
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.daemons.trainer.faults.desk import FaultDesk
from fleetcast.daemons.trainer.faults.ward import Ward
from fleetcast.daemons.trainer.folders.pruning import Pruner
from fleetcast.daemons.trainer.folders.rules import Policy
from fleetcast.daemons.trainer.lanes.desk import LaneDesk
from fleetcast.daemons.trainer.lanes.exporting import Exporter
from fleetcast.daemons.trainer.lanes.loading import Lanes
from fleetcast.daemons.trainer.lanes.queue import put
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.leftovers import Leftovers
from fleetcast.daemons.trainer.machine import Here
from fleetcast.daemons.trainer.moving import Moving, node_gone
from fleetcast.daemons.trainer.runner import Runner
from fleetcast.daemons.trainer.spot.clouds import adapter_of
from fleetcast.daemons.trainer.spot.leaving import Leaving
from fleetcast.daemons.trainer.starting import Place, device_of
from fleetcast.daemons.trainer.supervision.supervisors import Supervisor, is_alive, supervisor_here
from fleetcast.registry.commands import stamp

SILENT_BEATS = 3.0
TAKEOVER_LOOK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of the fleet, and where it is kept."""

    clock: StreamClock
    ledger: TrainingLedger
    store: RunStore
    runs: RunWatch
    nodes: NodeWatch
    book: QuarantineBook

    @classmethod
    async def make(cls, bus: Bus, settings: Settings) -> Self:
        """Ask the clock once, so that every decision has the server's time.

        Raises:
            TransportFailed: the bus does not answer.
        """
        clock = StreamClock(bus)
        await clock.ask()
        ledger = TrainingLedger(bus, clock=clock.now)
        return cls(
            clock=clock,
            ledger=ledger,
            store=RunStore(ledger, node=bus.node),
            runs=RunWatch(bus),
            nodes=NodeWatch(bus, silent_after_seconds=SILENT_BEATS * settings.distributor.heartbeat_seconds),
            book=QuarantineBook(ledger, now=clock.now),
        )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine, and this node as claims see it."""

    place: Place
    ward: Ward
    here: Here

    @classmethod
    def make(cls, known: Known, settings: Settings, place: Place) -> Self:
        """Nothing is looked at yet."""
        ward = Ward(
            known.book,
            node=place.node,
            now=known.clock.now,
            busy=lambda: here.busy_on_gpu,
            labels=settings.node.labels,
            python=str(settings.trainer.probe_python or sys.executable),
        )
        here = Here(
            place.node,
            settings.trainer,
            place.data,
            settings.node.labels,
            nodes=known.nodes,
            ward=ward,
        )
        return cls(place=place, ward=ward, here=here)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The runs that this node has in hand, and what makes them leave it."""

    supervisor: Supervisor
    checkpoints: Checkpoints
    runner: Runner
    keeper: Keeper
    leftovers: Leftovers
    moving: Moving
    leaving: Leaving

    @classmethod
    async def make(cls, bus: Bus, known: Known, machine: Machine, settings: Settings) -> Self:
        """Ask how long leases last.

        Raises:
            TransportFailed: the bus does not answer.
        """
        here, now = machine.here, known.clock.now
        checkpoints = Checkpoints(bus, known.store, machine.place.data, node=bus.node, now=now)
        supervisor = supervisor_here(settings.trainer.supervision)
        runner = _runner(bus, known, machine, settings, checkpoints, supervisor)
        keeper = Keeper(
            bus,
            known.store,
            known.runs,
            pid=os.getpid(),
            now=now,
            lease_seconds=await lease_seconds(bus),
            carry=runner.carry,
            changed=here.changed,
        )
        in_hand = keeper.owned.__contains__
        leftovers = Leftovers(machine.place, supervisor, known.store, known.runs, in_hand=in_hand)
        moving = Moving(bus.node, keeper, runner, known.nodes, now=now)
        leaving = Leaving(
            bus,
            moving,
            node=bus.node,
            now=now,
            adapter=adapter_of(settings.trainer, now),
            changed=here.changed,
            counted=functools.partial(count_reclaim, known.store),
        )
        here.holds(keeper)
        here.deadline = lambda: _said(leaving.deadline)
        runner.others, runner.gpus_for = moving.others, here.gpus_for
        runner.is_held = functools.partial(known.nodes.is_held, beside=bus.node)
        return cls(
            supervisor=supervisor,
            checkpoints=checkpoints,
            runner=runner,
            keeper=keeper,
            leftovers=leftovers,
            moving=moving,
            leaving=leaving,
        )


def _runner(
    bus: Bus, known: Known, machine: Machine, settings: Settings, checkpoints: Checkpoints, supervisor: Supervisor
) -> Runner:
    ward, now = machine.ward, known.clock.now
    return Runner(
        machine.place,
        supervisor,
        checkpoints,
        FaultDesk(known.book, node=bus.node, now=now, gpus=lambda: ward.gpus, arch_list=lambda: ward.arch_list),
        now=now,
        queue=functools.partial(put, bus),
        log_bytes=settings.trainer.run_log_bytes,
        of_lane=known.runs.of_lane,
    )


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What runs leave on this node's disk, and what they keep on it.

    Attributes:
        pruner: of their folders.
        readers: renews what is noted of the data sets that they read, until cancelled.
    """

    pruner: Pruner
    readers: Callable[[], Coroutine[Any, Any, None]]

    @classmethod
    def make(cls, known: Known, machine: Machine, work: Work, settings: Settings) -> Self:
        """Nothing is looked at yet."""
        place, keeper = machine.place, work.keeper

        async def runs_here(run: str) -> bool:
            return await is_alive(work.supervisor, place.folder(run))

        async def is_busy(run: str) -> bool:
            return run in keeper.owned or await runs_here(run)

        trainer = settings.trainer
        pruner = Pruner(
            place,
            known.store,
            work.checkpoints,
            policy=Policy(trainer.keep_runs_seconds, trainer.keep_runs_bytes),
            now=known.clock.now,
            is_busy=is_busy,
        )
        readers = functools.partial(
            work.runner.readers.keep,
            place.node,
            known.runs,
            in_hand=lambda: [owned.run for owned in keeper.owned.values()],
            is_alive=runs_here,
        )
        return cls(pruner=pruner, readers=readers)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """How this node comes by runs: those that wait, and those whose node is gone."""

    claimer: Claimer
    takeover: Takeover
    jobs: Jobs

    @classmethod
    def make(cls, bus: Bus, known: Known, machine: Machine, work: Work, settings: Settings) -> Self:
        """Nothing is claimed yet."""
        here, trainer = machine.here, settings.trainer
        claimer = Claimer(
            bus,
            known.store,
            known.runs,
            pid=os.getpid(),
            here=here.facts,
            device=lambda run, gpus: device_of(run, here.gpus(gpus)),
            now=known.clock.now,
            begin=work.keeper.begin,
            pace=Pace(delay_seconds=trainer.claim_delay_seconds, look_seconds=trainer.look_seconds),
        )
        claimer.settled, work.keeper.claiming = (lambda: work.keeper.settled), claimer.claiming.__contains__
        takeover = Takeover(
            bus,
            known.store,
            known.runs,
            is_silent=known.nodes.is_silent,
            lost=functools.partial(node_gone, known.nodes),
            now=known.clock.now,
            grace_seconds=trainer.takeover_grace_seconds,
            look_seconds=TAKEOVER_LOOK_SECONDS,
            queue=functools.partial(put, bus),
        )
        return cls(claimer=claimer, takeover=takeover, jobs=Jobs(bus, known.store, known.runs))


@dataclass(frozen=True, kw_only=True)
class LaneWork:
    """The lanes, and the commands that produce their data."""

    desk: LaneDesk
    exporter: Exporter

    @classmethod
    def make(cls, bus: Bus, known: Known, lanes: Lanes, settings: Settings) -> Self:
        """No lane is looked at yet."""
        desk = LaneDesk(bus, known.ledger, lanes, settings.trainer, known.runs, clock=known.clock)
        exporter = Exporter(bus, desk.store, settings)
        desk.export = exporter.begin
        return cls(desk=desk, exporter=exporter)


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
