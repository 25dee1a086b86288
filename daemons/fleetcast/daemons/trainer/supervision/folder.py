"""Files of a run in its folder, written whole or not at all. Standard library only."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetcast.daemons.trainer.supervision.spec import RunSpec, SpecInvalid, State, parse

SPEC, STATE, ORDER, LOCK, RESERVE = "spec.json", "state.json", "order.json", "lock", "reserve"
LOGS = {"stdout": "stdout.log", "stderr": "stderr.log"}
RESERVE_BYTES = 256 * 1024
"""Kept free inside the folder: on a full disk the end of a run must still find room."""
MOST_BYTES = 4 * 1024 * 1024
"""No file of state is larger; a larger one was not written by a supervisor."""


def write_whole(path: Path, document: Mapping[str, Any], *, mode: int = 0o600) -> None:
    """Replace a file by *document*, with fsync: a reader finds the old one or the new one, after a power cut too.

    Raises:
        OSError: as the system says; the old file is untouched.
    """
    spare = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
            file.write(json.dumps(document).encode())
            file.flush()
            os.fsync(file.fileno())
        spare.replace(path)
    except OSError:
        spare.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_spec(folder: Path) -> tuple[RunSpec, str] | None:
    """What was to be started last in *folder*, and the token of that start; None: nothing that can be read."""
    try:
        found = _read(folder / SPEC)
        return RunSpec.load(found), str(found["token"])
    except (OSError, SpecInvalid, KeyError):
        return None


def write_spec(spec: RunSpec, token: str) -> None:
    """Write down what is about to be started.

    Raises:
        OSError: as the system says.
    """
    write_whole(Path(spec.folder) / SPEC, spec.dump() | {"token": token})


def read_state(folder: Path) -> State | None:
    """What the newest supervisor process of *folder* wrote; None: nothing that can be read."""
    try:
        return State.load(_read(folder / STATE))
    except (OSError, SpecInvalid):
        return None


def read_order(folder: Path, token: str) -> tuple[float | None, str] | None:
    """The order to stop: grace in seconds (None: as the spec says) and reason; None: there is none for this start."""
    try:
        found = _read(folder / ORDER)
        if found["token"] != token:
            return None
        grace = found["grace_seconds"]
        return (None if grace is None else max(float(grace), 0.0)), str(found["reason"])
    except (OSError, SpecInvalid, KeyError, TypeError, ValueError):
        return None


def write_order(folder: Path, token: str, grace_seconds: float | None, reason: str) -> None:
    """Write down an order to stop; the signal that follows makes the supervisor read it.

    Raises:
        OSError: as the system says.
    """
    write_whole(folder / ORDER, {"token": token, "grace_seconds": grace_seconds, "reason": reason})


def _read(path: Path) -> dict[str, Any]:
    # The job can write here: neither a FIFO nor a file without end may hold its supervisor up.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SpecInvalid(f"{path.name} is no file")
        return parse(file.read(MOST_BYTES))
