"""Forwards what jobs and daemons on this node left in the spool: at least once, in order, with their own ids."""

import asyncio
import itertools
from pathlib import Path

import structlog

from fleetcast.bus.dead import Letter
from fleetcast.bus.errors import DataRefused, OperationRefused, TransportFailed
from fleetcast.client.spool import Damaged, SpoolBusy, SpoolReader, SpoolRecord
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.events.envelope import parse
from fleetcast.events.errors import EventInvalid

log = structlog.get_logger("fleetcast.distributor.forwarder")

IDLE_SECONDS = 0.5
"""Distance of looks at an empty spool: a promotion written by a job waits this long at most."""
SPOOL_MODE = 0o3770
SLICE = 256
"""Records held in memory at once; a full spool has hundreds of MiB."""


async def forward(parts: Parts) -> None:
    """Forward until cancelled."""
    with await _reader(parts) as reader:
        while True:
            if not await _forward_once(parts, reader):
                await asyncio.sleep(IDLE_SECONDS)


def _open_to_jobs(folder: Path) -> None:
    """Make the spool, open to the jobs of this node: whoever is in the daemon's group may add, nobody may remove."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(SPOOL_MODE)


async def _reader(parts: Parts) -> SpoolReader:
    said = False
    folder = parts.settings.store.data / "spool"
    await asyncio.to_thread(_open_to_jobs, folder)
    while True:
        try:
            return await asyncio.to_thread(SpoolReader, folder, on_damaged=_say_damaged)
        except SpoolBusy as busy:
            # The daemon before this one may still be ending.
            if not said:
                log.warning("spool.busy", reason=str(busy))
                said = True
            await asyncio.sleep(IDLE_SECONDS)


def _say_damaged(damaged: Damaged) -> None:
    log.error("spool.damaged", kept=str(damaged.kept), reason=damaged.reason)


async def _forward_once(parts: Parts, reader: SpoolReader) -> bool:
    """Publish what is there; False when there was nothing, or the bus is away."""
    records = await asyncio.to_thread(lambda: list(itertools.islice(reader.pending(), SLICE)))
    parts.board.spool_entries = len(records)
    for done, record in enumerate(records):
        try:
            await _publish(parts, record)
        except TransportFailed as away:
            log.warning("spool.waiting", entries=len(records) - done, reason=str(away))
            return False
        await asyncio.to_thread(reader.commit, record)
        parts.board.spool_entries -= 1
    if records:
        log.info("spool.forwarded", entries=len(records))
    return bool(records)


async def _publish(parts: Parts, record: SpoolRecord) -> None:
    try:
        await parts.bus.publish(parse(record.data))
    except EventInvalid as invalid:
        await _bury(parts, record, invalid.reason, field=invalid.field, next_step=invalid.next_step)
    except (DataRefused, OperationRefused) as refused:
        await _bury(parts, record, str(refused), field=None, next_step=refused.next_step or "")


async def _bury(parts: Parts, record: SpoolRecord, reason: str, *, field: str | None, next_step: str) -> None:
    log.warning("spool.refused", reason=reason, field=field)
    letter = Letter(
        subject="spool",
        data=record.data,
        headers={},
        stream=f"spool/{record.file}",
        sequence=record.end_offset,
        consumer=f"spool-{parts.node}",
        attempts=1,
        reason=reason,
        field=field,
        next_step=next_step,
    )
    await parts.bus.dead.put(letter, deadline_seconds=parts.settings.bus.publish_deadline_seconds)
