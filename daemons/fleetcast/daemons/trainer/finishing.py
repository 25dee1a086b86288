"""Whether a job that was asked to end had come to its end anyway: its own word (`client/done.py`), and what is known of
all that it said. Status 0 alone says nothing: a job that saved and ended because it was asked has it too."""

import asyncio
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from fleetcast.events.content import Stored
from fleetcast.events.training import TrainingRunState

ACCEPTED_SECONDS: Final = 15.0
"""For what the job said last to come from the spool to its origin, which notes it in the run's record."""
LOOK_SECONDS: Final = 0.1
MOST_BYTES: Final = 2**20


class Effect(Stored):
    """What the job said that counts once: the id of the event, and which version of what it is about."""

    event: str
    line: str = ""
    version: str = ""


class Done(Stored):
    """A job's word that all that it is for has been done and said.

    Attributes:
        claim: under which it says so.
        effects: what it said that counts once.
    """

    claim: int
    effects: tuple[Effect, ...] = ()

    def is_accepted(self, run: TrainingRunState) -> bool:
        """Whether all of it is noted in the run's record. What is not yet, would be refused once the run is taken
        back, and comes again with the next claim: so either the one or the other holds, and nothing is lost."""
        return {each.event for each in self.effects} <= {each.event for each in run.commits}

    def is_held(self, holds: Callable[[str, str], bool]) -> bool:
        """Whether all that it made is where *holds* says so, by line and version."""
        return all(each.line and each.version and holds(each.line, each.version) for each in self.effects)


def done(file: Path, claim: int) -> Done | None:
    """What a job said under a claim; None: nothing that can be read."""
    try:
        # The job can write here: neither a FIFO nor a file without end may hold its trainer up.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as said:
            found = Done.model_validate_json(said.read(MOST_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else b"")
    except (OSError, ValidationError):
        return None
    return found if found.claim == claim else None


async def waited(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something holds within *seconds*."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(LOOK_SECONDS)
    return True
