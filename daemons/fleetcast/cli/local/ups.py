"""Which `fleetcast up` of this user are running. Each leaves a note in the user's state folder; whether it still runs
is told by the lock that it holds, never by a process id, which may have been given to somebody else."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetcast.cli.local.layout import Layout
from fleetcast.cli.problems import Problem


@dataclass(frozen=True)
class RunningUp:
    """A local fleet that runs now.

    Attributes:
        folder: its folder.
        config: settings file for commands about it.
        url: address of its NATS server.
        pid: process of `fleetcast up`.
    """

    folder: Path
    config: Path
    url: str
    pid: int


@contextmanager
def held(layout: Layout) -> Iterator[None]:
    """Own the folder of *layout* for the duration.

    Raises:
        Problem: another `up` owns it.
    """
    layout.folder.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Problem(
                "already_up",
                f"a fleet is already running in {layout.folder}",
                why="another `fleetcast up` holds the folder",
                next_step=f"use it (fleetcast status --config {layout.config}), stop it, or give another --folder",
            ) from error
        yield


@contextmanager
def announced(layout: Layout, url: str) -> Iterator[None]:
    """Let other commands of this user find the fleet for the duration."""
    note = _notes() / f"{hashlib.sha256(bytes(layout.folder)).hexdigest()[:16]}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"folder": str(layout.folder), "url": url, "pid": os.getpid()}), encoding="utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def running_ups() -> tuple[RunningUp, ...]:
    """Every local fleet of this user that runs now, by folder."""
    found = [up for note in sorted(_notes().glob("*.json")) if (up := _read(note)) is not None]
    return tuple(sorted((up for up in found if _is_held(Layout(up.folder))), key=lambda up: str(up.folder)))


def _read(note: Path) -> RunningUp | None:
    # A note may vanish or be half written while it is read; both mean that there is nothing to find.
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        folder = Path(said["folder"])
        return RunningUp(folder, Layout(folder).config, str(said["url"]), int(said["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(layout: Layout) -> bool:
    try:
        with layout.lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _notes() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "fleetcast" / "up"
