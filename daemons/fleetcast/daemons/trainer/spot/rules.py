"""What is done about a notice in the time that is left: pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

RELEASE_SECONDS: Final = 3.0
"""Kept for the end: a last word of the job, a commit and a release, a second each on a bad day."""
SAFETY: Final = 1.5
"""A save that is measured at ten seconds is given fifteen: the disk is as busy as the machine when everything ends."""

NEAR: Final = timedelta(minutes=15)
"""A maintenance may be announced for next week: until so long before, the node goes on as if nothing were."""


def is_near(deadline: datetime, now: datetime) -> bool:
    """Whether it is time to leave."""
    return deadline - now <= NEAR


@dataclass(frozen=True, slots=True)
class RunHere:
    """A run that this node owns.

    Attributes:
        save_seconds: that its saves take; None: not known.
        unsaved_seconds: of work since its last checkpoint.
    """

    run: str
    save_seconds: float | None
    unsaved_seconds: float


@dataclass(frozen=True, slots=True)
class Leave:
    """What is done with one run.

    Attributes:
        save: whether it is asked to save; False: its last checkpoint is what it goes on from.
        by: when its process is stopped, whatever it has come to.
        why: in one line.
    """

    run: str
    save: bool
    by: datetime
    why: str


def plan(runs: Sequence[RunHere], deadline: datetime, now: datetime) -> tuple[Leave, ...]:
    """What to do with every run before *deadline*: those with most to lose first."""
    end = deadline - timedelta(seconds=RELEASE_SECONDS)
    left = (end - now).total_seconds()
    ordered = sorted(runs, key=lambda run: -run.unsaved_seconds)
    return tuple(_leave(run, left, end, now) for run in ordered)


def _leave(run: RunHere, left: float, end: datetime, now: datetime) -> Leave:
    if run.save_seconds is None:
        if left > 0:
            return Leave(run.run, True, end, f"asked to save; how long that takes is not known, {left:.0f} s are left")
        return Leave(run.run, False, now, "no time is left")
    needed = run.save_seconds * SAFETY
    if needed <= left:
        return Leave(run.run, True, end, f"asked to save: {needed:.1f} s needed, {left:.0f} s left")
    return Leave(run.run, False, now, f"not asked to save: {needed:.1f} s needed, {max(left, 0):.0f} s left")
