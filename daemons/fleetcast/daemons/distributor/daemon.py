"""The distributor's shell: connects its modules to bus, store and transports, and stops them in order."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from fleetcast.bus import Bus, BusState, Service, connect
from fleetcast.bus.streams import declare
from fleetcast.client.spool import SpoolWriter
from fleetcast.config.settings import Settings
from fleetcast.daemons.distributor import heartbeat
from fleetcast.daemons.distributor.acquire import Acquisition
from fleetcast.daemons.distributor.board import Board
from fleetcast.daemons.distributor.capability import kept_capability
from fleetcast.daemons.distributor.forwarder import forward
from fleetcast.daemons.distributor.inspection import Inspector
from fleetcast.daemons.distributor.intake import IntakeDesk, consume_intake, consume_submissions
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.origin import OriginDesk
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.reconcile import Reconciler
from fleetcast.daemons.distributor.report import STATUS_SUBJECT, VERIFY_SUBJECT
from fleetcast.daemons.distributor.shelf import Shelf
from fleetcast.daemons.distributor.swarm import SwarmBook
from fleetcast.daemons.distributor.transfers import Transfers
from fleetcast.daemons.distributor.voice import Voice
from fleetcast.daemons.runtime import Daemon, Grace, Stage, run_daemon
from fleetcast.events.payloads import DaemonState, Endpoints
from fleetcast.registry import Registry
from fleetcast.transport.bittorrent import BittorrentTransport
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.store import Store

log = structlog.get_logger("fleetcast.distributor")

LOW_PRIORITY = 10
"""Niceness of background hashing: it never takes a core from training."""


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
    settings = daemon.settings
    address = settings.network.address or bus.local_address()
    lost_seeds: asyncio.Queue[str] = asyncio.Queue()
    bittorrent = BittorrentTransport(
        settings.bittorrent,
        bind=settings.network.bind,
        advertise=address,
        on_seed_lost=lambda artifact, _reason: lost_seeds.put_nowait(artifact),
    )
    server = StoreServer(
        settings.http,
        bind=settings.network.bind,
        advertise=address,
        find=store.find,
        content_of=store.content_of,
        capability=await kept_capability(settings.store.data),
    )
    idle = ThreadPoolExecutor(1, "idle", initializer=_lower_priority)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(idle.shutdown, wait=False, cancel_futures=True)
        await server.start()
        stack.push_async_callback(server.close)
        await bittorrent.start()
        stack.push_async_callback(bittorrent.close)
        yield Parts(
            node=daemon.node,
            settings=settings,
            bus=bus,
            registry=Registry(bus),
            store=store,
            bittorrent=bittorrent,
            voice=Voice(bus, SpoolWriter(settings.store.data / "spool")),
            endpoints=Endpoints(bt=bittorrent.endpoint, http=server.endpoint),
            board=Board(),
            swarm=SwarmBook(daemon.node),
            idle=idle,
            lost_seeds=lost_seeds,
        )


async def _live(daemon: Daemon, parts: Parts) -> None:
    shelf = Shelf(parts.store, parts.board)
    neighbours = Neighbours(parts)
    acquisition = Acquisition(parts, neighbours, shelf)
    transfers = Transfers(parts, acquisition)
    reconciler = Reconciler(parts, transfers, shelf)
    inspector = Inspector(parts, neighbours, shelf, transfers, reconciler)
    await shelf.refresh()
    await _seed_again(parts, neighbours)
    service = await parts.bus.serve(_service(parts, inspector))
    async with daemon.roots() as roots:
        roots.start("voice", parts.voice.run(), stage=Stage.SUPPORT)
        roots.start("heartbeat", heartbeat.beat(parts, daemon), stage=Stage.SUPPORT)
        roots.start("spool", forward(parts), stage=Stage.SUPPORT)
        roots.start("bus", _until_closed(parts), stage=Stage.SUPPORT)
        roots.start("transfers", transfers.run(), stage=Stage.SUPPORT)
        roots.start("neighbours", neighbours.listen())
        roots.start("heartbeats", neighbours.watch_heartbeats())
        roots.start("slots", reconciler.watch_slots())
        roots.start("offers", reconciler.watch_offers())
        roots.start("reconcile", reconciler.run())
        roots.start("lost seeds", inspector.follow_lost_seeds())
        roots.start("submissions", consume_submissions(parts, OriginDesk(parts, acquisition)))
        roots.start("intake", consume_intake(parts, IntakeDesk(parts, neighbours)))
        _say_ready(daemon, parts)
    await service.stop()
    await heartbeat.say_stopped(parts)


def _say_ready(daemon: Daemon, parts: Parts) -> None:
    parts.board.set_state(DaemonState.READY)
    parts.bus.on_state(lambda state: _follow(parts, state))
    parts.say_first(heartbeat.started(parts))
    daemon.ready(parts.board.sentence)


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
            await parts.bittorrent.seed(record.content.artifact, record.content, record.metainfo, folder)
            await neighbours.announce(record.content.artifact, complete=True)


def _service(parts: Parts, inspector: Inspector) -> Service:
    async def status(_body: bytes) -> bytes:
        return heartbeat.status(parts).model_dump_json().encode()

    return Service(
        name="fleetcast-distributor",
        version=heartbeat.VERSION,
        description="brings content onto this node and serves it to others",
        metadata={"node": parts.node, "daemon": "distributor", "pid": str(os.getpid()), "started_at": parts.started_at},
        endpoints={
            "status": (STATUS_SUBJECT, status),
            "verify": (VERIFY_SUBJECT, inspector.answer),
        },
    )


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
