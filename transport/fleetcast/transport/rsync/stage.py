"""Where rsync writes: a folder of its own, from which proven pieces go to the files of the transfer.

A blob of which nothing is proven is written straight into the transfer's file: both names are one file. One that is
partly proven is built anew beside it, with the old file as the basis of rsync's delta method, and only missing pieces
are copied over: a source that lies can spoil nothing that is proven. What was copied is given back to the disk at once,
which has room for the content, and not for twice as much.
"""

import ctypes
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleetcast.transport.protocol import FetchRequest
from fleetcast.transport.rsync.plan import Job

_COPY = 2**20
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""Modes of fallocate(2) (linux/falloc.h)."""
_AHEAD = 64
"""Blobs that are looked at in one go: rsync writes them in their order."""


@dataclass
class Growth:
    """What came since the last look: pieces to claim, payload bytes, and how far rsync is in all."""

    pieces: list[tuple[int, int]] = field(default_factory=list)
    new_bytes: int = 0
    position: int = 0


class Stage:
    """The folder of one transfer. Blocks; to be used by one thread at a time."""

    def __init__(self, folder: Path, request: FetchRequest, piece_length: int) -> None:
        self.folder = folder
        self._files = request.content.files
        self._target = request.folder / request.artifact[:16]
        self._piece_length = piece_length
        self.proven: dict[int, set[int]] = {index: set(pieces) for index, pieces in request.have.items()}
        self._written: dict[str, int] = {}
        self._claimed: dict[str, int] = {}

    @property
    def proven_bytes(self) -> int:
        """Bytes of the proven pieces."""
        return sum(self._span(index, piece)[1] for index, pieces in self.proven.items() for piece in pieces)

    def prepare(self, work: Sequence[Job]) -> None:
        """Lay out the folder for one run of rsync.

        Raises:
            OSError: it cannot be written.
        """
        self.clear()
        self._written, self._claimed = {}, {}
        for name in ("new", "basis"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "names").write_text("".join(f"{job.name}\n" for job in work))
        for job in work:
            if job.delta:
                self._offer_basis(job)
            else:
                self._write_straight(job)

    def grown(self, work: Sequence[Job]) -> Growth:
        """Look at what rsync has written since the last call, and bring new pieces to their places.

        Raises:
            OSError: a piece cannot be copied, e.g. for want of space.
        """
        growth = Growth()
        for job in self._under_way(work):
            size = self._size(job)
            new = range(self._claimed.get(job.sha256, 0), self._whole_pieces(job, size))
            self._claimed[job.sha256] = max(new.stop, new.start)
            if not job.delta:
                growth.new_bytes += max(0, size - self._written.get(job.sha256, 0))
            self._written[job.sha256] = size
            self._take(job, new, growth)
        growth.position = sum(self._written.values())
        return growth

    def finish(self) -> None:
        """Cut off what a source sent beyond the end of a file."""
        for index, file in enumerate(self._files):
            if self._path(index).stat().st_size > file.size:
                os.truncate(self._path(index), file.size)

    def check_room(self) -> None:
        """Take a little of the room that the rest still needs, until `clear`.

        Raises:
            OSError: there is none.
        """
        missing = sum(file.size for file in self._files) - self.proven_bytes
        fd = os.open(self.folder / "room", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, max(1, min(_COPY, missing)))
        finally:
            os.close(fd)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _offer_basis(self, job: Job) -> None:
        best = max(job.places, key=lambda index: len(self.proven.get(index, ())))
        basis = self.folder / "basis" / job.name
        basis.parent.mkdir(parents=True, exist_ok=True)
        os.link(self._path(best), basis)

    def _write_straight(self, job: Job) -> None:
        new = self._new(job)
        new.parent.mkdir(parents=True, exist_ok=True)
        new.touch(mode=0o600)
        for index in job.places:
            self.proven.pop(index, None)
            path = self._path(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            os.link(new, path)

    def _under_way(self, work: Sequence[Job]) -> Iterator[Job]:
        """Blobs that may have grown: the first of those that are not finished."""
        open_jobs = (job for job in work if self._claimed.get(job.sha256, 0) * self._piece_length < job.size)
        yield from (job for job, _ in zip(open_jobs, range(_AHEAD), strict=False))

    def _take(self, job: Job, pieces: range, growth: Growth) -> None:
        for piece in pieces:
            missing = [index for index in job.places if piece not in self.proven.get(index, ())]
            if job.delta and missing:
                start, size = self._span(missing[0], piece)
                growth.new_bytes += size
                for index in missing:
                    _copy(self._new(job), self._path(index), start, size)
            if job.delta:
                _give_back(self._new(job), *self._span(job.places[0], piece))
            growth.pieces += [(index, piece) for index in missing]

    def _whole_pieces(self, job: Job, size: int) -> int:
        if size >= job.size:
            return -(-job.size // self._piece_length)
        return size // self._piece_length

    def _size(self, job: Job) -> int:
        try:
            return min(job.size, self._new(job).stat().st_size)
        except FileNotFoundError:
            return 0

    def _span(self, file_index: int, piece: int) -> tuple[int, int]:
        start = piece * self._piece_length
        return start, min(self._piece_length, self._files[file_index].size - start)

    def _new(self, job: Job) -> Path:
        return self.folder / "new" / job.name

    def _path(self, file_index: int) -> Path:
        return self._target / self._files[file_index].path


def _copy(source: Path, target: Path, start: int, size: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    target.parent.mkdir(parents=True, exist_ok=True)
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writing = os.open(target, flags, 0o600)
        try:
            while size:
                data = os.pread(reading, min(_COPY, size), start)
                if not data:
                    raise OSError(0, "the staged file is shorter than it was")
                os.pwrite(writing, data, start)
                start, size = start + len(data), size - len(data)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _give_back(path: Path, start: int, size: int) -> None:
    """Free the blocks of a part of a file, where the file system can do that; it reads as zeros then."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        punch = ctypes.CDLL(None, use_errno=True).fallocate
        punch(fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(size))
    finally:
        os.close(fd)
