"""Forwards what jobs and daemons on this node left in its spools: at least once, in order, with their own ids."""

import asyncio
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleetcast.bus.forwarding import Forwarder
from fleetcast.client.spool import SpoolBusy, SpoolError, SpoolReader
from fleetcast.daemons.distributor.parts import Parts

log = structlog.get_logger("fleetcast.distributor.forwarder")

IDLE_SECONDS = 0.5
"""Distance of looks at an empty spool: a promotion written by a job waits this long at most."""
ABSENT_SECONDS = 5.0
"""Distance of looks at a spool that is not there yet, or that this daemon may not read."""
SPOOL_MODE = 0o3770


@dataclass
class Line:
    """One spool and what is known of it."""

    folder: Path
    forwarder: Forwarder
    waiting: int = 0


async def forward(parts: Parts) -> None:
    """Forward the node's spool, and those that the settings name beside it, until cancelled."""
    own = parts.settings.store.data / "spool"
    await asyncio.to_thread(_open_to_jobs, own)
    lines = [_line(parts, folder) for folder in dict.fromkeys((own, *parts.settings.distributor.spools))]
    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(_forward(parts, line, lines, own=line.folder == own), name=f"spool:{line.folder}")


def _line(parts: Parts, folder: Path) -> Line:
    deadline = parts.settings.bus.publish_deadline_seconds
    return Line(folder, Forwarder(parts.bus, str(folder), node=parts.node, deadline_seconds=deadline))


def _open_to_jobs(folder: Path) -> None:
    """Make the spool, open to the jobs of this node: whoever is in the daemon's group may add, nobody may remove."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        try:
            folder.chmod(SPOOL_MODE)
        except PermissionError:
            # In a unit with RestrictSUIDSGID, for which `fleetcast install` makes the folder: without the group's bit
            # what jobs write is readable to everybody who gets in, and that is the group.
            folder.chmod(SPOOL_MODE & ~stat.S_ISGID)


async def _forward(parts: Parts, line: Line, lines: Sequence[Line], *, own: bool) -> None:
    with await _reader(line, own=own) as reader:
        while True:
            sent = await line.forwarder.forward(reader)
            line.waiting = sent.waiting
            parts.board.spool_entries = sum(each.waiting for each in lines)
            parts.board.spool_lost = sum(each.forwarder.damaged + each.forwarder.dropped for each in lines)
            if sent.problem:
                log.warning("spool.waiting", spool=str(line.folder), entries=sent.waiting, reason=sent.problem)
            elif sent.records:
                log.info("spool.forwarded", spool=str(line.folder), entries=sent.records)
            if sent.problem or not sent.records:
                await asyncio.sleep(IDLE_SECONDS)


async def _reader(line: Line, *, own: bool) -> SpoolReader:
    said = ""
    while True:
        problem, pause = "it is not there yet", ABSENT_SECONDS
        try:
            # Somebody else's folder is not this daemon's to make.
            if own or await asyncio.to_thread(line.folder.is_dir):
                return await line.forwarder.open()
        except SpoolBusy as busy:
            # The daemon before this one may still be ending, or a person runs `fleetcast sync`.
            problem, pause = str(busy), IDLE_SECONDS
        except SpoolError as unusable:
            if own:
                raise
            problem = str(unusable)
        if problem != said:
            log.warning("spool.not_forwarded", spool=str(line.folder), reason=problem)
            said = problem
        await asyncio.sleep(pause)
