"""Why a run leaves a node though it is not done, and how it goes on elsewhere. Pure, but for one file: the one that
asks a job to end lies on the disk, so that the next life of the daemon knows of it. A job that was asked ends with
status 0, and is not done for that."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import TrainingRunState
from fleetcast.registry.commands import stamp

AWAY: Final = timedelta(minutes=10)
"""After a node's deadline: so long is a run not given to it again, in case its machine stays."""
MOST_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class Release:
    """Why a run is asked to save and end here, though it is not done.

    Attributes:
        ended: of the attempt.
        again: how it goes on.
        deadline: when its process is stopped whatever it has come to; None: nothing presses.
        save: whether it is asked to save; False: it is stopped at once.
        saved: set once it has been given back: whether it committed a checkpoint for that.
    """

    ended: Ended
    again: Again
    deadline: datetime | None = None
    save: bool = True
    saved: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def reclaimed(
    run: TrainingRunState, node: str, why: str, *, deadline: datetime, by: datetime, save: bool = True
) -> Release:
    """The machine is taken away at *deadline*; the process is to have ended by *by*."""
    ended = Ended(rules.RECLAIMED, why, FaultClass.PREEMPTED, signature="machine taken away", counts=False)
    again = Again(cpu=run.cpu, away_from=node, away_until=deadline + AWAY)
    return Release(ended, again, deadline=by, save=save)


def returns(why: str) -> Release:
    """A GPU is there again for a run that fell back to the CPU."""
    return Release(Ended(rules.RETURNS, why, counts=False), Again())


def order(why: Release) -> str:
    """What the file says that asks for it."""
    return f"{stamp(why.deadline) if why.deadline is not None else ''}\n"


async def asked_before(file: Path, run: TrainingRunState, node: str) -> Release | None:
    """What an earlier life of the daemon asked of a run, by the file that it left; None: nothing."""
    first = await asyncio.to_thread(_first_line, file)
    if first is None:
        return None
    why = "it was asked to save and end, and the daemon was started anew meanwhile"
    with suppress(ValueError):
        by = datetime.fromisoformat(first)
        if by.tzinfo is not None:
            return reclaimed(run, node, why, deadline=by, by=by)
    return returns(why)


def _first_line(file: Path) -> str | None:
    try:
        with file.open(errors="replace") as said:
            return said.read(MOST_CHARACTERS).partition("\n")[0].strip()
    except OSError:
        return None
