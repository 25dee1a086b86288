"""Room on the disk: what is free, and how much of it running transfers still need."""

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from fleetcast.transport.errors import StoreFull

_UNIT = 512
"""Bytes of a block in `st_blocks`, whatever the file system's own are (stat(2))."""


def unwritten(files: Iterable[tuple[Path, int]]) -> int:
    """Bytes that files will still take from the disk until they have their sizes.

    What counts is allocated blocks, not length: a sparse file is long before it has bytes, and one that was allocated
    in advance has taken its room before a byte is in it.
    """
    return sum(max(0, size - _allocated(path)) for path, size in files)


def _allocated(path: Path) -> int:
    try:
        return os.lstat(path).st_blocks * _UNIT
    except OSError:
        return 0


class Hold:
    """Room that somebody counts on until it is released; what is written meanwhile counts as taken, not as held."""

    def __init__(self, what: str, missing: Callable[[], int], release: Callable[[], None]) -> None:
        self.what = what
        self.missing = missing
        self.release = release

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Room:
    """What is free below a folder, less what was promised. Safe for use by several threads."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._folder, self._reserve = folder, reserve_bytes
        self._holds: dict[int, Hold] = {}
        self._numbers = itertools.count()
        self._changing = threading.Lock()

    def free_bytes(self) -> int:
        """Bytes that this process may still write."""
        self._folder.mkdir(parents=True, exist_ok=True)
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def needed_bytes(self, missing: int) -> int:
        """How much must be free for a hold on *missing* bytes: those, all that is held, and the reserve."""
        return missing + self._promised() + self._reserve

    def hold(self, what: str, missing: Callable[[], int]) -> Hold:
        """Promise room until it is released.

        Args:
            what: who needs it, for people.
            missing: bytes that are still to be written.

        Raises:
            StoreFull: it does not fit beside what was promised before and the reserve.
        """
        with self._changing:
            wanted, free = missing(), self.free_bytes()
            if self.needed_bytes(wanted) > free:
                raise StoreFull(self._why(what, wanted, free), next_step=self._next_step)
            number = next(self._numbers)
            hold = Hold(what, missing, lambda: self._release(number))
            self._holds[number] = hold
        return hold

    @property
    def _next_step(self) -> str:
        return f"free space below {self._folder}, or lower store.reserve_bytes in fleetcast.toml"

    def _why(self, what: str, wanted: int, free: int) -> str:
        others = ", ".join(hold.what for hold in self._holds.values())
        promised = f", {self._promised()} promised to {others}" if others else ""
        return f"no room for {what}: {wanted} bytes{promised} and {self._reserve} in reserve, but {free} are free"

    def _promised(self) -> int:
        return sum(hold.missing() for hold in self._holds.values())

    def _release(self, number: int) -> None:
        with self._changing:
            self._holds.pop(number, None)
