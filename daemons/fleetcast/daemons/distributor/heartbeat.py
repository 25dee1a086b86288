"""The heartbeat: what this node reports of itself, every few seconds and at once when something changed."""

import asyncio
import importlib.metadata
import os

import structlog

from fleetcast.bus.errors import BusError
from fleetcast.daemons.distributor.parts import Parts, now
from fleetcast.events.payloads import DaemonState, NodeStarted, NodeStopped
from fleetcast.events.state import NodeStatus

log = structlog.get_logger("fleetcast.distributor.heartbeat")

SETTLE_SECONDS = 0.1
"""Changes within this time share one heartbeat."""

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
        transports=parts.transports,
        models=board.models,
        transfers=board.transfers,
        spool_entries=board.spool_entries,
    )


async def beat(parts: Parts) -> None:
    """Report until cancelled."""
    while True:
        parts.board.changed.clear()
        await _put(parts)
        try:
            async with asyncio.timeout(parts.settings.distributor.heartbeat_seconds):
                await parts.board.changed.wait()
                await asyncio.sleep(SETTLE_SECONDS)
        except TimeoutError:
            continue


async def _put(parts: Parts) -> None:
    try:
        await parts.bus.kv_put("fc_nodes", f"{parts.node}.distributor", status(parts).model_dump_json().encode())
    except BusError as away:
        log.debug("heartbeat.missed", reason=str(away))


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
    await _put(parts)
    await parts.say_first(NodeStopped(**started(parts).model_dump()))
