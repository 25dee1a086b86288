"""The heartbeat: what this node reports of itself, every few seconds and at once when something changed."""

import asyncio
import contextlib
import importlib.metadata
import os

import structlog

from fleetcast.bus.errors import BusError, PayloadTooLarge
from fleetcast.daemons.distributor.fitting import fitted
from fleetcast.daemons.distributor.parts import Parts, now
from fleetcast.daemons.distributor.voice import LAST_WORDS_SECONDS
from fleetcast.daemons.runtime import Daemon, Progress
from fleetcast.daemons.runtime.readiness import with_bus
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import DaemonState, NodeStarted, NodeStopped
from fleetcast.events.state import NodeStatus

log = structlog.get_logger("fleetcast.distributor.heartbeat")

SETTLE_SECONDS = 0.1
"""Least distance of heartbeats. The first change after a quiet time is reported at once, what follows it shares the
next one: who counts the nodes that hold a version waits for this. What ends a hook is not held back."""

PROOF_SECONDS = 60.0
"""A beat waits at most for the heartbeat's distance and one request; this much silence means that the loop hangs."""

_MORE_ROOM = "larger max_payload in the configuration of the NATS servers, 8MB at most, or fewer models in node.models"

VERSION = importlib.metadata.version("fleetcast")


def status(parts: Parts) -> NodeStatus:
    """What this node says of itself now."""
    board = parts.board
    return NodeStatus(
        node=parts.node,
        daemon="distributor",
        version=VERSION,
        state=board.state,
        status=board.sentence,
        pid=os.getpid(),
        started_at=parts.started_at,
        at=now(),
        endpoints=parts.endpoints,
        labels=parts.settings.node.labels,
        wants=parts.wants,
        data=str(parts.settings.store.data),
        transports=tuple(name for name, there in parts.available.items() if there.ok),
        models=board.models,
        transfers=board.transfers,
        spool_entries=board.spool_entries,
        drained=board.drained,
        spool_lost=board.spool_lost,
        disk_free=board.disk_free,
        metrics=parts.metrics_url,
        keyring=parts.keyring.ring.number if parts.keyring.ring else None,
    )


async def beat(parts: Parts, daemon: Daemon) -> None:
    """Report until cancelled. Every beat, answered or not, proves to the watchdog that the daemon works."""
    alive = Progress(PROOF_SECONDS)
    daemon.progress("heartbeat", alive)
    while True:
        earliest = asyncio.get_running_loop().time() + SETTLE_SECONDS
        parts.board.changed.clear()
        parts.board.urgent.clear()
        await _put(parts, parts.settings.bus.request_timeout_seconds)
        alive.made()
        daemon.status(with_bus(parts.bus, parts.board.sentence))
        try:
            async with asyncio.timeout(parts.settings.distributor.heartbeat_seconds):
                await parts.board.changed.wait()
        except TimeoutError:
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(earliest):
                await parts.board.urgent.wait()


async def _put(parts: Parts, deadline_seconds: float) -> None:
    document = report(parts)
    try:
        await parts.bus.kv_put("fc_nodes", f"{parts.node}.distributor", document, deadline_seconds=deadline_seconds)
    except PayloadTooLarge as refused:
        log.warning("heartbeat.refused", reason=str(refused), next_step=_MORE_ROOM)
    except BusError as away:
        log.debug("heartbeat.missed", reason=str(away))


def report(parts: Parts) -> bytes:
    """What this node says of itself now, as JSON that the server takes; what was left out of it is told once."""
    said, document = fitted(status(parts), parts.bus.wire.max_payload)
    if bool(said.left_out) is not bool(parts.board.left_out):
        if said.left_out:
            log.warning("heartbeat.cut", models=len(said.models), left_out=said.left_out, next_step=_MORE_ROOM)
        else:
            log.info("heartbeat.whole", models=len(said.models))
    parts.board.left_out = said.left_out
    return document


def started(parts: Parts) -> NodeStarted:
    """The fact that this daemon is ready."""
    return NodeStarted(
        node=parts.node,
        daemon="distributor",
        version=VERSION,
        endpoints=parts.endpoints,
        labels=parts.settings.node.labels,
        wants=parts.wants,
    )


async def say_stopped(parts: Parts) -> None:
    """Last words of an orderly end: the heartbeat says `stopped`, so that nobody waits for this node."""
    parts.board.set_state(DaemonState.STOPPED)
    await _put(parts, LAST_WORDS_SECONDS)
    stopped = new_event(NodeStopped(**started(parts).model_dump()), source=parts.source)
    await parts.voice.now(stopped, deadline_seconds=LAST_WORDS_SECONDS)
