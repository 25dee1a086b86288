"""What a command says: its log, bounded, and the end of it, for whoever judges its exit. Standard library only.

A log is one stream of bytes with offsets that only grow. The file `stderr.log` holds the newest part. Full parts are
renamed to `stderr.log.<offset of their first byte>`; the first part and the newest two are kept, so that a gigabyte of
output leaves how it began and how it ended. Nothing in here ever raises for a full or broken disk: what cannot be
written is counted, and the command goes on.
"""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fleetcast.daemons.trainer.supervision.spec import TAIL_LINES

PARTS = 4
"""A log has so many parts at most: the first one, two full ones, and the one that grows."""
LEAST_PART_BYTES = 4096
RETRY_SECONDS = 1.0
"""After a write that failed: a full disk is not asked for every line."""
TAIL_BYTES = 64 * 1024
LINE_CHARACTERS = 1000
_PART = re.compile(r"\.(\d{15,})")


class Log:
    """The log of one stream of a command.

    Attributes:
        lost: bytes that could not be written.
    """

    def __init__(self, path: Path, most_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.lost = 0
        self._path = path
        self._part_bytes = max(most_bytes // PARTS, LEAST_PART_BYTES)
        self._clock = clock
        self._retry_at = 0.0
        self._untold = 0
        self._fault = ""
        self._base = end_of_parts(path)
        self._handle = -1
        self._size = 0
        with suppress(OSError):
            self._open()

    @property
    def end(self) -> int:
        """Offset of the next byte."""
        return self._base + self._size

    def write(self, data: bytes) -> None:
        """Add *data*; what finds no room is counted and forgotten."""
        done = 0
        while done < len(data) and self._clock() >= self._retry_at and self._has_room() and self._tell_of_gap():
            done += self._append(data[done : done + max(self._part_bytes - self._size, 1)])
        self.lost += len(data) - done
        self._untold += len(data) - done

    def give_way(self) -> None:
        """Delete the full parts, so that there is room for something more important."""
        for _, path in parts_of(self._path):
            with suppress(OSError):
                path.unlink()

    def _append(self, data: bytes) -> int:
        """How many bytes of *data* found room."""
        done = 0
        try:
            while done < len(data):
                done += os.write(self._handle, memoryview(data)[done:])
        except OSError as fault:
            self._failed(fault)
        self._size += done
        return done

    def _tell_of_gap(self) -> bool:
        note = f"\n[fleetcast] {self._untold} bytes of output were lost here: {self._fault}\n".encode()
        if self._untold and self._append(note) < len(note):
            return False
        self._untold = 0
        return True

    def _has_room(self) -> bool:
        try:
            if self._handle < 0:
                self._open()
            if self._size >= self._part_bytes:
                self._turn()
        except OSError as fault:
            self._failed(fault)
            return False
        return True

    def _failed(self, fault: OSError) -> None:
        self._fault = fault.strerror or str(fault)
        self._retry_at = self._clock() + RETRY_SECONDS

    def _turn(self) -> None:
        """The part that grew is full: begin the next one."""
        self._path.replace(f"{self._path}.{self._base:015d}")
        os.close(self._handle)
        self._handle = -1
        self._base += self._size
        self._size = 0
        parts = parts_of(self._path)
        keep = {parts[0][1]} | {path for _, path in parts[-(PARTS - 2) :]}
        for _, path in parts:
            if path not in keep:
                path.unlink(missing_ok=True)
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._handle = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._handle).st_size


class Tail:
    """The end of what a command said."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """Something more was said."""
        self._kept += data[-TAIL_BYTES:]
        if len(self._kept) > 2 * TAIL_BYTES:
            del self._kept[:-TAIL_BYTES]

    def lines(self) -> tuple[str, ...]:
        """The last lines, as a terminal would show them."""
        return last_lines(bytes(self._kept))


def last_lines(data: bytes, count: int = TAIL_LINES) -> tuple[str, ...]:
    """The last *count* lines of *data*, decoded with replacement. A progress bar draws itself again and again on one
    line: what it showed last counts."""
    lines = data.decode(errors="replace").rstrip("\r\n").split("\n")
    shown = (line.rstrip("\r").rpartition("\r")[2][-LINE_CHARACTERS:] for line in lines[-count:])
    return tuple(shown) if data else ()


def parts_of(path: Path) -> list[tuple[int, Path]]:
    """Full parts of the log at *path*, oldest first, with the offset of their first byte."""
    found = []
    with suppress(OSError):
        for each in path.parent.iterdir():
            match = _PART.fullmatch(each.name.removeprefix(path.name))
            if match and each.name.startswith(path.name):
                found.append((int(match[1]), each))
    return sorted(found)


def end_of_parts(path: Path) -> int:
    """Offset at which the newest part of the log at *path* begins."""
    for start, part in reversed(parts_of(path)):
        with suppress(OSError):
            return start + part.stat().st_size
    return 0
