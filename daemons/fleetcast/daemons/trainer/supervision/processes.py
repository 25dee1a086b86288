"""Processes told apart for good, found and ended: by number, moment of their start and boot. Standard library only."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from fleetcast.daemons.trainer.supervision.spec import Process

TOKEN_VARIABLE = "FLEETCAST_SUPERVISION"  # noqa: S105  # it tells processes apart and opens nothing
"""In the environment of a command and all that it starts: whose they are, when nobody is left who started them."""
_PROC = Path("/proc")
_PAUSE_SECONDS = 0.02


@cache
def boot_id() -> str:
    """Of this boot of this machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Process | None:
    """The process that has this number now; None: there is none."""
    fields = _stat(pid)
    return Process(pid, int(fields[19]), boot_id()) if fields else None


def opened(process: Process) -> int | None:
    """A handle of exactly this process (pidfd_open(2)), to be closed; None: it is gone."""
    if process.boot != boot_id():
        return None
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return None
    if identify(process.pid) == process and not has_ended(handle):
        return handle
    os.close(handle)
    return None


def has_ended(handle: int) -> bool:
    """Whether the process of a handle has ended; a zombie has."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def below(pid: int) -> set[int]:
    """Processes that live below this one, children's children too."""
    parents: dict[int, int] = {}
    for each in _numbers():
        fields = _stat(each)
        # A zombie has ended; its children have another parent already.
        if fields and fields[0] not in "ZX":
            parents[each] = int(fields[1])
    found: set[int] = set()
    fresh = {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def marked(token: str) -> set[int]:
    """Processes that were started with this token in their environment, as far as they let themselves be read."""
    return {pid for pid in _numbers() if is_marked(pid, token)}


def is_marked(pid: int, token: str) -> bool:
    """Whether a process was started with this token in its environment, and lives."""
    wanted = f"{TOKEN_VARIABLE}={token}".encode()
    fields = _stat(pid)
    if not fields or fields[0] in "ZX":
        return False
    with suppress(OSError):
        return wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return False


def end_all(find: Callable[[], set[int]], within_seconds: float, meanwhile: Callable[[], object]) -> set[int]:
    """SIGKILL whatever *find* finds until it finds nothing, for so long at most; returns what is left.

    Args:
        within_seconds: 0: once.
        meanwhile: called between two looks; a parent reaps its children there.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        left = find()
        if left:
            _kill(left, find)
        meanwhile()
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(_PAUSE_SECONDS)


def _kill(pids: set[int], find: Callable[[], set[int]]) -> None:
    handles: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            handles[pid] = os.pidfd_open(pid)
    try:
        # Looked for again now that the handles hold: a number may have become another's before.
        for pid in find() & handles.keys():
            with suppress(OSError):
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)
    finally:
        for handle in handles.values():
            os.close(handle)


def _stat(pid: int) -> list[str]:
    """Fields of proc(5) `stat` from the third on, which is the state; empty: no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return []
    # A process may have any name, with spaces and brackets in it.
    return text.rpartition(b")")[2].decode().split()


def _numbers() -> Iterator[int]:
    return (int(each.name) for each in _PROC.iterdir() if each.name.isdecimal())
