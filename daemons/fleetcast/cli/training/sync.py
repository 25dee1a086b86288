"""`fleetcast sync`: sends what waits in spools that no distributor forwards."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fleetcast.bus import Bus
from fleetcast.bus.forwarding import Forwarder
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, Problem, not_found
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.client.folders import user_folder
from fleetcast.client.spool import SpoolBusy, SpoolError, SpoolReader

RECORD_SECONDS = 10.0
"""How long one event is tried before NATS counts as away."""


@dataclass
class Synced:
    """What became of one spool.

    Attributes:
        sent: events that the fleet has now.
        refused: that became dead letters.
        damaged: pieces that were no events any more.
        dropped: events that jobs had dropped for want of space.
        waiting: events that are still there.
        problem: why nothing, or not everything, was sent.
    """

    spool: str
    sent: int = 0
    refused: int = 0
    damaged: int = 0
    dropped: int = 0
    waiting: int = 0
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost, refused or left."""
        return not (self.refused or self.damaged or self.waiting or self.problem)


def run(call: Call, spools: Sequence[Path], *, dry_run: bool) -> Exit:
    """Send what waits in *spools*; without any, in those of this user."""
    folders = list(spools) or _own(os.environ)
    missing = [str(folder) for folder in spools if not folder.is_dir()]
    if missing:
        raise not_found(f"there is no folder {missing[0]}", next_step="fleetcast sync --spool DIR")
    done = [_counted(folder) for folder in folders] if dry_run else run_async(_sync(target(call), folders))
    call.out.document({"spools": [asdict(each) for each in done], "dry_run": dry_run})
    if not done:
        call.out.text("no spool of this user has anything")
        return Exit.OK
    columns = ("SPOOL", "SENT", "REFUSED", "DAMAGED", "DROPPED", "WAITING", "WHY")
    rows = [list((asdict(each) | {"problem": each.problem or "-"}).values()) for each in done]
    call.out.show(table(columns, rows, right=range(1, 6)))
    if any(each.refused or each.damaged for each in done):
        call.out.say("refused and damaged events are named by: fleetcast dlq list")
    return Exit.OK if dry_run or all(each.is_whole for each in done) else Exit.FAILED


def _own(environ: os._Environ[str]) -> list[Path]:
    """The folders that jobs of this user spool to when the node's spool is not theirs to write, as far as they are
    there."""
    said = environ.get("FLEETCAST_SPOOL")
    folders = [Path(user_folder(environ)), Path(user_folder(environ, offline=True))]
    return [folder for folder in dict.fromkeys(([Path(said)] if said else []) + folders) if folder.is_dir()]


def _counted(folder: Path) -> Synced:
    try:
        with SpoolReader(folder) as reader:
            return Synced(str(folder), waiting=reader.waiting(), dropped=reader.dropped())
    except SpoolError as error:
        return Synced(str(folder), problem=str(error))


async def _sync(aim: Target, folders: Sequence[Path]) -> list[Synced]:
    async with connected(aim) as bus:
        return [await _send(bus, aim.node, folder) for folder in folders]


async def _send(bus: Bus, node: str, folder: Path) -> Synced:
    forwarder = Forwarder(bus, str(folder), node=node, deadline_seconds=RECORD_SECONDS)
    done = Synced(str(folder))
    try:
        with await forwarder.open() as reader:
            await _empty(forwarder, reader, done)
            done.dropped = await asyncio.to_thread(reader.dropped)
    except SpoolBusy:
        done.problem = "another process forwards it already"
    except SpoolError as error:
        done.problem = str(error)
    done.damaged = forwarder.damaged
    return done


async def _empty(forwarder: Forwarder, reader: SpoolReader, done: Synced) -> None:
    while True:
        sent = await forwarder.forward(reader)
        done.sent += sent.records - sent.refused
        done.refused += sent.refused
        if sent.problem:
            done.waiting = await asyncio.to_thread(reader.waiting)
            raise Problem(
                "no_nats",
                f"{done.waiting} events of {done.spool} could not be sent",
                why=sent.problem,
                next_step="the same again: what was sent is not sent twice; fleetcast doctor says more",
                exit_code=Exit.NO_NATS,
                details={"spool": asdict(done)},
            )
        if not sent.records:
            return
