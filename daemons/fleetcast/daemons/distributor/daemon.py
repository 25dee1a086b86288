"""The distributor's shell: connects its modules to bus, store and transports, and stops them in order."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import structlog

from fleetcast.bus import Bus, BusState, Service, connect
from fleetcast.bus.streams import declare
from fleetcast.client.spool import SpoolWriter
from fleetcast.config.settings import Settings
from fleetcast.daemons import metrics
from fleetcast.daemons.distributor import heartbeat
from fleetcast.daemons.distributor.acquire import Acquisition
from fleetcast.daemons.distributor.archival import ArchiveBook
from fleetcast.daemons.distributor.archivist import Archivist
from fleetcast.daemons.distributor.bans import tell_bans
from fleetcast.daemons.distributor.board import Board
from fleetcast.daemons.distributor.carriers import Carriers, Notices, threads
from fleetcast.daemons.distributor.distributions import DistributionBook
from fleetcast.daemons.distributor.exports import watch_exports
from fleetcast.daemons.distributor.forwarder import forward
from fleetcast.daemons.distributor.hardware import detect_vendor, labels_of
from fleetcast.daemons.distributor.inspection import Inspector
from fleetcast.daemons.distributor.intake import IntakeDesk, consume_intake, consume_submissions
from fleetcast.daemons.distributor.keyring import Keyring
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.orders import SlotOrders
from fleetcast.daemons.distributor.origin import OriginDesk
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.pressure import watch_disk
from fleetcast.daemons.distributor.reclaim import Reclaim
from fleetcast.daemons.distributor.reconcile import Reconciler
from fleetcast.daemons.distributor.removal import Remover
from fleetcast.daemons.distributor.report import GC_SUBJECT, STATUS_SUBJECT, VERIFY_SUBJECT
from fleetcast.daemons.distributor.rollouts import RolloutBook
from fleetcast.daemons.distributor.room import RoomKeeper
from fleetcast.daemons.distributor.seeding import Seeding
from fleetcast.daemons.distributor.serving import Serving
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.daemons.distributor.swarm import SwarmBook
from fleetcast.daemons.distributor.transfers import Transfers
from fleetcast.daemons.distributor.turns import Turns
from fleetcast.daemons.distributor.voice import Voice
from fleetcast.daemons.metrics.readings.node import NodeReading
from fleetcast.daemons.runtime import Daemon, Grace, Stage, run_daemon
from fleetcast.daemons.runtime.readiness import say_ready
from fleetcast.events.content import Kind
from fleetcast.events.payloads import DaemonState
from fleetcast.registry import OriginRegistry
from fleetcast.transport.store import Pins, Store

log = structlog.get_logger("fleetcast.distributor")


def main(settings: Settings) -> int:
    """Run the distributor until it is told to stop; returns the process's exit code."""
    grace = Grace(drain_seconds=settings.distributor.drain_seconds)
    return run_daemon("distributor", settings, run, grace=grace)


async def run(daemon: Daemon) -> None:
    """The body of the daemon."""
    settings = daemon.settings
    store = Store(settings.store)
    for case in await asyncio.to_thread(store.reconcile):
        log.warning("store.quarantined", case=str(case))
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(settings.bus, node=daemon.node, daemon="distributor"))
        await declare(bus, settings.bus.replicas)
        parts = await stack.enter_async_context(_parts(daemon, bus, store))
        await _live(daemon, parts)


@contextlib.asynccontextmanager
async def _parts(daemon: Daemon, bus: Bus, store: Store) -> AsyncIterator[Parts]:
    """Start the transports and wire everything; stop them in reverse order."""
    settings = await asyncio.to_thread(_with_hardware, daemon.settings)
    address = settings.network.address or bus.local_address()
    notices = Notices()
    carriers = await Carriers.make(settings, store, address, notices)
    allowance = carriers.allowance(settings)
    keyring = await asyncio.to_thread(Keyring.open, settings.signing, settings.store.data)
    with threads(settings.limits.nice) as (hashing, idle):
        async with carriers.started():
            yield Parts(
                node=daemon.node,
                settings=settings,
                bus=bus,
                registry=OriginRegistry(bus),
                store=store,
                bittorrent=carriers.bittorrent,
                transports=carriers.by_name(),
                voice=Voice(bus, SpoolWriter(settings.store.data / "spool")),
                endpoints=carriers.endpoints(settings.rsync, address),
                board=Board(),
                swarm=SwarmBook(daemon.node),
                distributions=DistributionBook(daemon.node, settings.node.labels),
                archive=ArchiveBook(daemon.node),
                hashing=hashing,
                idle=idle,
                lost_seeds=notices.lost_seeds,
                bans=notices.bans,
                allowance=allowance,
                keyring=keyring,
            )


def _with_hardware(settings: Settings) -> Settings:
    """The settings, with what the machine has among the labels."""
    vendor = detect_vendor()
    labels = labels_of(settings.node.labels, vendor)
    log.info("node.labelled", labels=labels, detected_gpu=vendor)
    return settings.model_copy(update={"node": settings.node.model_copy(update={"labels": labels})})


async def _live(daemon: Daemon, parts: Parts) -> None:
    shelf = Shelf(parts.store, parts.board)
    neighbours = Neighbours(parts)
    remover = Remover(parts, neighbours, shelf)
    room = RoomKeeper(parts, remover)
    acquisition = Acquisition(parts, neighbours, shelf, room)
    transfers = Transfers(parts, acquisition)
    orders = SlotOrders(parts, shelf)
    rollouts = RolloutBook()
    parts.ordered = lambda: Pins(versions=orders.pins.versions | rollouts.pins.versions)
    parts.carries = orders.keeps
    serving = Serving.of(parts, shelf)
    reconciler = Reconciler(parts, transfers, shelf, orders, Turns(parts, neighbours), serving, rollouts)
    inspector = Inspector(parts, neighbours, shelf, transfers, reconciler)
    serving.soundness.prove = inspector.is_sound
    seeding = Seeding(parts, neighbours, reconciler, orders)
    reclaim = Reclaim(parts, on_near=seeding.look_soon)
    seeding.leaving = reclaim.is_leaving
    archivist = Archivist(parts, shelf, acquisition, remover, reconciler)
    neighbours.on_joiner = seeding.joined
    parts.keyring.on_change = reconciler.keys_changed
    await shelf.refresh()
    await _seed_again(parts, neighbours)
    service = await parts.bus.serve(_service(parts, inspector, remover))
    async with daemon.roots() as roots:
        roots.start("voice", parts.voice.run(), stage=Stage.SUPPORT)
        roots.start("metrics", _metrics(daemon, parts), stage=Stage.SUPPORT)
        roots.start("heartbeat", heartbeat.beat(parts, daemon), stage=Stage.SUPPORT)
        roots.start("spool", forward(parts), stage=Stage.SUPPORT)
        roots.start("bus", _until_closed(parts), stage=Stage.SUPPORT)
        roots.start("transfers", transfers.run(), stage=Stage.SUPPORT)
        roots.start("seeding", seeding.run())
        roots.start("reclaim", reclaim.watch())
        roots.start("room", room.watch(), stage=Stage.SUPPORT)
        roots.start("allowance", parts.allowance.run(), stage=Stage.SUPPORT)
        roots.start("neighbours", neighbours.listen())
        roots.start("heartbeats", neighbours.watch_heartbeats())
        roots.start("slots", orders.watch())
        roots.start("resync", orders.resync())
        roots.start("offers", reconciler.watch_offers())
        roots.start("keyring", parts.keyring.watch(parts.bus))
        roots.start("rollouts", reconciler.watch_rollouts())
        roots.start("distributions", reconciler.watch_distributions())
        roots.start("duty", serving.duty.watch())
        roots.start("soundness", serving.soundness.run())
        roots.start("hooks", serving.hooks.run())
        roots.start("disk", watch_disk(parts.board))
        roots.start("reconcile", reconciler.run())
        roots.start("archive news", archivist.watch())
        roots.start("archive", archivist.run())
        roots.start("bans", tell_bans(parts, transfers))
        roots.start("lost seeds", inspector.follow_lost_seeds())
        roots.start("submissions", consume_submissions(parts, OriginDesk(parts, acquisition)))
        roots.start("exports", watch_exports(parts))
        roots.start("intake", consume_intake(parts, IntakeDesk(parts, neighbours)))
        await _say_ready(daemon, parts)
    await service.stop()
    await heartbeat.say_stopped(parts)


async def _metrics(daemon: Daemon, parts: Parts) -> None:
    def told() -> None:
        parts.metrics_url = daemon.metrics_url
        parts.board.changed.set()

    await metrics.serve(daemon, parts.bus, NodeReading(parts).read, told=told)


async def _say_ready(daemon: Daemon, parts: Parts) -> None:
    parts.board.set_state(DaemonState.READY)
    parts.bus.on_state(lambda state: _follow(parts, state))
    parts.say_first(heartbeat.started(parts))
    await say_ready(daemon, parts.bus, lambda: parts.board.sentence)


def _follow(parts: Parts, state: BusState) -> None:
    """A node without its bus keeps serving what it has, and says that it is degraded."""
    parts.board.set_state(DaemonState.READY if state is BusState.READY else DaemonState.DEGRADED)


async def _until_closed(parts: Parts) -> None:
    """A connection that closed for good ends the daemon: the service manager starts a fresh one."""
    await parts.bus.closed.wait()
    raise ConnectionError("the connection to NATS closed for good")


async def _seed_again(parts: Parts, neighbours: Neighbours) -> None:
    """After a restart: offer what is installed to the swarms again."""
    for record in await asyncio.to_thread(parts.store.records):
        if await asyncio.to_thread(parts.store.has, record.content):
            folder = await asyncio.to_thread(parts.store.link_swarm, record.content)
            statement = record.envelope.statement
            parts.offered.add((Kind.DATASET if statement.kind == "dataset" else Kind.MODEL, statement.model))
            await parts.bittorrent.seed(record.content.artifact, record.content, record.metainfo, folder)
            await neighbours.announce(record.content.artifact, complete=True)


def _service(parts: Parts, inspector: Inspector, remover: Remover) -> Service:
    async def status(_body: bytes) -> bytes:
        return heartbeat.report(parts)

    return Service(
        name="fleetcast-distributor",
        version=heartbeat.VERSION,
        description="brings content onto this node and serves it to others",
        metadata={"node": parts.node, "daemon": "distributor", "pid": str(os.getpid()), "started_at": parts.started_at},
        endpoints={
            "status": (STATUS_SUBJECT, status),
            "verify": (VERIFY_SUBJECT, inspector.answer),
            "gc": (GC_SUBJECT, remover.answer),
        },
    )
