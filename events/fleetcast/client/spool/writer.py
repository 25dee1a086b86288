"""The writing side of the spool: append-only, bounded, safe in threads, after fork and inside signal handlers."""

import os
import threading
import time
import weakref

from fleetcast.client.spool.errors import SpoolError, SpoolFull
from fleetcast.client.spool.record import encode_line
from fleetcast.client.spool.segment import (
    OFFSET_SUFFIX,
    Segment,
    Sync,
    open_segment,
    read_offset,
    remove,
    sizes,
    sync_folder,
    writer_is_gone,
)

DROPPED_LOG = "dropped.log"
SEGMENT_BYTES = 2**20
"""A segment that would grow beyond is closed and a new one begun, so that forwarded bytes of a process that runs for
weeks can be deleted."""
DURABLE_BYTES = 256 * 2**20
"""All durable segments of a spool together: some 500,000 promotions. More is refused, never dropped."""
CHEAP_BYTES = 64 * 2**20
"""All cheap segments of a spool together. Beyond, the oldest are dropped and counted."""


class SpoolWriter:
    """Appends records to the spool in *folder*.

    Durable records and cheap ones lie in separate segments, so that what is dropped when space ends is never a
    promotion. Order is kept within each of the two, not between them.

    Attributes:
        dropped: records, of this process and of others, that this writer dropped to stay within the bounds.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        durable_bytes: int = DURABLE_BYTES,
        cheap_bytes: int = CHEAP_BYTES,
        sync: Sync | None = None,
    ) -> None:
        """*sync*: how to wait for the disk after a durable record; default: as long as it takes."""
        self.folder = os.fspath(folder)
        self.dropped = 0
        self._segment_bytes = segment_bytes
        self._bounds = {True: durable_bytes, False: cheap_bytes}
        self._sync = sync
        self._segments: dict[bool, Segment] = {}
        # Re-entrant: a signal handler of the job may emit while its main thread is inside append.
        self._lock = threading.RLock()
        _WRITERS.add(self)

    def append(self, record: bytes, *, durable: bool = True) -> None:
        """Add *record*, the JSON of one CloudEvent without a newline. *durable*: it is on the disk on return.

        Raises:
            SpoolFull: there is no space, on the disk or within the bounds.
            SpoolError: the spool cannot be written.
            ValueError: it is no record: empty, over 1,000,000 bytes, or with a newline.
        """
        line = encode_line(record)
        with self._lock:
            segment = self._segment(len(line), durable=durable)
            try:
                segment.append(line)
                if durable:
                    segment.sync(self._sync)
            except BaseException:
                self._abandon(durable)
                raise

    def close(self) -> None:
        """Give up the segments; a later append begins new ones."""
        with self._lock:
            for durable in (True, False):
                self._abandon(durable)

    def _segment(self, more: int, *, durable: bool) -> Segment:
        segment = self._segments.get(durable)
        if segment is not None and segment.size + more <= self._segment_bytes and segment.is_reachable(durable):
            return segment
        self._abandon(durable)
        try:
            segment = self._begin(durable)
        except OSError as error:
            raise SpoolError(f"{self.folder}: {error.strerror or error}") from error
        self._segments[durable] = segment
        return segment

    def _begin(self, durable: bool) -> Segment:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._make_room(durable)
        segment = Segment(self.folder, cheap=not durable)
        if durable:
            sync_folder(self.folder, self._sync)
        return segment

    def _make_room(self, durable: bool) -> None:
        """Hold the bounds. They are looked at when a segment begins: a spool may exceed them by what live segments
        still grow, at most one segment for each process."""
        bound = self._bounds[durable]
        present = list(sizes(self.folder, cheap=not durable))
        used = sum(size for _, size in present)
        for name, size in () if durable else present:
            if used + self._segment_bytes <= bound:
                break
            used -= size if self._drop(name) else 0
        if used + self._segment_bytes > bound:
            raise SpoolFull(f"{self.folder}: its bound of {bound} bytes is reached")

    def _drop(self, name: str) -> bool:
        """Delete a segment whose writer is gone, and count what had not been forwarded."""
        try:
            descriptor = open_segment(self.folder, name)
        except OSError:
            return False
        with open(descriptor, "rb") as file:
            if not writer_is_gone(descriptor):
                return False
            file.seek(read_offset(self.folder, name))
            lost = file.read().count(b"\n")
            if not remove(os.path.join(self.folder, name)):
                return False
        self._count(name, lost)
        return True

    def _count(self, name: str, lost: int) -> None:
        self.dropped += lost
        path = os.path.join(self.folder, DROPPED_LOG)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        remove(os.path.join(self.folder, name + OFFSET_SUFFIX))
        try:
            with open(os.open(path, flags, 0o644), "a", encoding="ascii") as file:
                file.write(f"{int(time.time())} {lost} {name}\n")
        except OSError:
            pass  # the counter in memory has it; a log that cannot be written must not refuse the new event

    def _abandon(self, durable: bool) -> None:
        segment = self._segments.pop(durable, None)
        if segment is not None:
            segment.close()

    def _after_fork(self) -> None:
        """In the child: the parent's segments stay the parent's. Its lock may be held by a thread that is not here."""
        self._lock = threading.RLock()
        self._segments, inherited = {}, self._segments
        for segment in inherited.values():
            segment.forget()


_WRITERS: "weakref.WeakSet[SpoolWriter]" = weakref.WeakSet()


def _forget_in_child() -> None:
    for writer in list(_WRITERS):
        writer._after_fork()  # noqa: SLF001 -- the module's own class


os.register_at_fork(after_in_child=_forget_in_child)
