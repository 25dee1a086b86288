"""Taking folders of runs away: set aside by a rename, then deleted. What a crash leaves has no run's name any more, and
is deleted by the next life."""

import contextlib
import os
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from fleetcast.daemons.trainer.folders.rules import Folder
from fleetcast.daemons.trainer.supervision.folder import sync_folder
from fleetcast.events.ids import is_name
from fleetcast.transport.failpoints import failpoint

GOING = ".going"
"""Beside the folders of runs: those that are being deleted."""
_BLOCK = 512


def found(runs: Path) -> list[Path]:
    """The folders that bear a run's name."""
    if not runs.is_dir():
        return []
    return sorted(path for path in runs.iterdir() if is_name(path.name) and path.is_dir() and not path.is_symlink())


def measured(path: Path) -> Folder:
    """A folder with what it takes of the disk and when something in it was changed last; what disappears meanwhile, or
    cannot be looked at, does not count."""
    size, newest = 0, 0.0
    for parent, _, files in os.walk(path):
        for each in (Path(parent), *(Path(parent, name) for name in files)):
            with contextlib.suppress(OSError):
                seen = each.lstat()
                size += seen.st_blocks * _BLOCK
                newest = max(newest, seen.st_mtime)
    return Folder(path.name, path, size, datetime.fromtimestamp(newest, UTC))


def remove(path: Path) -> None:
    """Take a folder away, with all that is in it.

    Raises:
        OSError: as the system says; what is left of it is tried again by `finish`.
    """
    aside = path.parent / GOING
    aside.mkdir(exist_ok=True)
    failpoint("folders.aside.before")
    path.rename(aside / f"{path.name}.{secrets.token_hex(4)}")
    sync_folder(path.parent)
    failpoint("folders.aside.after")
    finish(path.parent)


def finish(runs: Path) -> None:
    """Delete what was set aside, now or by an earlier life.

    Raises:
        OSError: something cannot be deleted; all that can be is.
    """
    problem = None
    for left in sorted((runs / GOING).glob("*")):
        try:
            failpoint("folders.delete.before")
            shutil.rmtree(left)
        except OSError as fault:
            problem = fault
    if problem is not None:
        raise problem
    with contextlib.suppress(FileNotFoundError):
        (runs / GOING).rmdir()
