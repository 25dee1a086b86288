"""The reading side of the spool: the one forwarder of a node takes records, and commits what the bus has."""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fleetcast.client.spool.errors import SpoolBusy, SpoolError
from fleetcast.client.spool.record import MAX_LINE_BYTES, decode_line, salvage
from fleetcast.client.spool.segment import (
    OFFSET_SUFFIX,
    SUFFIX,
    open_segment,
    read_offset,
    remove,
    segment_names,
    write_offset,
    writer_is_gone,
)
from fleetcast.client.spool.writer import DROPPED_LOG

LOCK_NAME = "forwarder.lock"
DAMAGED_FOLDER = "damaged"
MAX_DAMAGED = 64
"""Damaged records kept; the oldest go first."""
ABANDONED_SECONDS = 3600.0
"""Age at which a hidden file is the rest of a process that died between creating and naming its segment."""


@dataclass(frozen=True)
class SpoolRecord:
    """One record that waits.

    Attributes:
        data: the CloudEvent's JSON.
        file: name of its segment.
        end_offset: where it ends in the segment, in bytes.
    """

    data: bytes
    file: str
    end_offset: int


@dataclass(frozen=True)
class Damaged:
    """Bytes of the spool that are no record.

    Attributes:
        file: name of the segment.
        offset: where they begin, in bytes.
        reason: what is wrong with them, for a person.
        kept: path of the copy; empty when there is none, and the bytes stay where they are.
        bytes: how many they are; 0 when nobody can read them.
    """

    file: str
    offset: int
    reason: str
    kept: str
    bytes: int = 0


class SpoolReader:
    """Takes records from the spool in *folder*; at most one reader of a folder exists at a time.

    Delivery is at least once: a record is yielded again until it, or a later one of its segment, was committed.
    Order is kept within a segment; segments come in the order of their creation.
    """

    def __init__(self, folder: str | os.PathLike[str], *, on_damaged: Callable[[Damaged], None] | None = None) -> None:
        """Become the forwarder of *folder*, which is created when it is not there.

        Args:
            folder: of the spool.
            on_damaged: told once about every piece of damage, after it was set aside.

        Raises:
            SpoolBusy: another process is.
            SpoolError: the folder cannot be used.
        """
        self.folder = os.fspath(folder)
        self._on_damaged = on_damaged or (lambda damaged: None)
        self._lock: int | None = _locked(self.folder)
        self._offsets: dict[str, int] = {}
        self._reported: set[tuple[str, int]] = set()

    def __enter__(self) -> "SpoolReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process be the forwarder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def pending(self) -> Iterator[SpoolRecord]:
        """What waits now, oldest segment first. What a live process is still writing is left for the next call."""
        self._sweep()
        for name in segment_names(self.folder):
            yield from self._records(name)

    def commit(self, record: SpoolRecord) -> None:
        """Note that *record* and all before it in its segment are on the bus; a segment that is done is deleted."""
        if record.end_offset > self._offset(record.file):
            self._advance(record.file, record.end_offset)

    def waiting(self) -> int:
        """How many records wait."""
        return sum(self._count(name) for name in segment_names(self.folder))

    def dropped(self) -> int:
        """How many records were dropped for want of space since the counter began."""
        try:
            with open(os.path.join(self.folder, DROPPED_LOG), encoding="ascii", errors="replace") as file:
                counts = [line.split()[1] for line in file if len(line.split()) == 3]
        except OSError:
            return 0
        return sum(int(count) for count in counts if count.isdigit())

    def set_aside(self, record: SpoolRecord, reason: str) -> Damaged:
        """Keep a *record* that is sound but that nobody can use, and go on behind it."""
        damaged = self._keep(record.file, record.end_offset - len(record.data) - 1, record.data, reason)
        self.commit(record)
        return damaged

    def _records(self, name: str) -> Iterator[SpoolRecord]:
        try:
            descriptor = open_segment(self.folder, name)
        except FileNotFoundError:
            return
        except OSError as error:
            self._report(Damaged(name, 0, f"it cannot be read: {error.strerror or error}", ""))
            return
        with open(descriptor, "rb") as file:
            # Asked before reading: a writer that dies while we read has then left lines that the next call reads.
            gone = writer_is_gone(file.fileno())
            file.seek(self._start(name, file))
            for offset, line in _lines(file, gone=gone):
                yield from self._decoded(name, offset, line)
        self._delete_if_done(name)

    def _decoded(self, name: str, offset: int, line: bytes) -> Iterator[SpoolRecord]:
        end = offset + len(line)
        record = decode_line(line)
        if record is not None:
            yield SpoolRecord(record, name, end)
            return
        rest = salvage(line) if line.endswith(b"\n") else None
        start = rest[0] if rest else len(line)
        self._damaged(name, offset, line[:start])
        if rest:
            yield SpoolRecord(rest[1], name, end)

    def _damaged(self, name: str, offset: int, data: bytes) -> None:
        torn = not data.endswith(b"\n")
        reason = "torn: its writer or its machine stopped in the middle" if torn else "length or CRC-32 do not fit"
        damaged = self._keep(name, offset, data, reason)
        self._report(damaged)
        if damaged.kept and self._offset(name) == offset:
            # Nothing uncommitted lies before it, so that it need not be met again.
            self._advance(name, offset + len(data))

    def _report(self, damaged: Damaged) -> None:
        place = (damaged.file, damaged.offset)
        if place not in self._reported:
            self._reported.add(place)
            self._on_damaged(damaged)

    def _keep(self, name: str, offset: int, data: bytes, reason: str) -> Damaged:
        folder = os.path.join(self.folder, DAMAGED_FOLDER)
        stem = os.path.join(folder, f"{name}@{offset:012d}")
        try:
            _write(stem + ".bytes", data)
            _write(stem + ".reason", f"{reason}\n".encode())
            for old in sorted(os.listdir(folder))[: -2 * MAX_DAMAGED]:
                os.unlink(os.path.join(folder, old))
        except OSError as error:
            # Damage never stops the sound records behind it, not even on a full disk.
            return Damaged(name, offset, f"{reason}; it could not be set aside: {error.strerror}", "", len(data))
        return Damaged(name, offset, reason, stem + ".bytes", len(data))

    def _advance(self, name: str, offset: int) -> None:
        self._offsets[name] = offset
        # Neither fsync nor success is needed (a full disk must not stop what empties it): an offset that is lost makes
        # a repeat, which ids make harmless.
        with contextlib.suppress(OSError):
            write_offset(self.folder, name, offset)
        self._delete_if_done(name)

    def _delete_if_done(self, name: str) -> None:
        """Delete the segment when all of it is forwarded and its writer is gone."""
        path = os.path.join(self.folder, name)
        try:
            if os.lstat(path).st_size > self._offset(name):
                return
            descriptor = open_segment(self.folder, name)
        except OSError:
            return
        try:
            # The size again, now that the writer is known to be gone: it may have written between the two looks.
            if writer_is_gone(descriptor) and os.fstat(descriptor).st_size <= self._offset(name):
                # The segment first: an offset without its segment is swept, a segment without its offset is repeated.
                remove(path)
                remove(path + OFFSET_SUFFIX)
                del self._offsets[name]
        finally:
            os.close(descriptor)

    def _offset(self, name: str) -> int:
        """Bytes of the segment that were forwarded."""
        if name not in self._offsets:
            self._offsets[name] = read_offset(self.folder, name)
        return self._offsets[name]

    def _start(self, name: str, file: BinaryIO) -> int:
        """Where to read on; an offset behind the end is damage, and the segment is read from its begin."""
        if self._offset(name) > os.fstat(file.fileno()).st_size:
            self._offsets[name] = 0
        return self._offsets[name]

    def _count(self, name: str) -> int:
        try:
            with open(open_segment(self.folder, name), "rb") as file:
                file.seek(self._start(name, file))
                return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
        except OSError:
            return 0

    def _sweep(self) -> None:
        """Remove offsets without segments, and hidden files of processes that died before they named them."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            path = os.path.join(self.folder, name)
            orphan = name.endswith(OFFSET_SUFFIX) and not os.path.lexists(path.removesuffix(OFFSET_SUFFIX))
            if orphan or (name.startswith(".") and name.endswith(SUFFIX) and _age(path) > ABANDONED_SECONDS):
                remove(path)


def _lines(file: BinaryIO, *, gone: bool) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of every line up to the end; without a newline: the torn last one, if nobody can complete it."""
    while True:
        offset = file.tell()
        line = file.readline(MAX_LINE_BYTES)
        whole = line.endswith(b"\n") or len(line) == MAX_LINE_BYTES
        if not line or not (whole or gone):
            return
        yield offset, line


def _locked(folder: str) -> int:
    try:
        os.makedirs(os.path.join(folder, DAMAGED_FOLDER), mode=0o700, exist_ok=True)
        if not stat.S_ISDIR(os.lstat(os.path.join(folder, DAMAGED_FOLDER)).st_mode):
            raise SpoolError(f"{folder}/{DAMAGED_FOLDER} is a link: remove it")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(os.path.join(folder, LOCK_NAME), flags, 0o600)
    except OSError as error:
        raise SpoolError(f"{folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SpoolBusy(f"{folder}: another process forwards it (it holds {LOCK_NAME})") from error
    return descriptor


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0
