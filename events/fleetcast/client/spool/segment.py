"""A segment: one file of the spool, written by one process that holds a lock on it as long as it lives.

The lock (flock) is the whole protocol between writer and forwarder: a segment that can be locked has lost its writer,
will never grow again, and may be deleted once everything in it was forwarded.
"""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

from fleetcast.client.spool.errors import SpoolError, SpoolFull
from fleetcast.client.spool.record import decode_line, encode_line
from fleetcast.client.ulid import new_ulid

SUFFIX = ".jsonl"
CHEAP_SUFFIX = ".cheap.jsonl"
OFFSET_SUFFIX = ".offset"

Sync = Callable[[int], None]
"""Makes the file of a descriptor durable; raises OSError."""


def segment_names(folder: str) -> list[str]:
    """Names of the segments in *folder*, oldest first: they begin with a ULID. A folder that is not there is empty."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(filter(_is_segment, names))


def _is_segment(name: str) -> bool:
    """Whether it is called `<ULID>-<process>.jsonl`, or `.cheap.jsonl`."""
    made, _, process = name.removesuffix(SUFFIX).removesuffix(".cheap").partition("-")
    of_ulid = len(made) == 26 and made.isascii() and made.isalnum() and made == made.upper()
    return name.endswith(SUFFIX) and of_ulid and process.isascii() and process.isdigit() and len(process) <= 10


def is_cheap(name: str) -> bool:
    """Whether the segment holds events that may be dropped when space ends."""
    return name.endswith(CHEAP_SUFFIX)


def open_segment(folder: str, name: str) -> int:
    """A descriptor for reading. The spool may be open to every user of the machine: links and pipes are refused.

    Raises:
        OSError: it is gone, unreadable, or not a plain file.
    """
    path = os.path.join(folder, name)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a plain file")
    return descriptor


def writer_is_gone(descriptor: int) -> bool:
    """Whether nobody can write to the segment any more. Once true, always true: segments are never opened again."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def read_offset(folder: str, name: str) -> int:
    """Bytes of the segment that were forwarded; 0 when that cannot be read, for ids make repeats harmless."""
    try:
        with open(os.path.join(folder, name + OFFSET_SUFFIX), "rb") as file:
            digits = decode_line(file.read(64))
    except OSError:
        return 0
    return int(digits) if digits is not None and digits.isdigit() else 0


def write_offset(folder: str, name: str, offset: int) -> None:
    """Keep how many bytes of the segment were forwarded.

    In place, as one line of the spool's own format with a fixed length: a write that is torn fails its CRC and counts
    as 0. A rename would be no safer here and takes 1.1 ms on ext4, which flushes on every replacing rename.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(os.path.join(folder, name + OFFSET_SUFFIX), flags, 0o600)
    try:
        os.pwrite(descriptor, encode_line(b"%020d" % offset), 0)
    finally:
        os.close(descriptor)


class Segment:
    """The writing end of one segment."""

    def __init__(self, folder: str, *, cheap: bool) -> None:
        """Create it.

        Raises:
            OSError: the folder cannot be written, or its file system has no locks.
        """
        self.path = os.path.join(folder, f"{new_ulid()}-{os.getpid()}{CHEAP_SUFFIX if cheap else SUFFIX}")
        self.size = 0
        self._looked = time.monotonic()
        self._descriptor = _create_locked(folder, self.path)

    def is_reachable(self, surely: bool) -> bool:
        """Whether it still has a name: what is written to a file that somebody deleted reaches nobody. Looked up at
        most once a second unless it must be *surely* so, for the look costs as much as the write."""
        now = time.monotonic()
        if surely or now >= self._looked + 1.0:
            self._looked = now
            return os.fstat(self._descriptor).st_nlink > 0
        return True

    def append(self, line: bytes) -> None:
        """Write *line* by one system call, so that records of a killed process are whole or absent.

        Raises:
            SpoolFull: the disk is full; the segment ends with the record before.
        """
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise SpoolFull(f"{self.path}: {error.strerror}") from error
        if written != len(line):
            os.ftruncate(self._descriptor, self.size)
            raise SpoolFull(f"{self.path}: no space left on the device")
        self.size += written

    def sync(self, wait: Sync | None = None) -> None:
        """Wait until the disk has it; *wait* may be less patient than the disk.

        Raises:
            SpoolError: the disk failed; what it holds is unknown, and the segment must not be used further.
        """
        try:
            (wait or os.fdatasync)(self._descriptor)
        except OSError as error:
            raise SpoolError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Give the segment up, and with the descriptor its lock; without a record it leaves nothing behind."""
        if not os.fstat(self._descriptor).st_size:
            remove(self.path)
        self.forget()

    def forget(self) -> None:
        """Close what a child inherited; the segment stays its parent's."""
        # The number is forgotten first: an append that this interrupts must not write to whoever gets it next.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _create_locked(folder: str, path: str) -> int:
    """Create *path* under a hidden name, lock it, then name it: nobody ever sees a segment that is not locked yet."""
    hidden = os.path.join(folder, "." + os.path.basename(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(hidden, flags, 0o600)
    try:
        os.fchmod(descriptor, _mode_for(folder))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(hidden, path)
    except BaseException:
        os.close(descriptor)
        remove(hidden)
        raise
    return descriptor


def _mode_for(folder: str) -> int:
    """Who may read a segment: whoever owns the folder must, being the forwarder's user."""
    status = os.stat(folder)
    if status.st_uid == os.geteuid():
        return 0o600
    return 0o640 if status.st_mode & stat.S_ISGID else 0o644


def remove(path: str) -> bool:
    """Delete a file; False when it is gone already, or not ours to delete."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def sync_folder(folder: str, wait: Sync | None = None) -> None:
    """Make the names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (wait or os.fsync)(descriptor)
    finally:
        os.close(descriptor)


def sizes(folder: str, *, cheap: bool) -> Iterator[tuple[str, int]]:
    """Name and bytes of every segment of one lane, oldest first."""
    for name in segment_names(folder):
        if is_cheap(name) == cheap:
            try:
                yield name, os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
