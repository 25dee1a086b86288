"""What the trainer that started this job gave to it: the run and its claim, data, a checkpoint to go on from, a device,
and the file by which it asks the job to end."""

import os
import time
from collections.abc import Mapping

from fleetcast.client.notices import warn

CADENCE_SECONDS = 600.0
"""Distance of checkpoints where nobody advises another: ten minutes of work are lost at most."""
CHECKPOINTS = "checkpoints"
"""Where checkpoints go when nobody started the job: a folder below the working directory."""
LOOK_SECONDS = 0.5
"""How often the stop file is looked for, however often the job asks: it may ask with every step."""
_MOST_BYTES = 4096


class Assignment:
    """The environment of a job. Outside a lane it says little, and everything here still has a meaning.

    Attributes:
        run: that the job belongs to; None: it is on its own.
        claim: under which its node has the run; None: no lane started it.
        lane, model: as the lane is defined.
        resume_from: checkpoint to go on from; None: from scratch.
        checkpoint_dir: where checkpoints are to be written.
        device: `cuda:0`, `rocm:0` or `cpu`; None: nobody said.
        cadence_seconds: advised distance of two checkpoints.
        done_file: where the job says that it is done; None: nobody asks.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        def said(name: str) -> str | None:
            return environ.get(f"FLEETCAST_{name}") or None

        self.run = said("RUN_ID")
        self.claim = _claim(said("CLAIM")) if self.run else None
        self.lane, self.model = said("LANE"), said("MODEL")
        self.resume_from = said("CHECKPOINT")
        self.checkpoint_dir = said("CHECKPOINT_DIR") or CHECKPOINTS
        self.device = said("DEVICE")
        self.cadence_seconds = _seconds(said("CADENCE_SECONDS"))
        self._data = said("DATA") or ""
        self._deadline = said("DEADLINE")
        self._stop_file = said("STOP_FILE")
        self.done_file = said("DONE_FILE")
        self._stop = False
        self._look_at = 0.0

    @property
    def data(self) -> tuple[str, ...]:
        """Paths of the files to train on: of a data set's folder, those in it, in order of their names."""
        found: list[str] = []
        for path in self._data.split(os.pathsep):
            found += _files(path) if os.path.isdir(path) else [path] if path else []
        return tuple(found)

    @property
    def stop_requested(self) -> bool:
        """Whether the trainer asks the job to save and end. Once it does it goes on asking."""
        now = time.monotonic()
        if not self._stop and self._stop_file is not None and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._stop = os.path.exists(self._stop_file)
        return self._stop

    @property
    def seconds_left(self) -> float | None:
        """Until the node is gone or the job is killed, once it is asked to end; None: nobody said when. Never below
        zero."""
        deadline = (_read(self._stop_file) if self.stop_requested and self._stop_file else None) or self._deadline
        if deadline is None:
            return None
        from datetime import UTC, datetime  # once, at the end of a run

        try:
            moment = datetime.fromisoformat(deadline)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())


class Cadence:
    """Says when the next checkpoint is due, on the clock that nobody sets."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due_at = time.monotonic() + seconds
        self._began: float | None = None
        self._ending = False

    def due(self, *, ending: bool) -> bool:
        """Whether to save now: once for each distance, and once when the job is *ending*. Saying so begins the save,
        and the wait for the next one: who is told and does not save is not told with every step."""
        now = time.monotonic()
        if now < self._due_at and (self._ending or not ending):
            return False
        self._ending = ending
        self._began = now
        self._due_at = now + self._seconds
        return True

    def saved(self) -> float | None:
        """A checkpoint is complete: the seconds since it was said to be due; None: that was not asked."""
        now = time.monotonic()
        took = None if self._began is None else now - self._began
        self._began = None
        self._due_at = now + self._seconds
        return took


def _claim(text: str | None) -> int | None:
    number = int(text) if text and len(text) < 20 and text.isascii() and text.isdecimal() else 0
    if text and number < 1:
        warn(f"FLEETCAST_CLAIM={text[:40]} is no number from 1: what this job makes will be refused")
    return number or None


def _seconds(text: str | None) -> float:
    try:
        found = float(text) if text else CADENCE_SECONDS
    except ValueError:
        found = 0.0
    return found if 0 < found < float("inf") else CADENCE_SECONDS


def _files(folder: str) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        found += [os.path.join(place, name) for name in sorted(names) if not name.startswith(".")]
    return found


def _read(path: str) -> str | None:
    """The first line of a file; None: there is none, or it is empty."""
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip().partition("\n")[0].strip() or None
    except OSError:
        return None
