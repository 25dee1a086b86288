"""Proof of pieces: what a transport claims to have finished is read back from the disk and hashed."""

import bisect
import contextlib
import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from fleetcast.events.content import Content, ContentFile
from fleetcast.transport.hashing import CHUNK, NODE, PieceTree
from fleetcast.transport.metainfo import Metainfo, piece_count
from fleetcast.transport.store.folder import Folder

BATCH_BYTES = 32 * 2**20
"""Read back by one call: a thread that hashes cannot be stopped, and a transfer that ends should not wait for it."""


def batches(pieces: Sequence[tuple[int, int]], piece_length: int) -> Iterator[Sequence[tuple[int, int]]]:
    """*pieces* in runs of BATCH_BYTES at most, or of one piece."""
    count = max(1, BATCH_BYTES // piece_length)
    return (pieces[at : at + count] for at in range(0, len(pieces), count))


class PieceVerifier:
    """Proves the pieces of one artifact, in any order, and remembers what is proven. Safe for use by several threads.

    Args:
        folder: save path of the artifact; the files lie in its folder `<artifact16>`.
    """

    def __init__(self, metainfo: Metainfo, content: Content, folder: Path) -> None:
        self._metainfo = metainfo
        self._content = content
        self._folder = folder
        self._name = content.artifact[:16]
        self._proven = [bytearray(piece_count(f.size, metainfo.piece_length)) for f in content.files]
        self._proven_bytes = 0
        self._noting = threading.Lock()

    @property
    def piece_length(self) -> int:
        """Bytes of every piece but the last one of each file."""
        return self._metainfo.piece_length

    @property
    def proven_bytes(self) -> int:
        """Bytes of the proven pieces."""
        return self._proven_bytes

    @property
    def complete(self) -> bool:
        """Whether every piece is proven."""
        return self._proven_bytes == self._content.size

    @property
    def proven(self) -> dict[int, frozenset[int]]:
        """The proven pieces: by position of the file, positions of the pieces (`FetchRequest.have`)."""
        return {f: frozenset(p for p, done in enumerate(proven) if done) for f, proven in enumerate(self._proven)}

    def unproven_here(self) -> list[tuple[int, int]]:
        """Pieces that are not proven, and of which something lies on the disk: what is worth reading."""
        spans = [self._written(file) for file in self._content.files]
        return [(f, p) for f, p in self.missing() if _overlaps(self._span(self._content.files[f], p), spans[f])]

    def missing(self) -> list[tuple[int, int]]:
        """The pieces that are not proven: positions of the file in the content and of the piece in the file."""
        return [(f, p) for f, proven in enumerate(self._proven) for p, done in enumerate(proven) if not done]

    def verify_piece(self, file_index: int, piece_index: int) -> bool:
        """Read one piece back (see `verify`); whether it matches."""
        return not self.verify([(file_index, piece_index)])

    def verify(self, pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Read pieces back and compare each with its node of the layer (BEP 52); returns those that do not match.

        What is not there does not match. Pieces of one file that follow each other share an open file and a buffer.

        Raises:
            IndexError: the content has no such piece.
        """
        buffer = bytearray(min(CHUNK, self._metainfo.piece_length))
        wrong = []
        for file_index, group in groupby(pieces, key=itemgetter(0)):
            file = self._content.files[file_index]
            with contextlib.ExitStack() as stack:
                fd = self._opened(file, stack)
                for _, piece_index in group:
                    right = self._digest(file, piece_index, fd, buffer) == self._expected(file_index, piece_index)
                    self._note(file_index, piece_index, file, right=right)
                    if not right:
                        wrong.append((file_index, piece_index))
        return wrong

    def _expected(self, file_index: int, piece_index: int) -> bytes:
        path = self._content.files[file_index].path
        if not 0 <= piece_index < len(self._proven[file_index]):
            raise IndexError(f"{path} has no piece {piece_index}")
        return self._metainfo.layers[path][piece_index * NODE : (piece_index + 1) * NODE]

    def _note(self, file_index: int, piece_index: int, file: ContentFile, *, right: bool) -> None:
        proven, size = self._proven[file_index], self._span(file, piece_index)[1]
        with self._noting:
            self._proven_bytes += size * (int(right) - proven[piece_index])
            proven[piece_index] = right

    def _span(self, file: ContentFile, piece_index: int) -> tuple[int, int]:
        start = piece_index * self._metainfo.piece_length
        return start, min(self._metainfo.piece_length, file.size - start)

    def _written(self, file: ContentFile) -> list[tuple[int, int]]:
        """Start and end of the parts of a file that hold data; files of transfers are sparse (lseek(2), SEEK_DATA)."""
        try:
            fd = self._open(file)
        except OSError:
            return []
        try:
            return list(_data_spans(fd, os.fstat(fd).st_size))
        finally:
            os.close(fd)

    def _opened(self, file: ContentFile, stack: contextlib.ExitStack) -> int | None:
        """The file's descriptor, closed with *stack*; None when it cannot be opened."""
        try:
            fd = self._open(file)
        except OSError:
            return None
        stack.callback(os.close, fd)
        return fd

    def _digest(self, file: ContentFile, piece_index: int, fd: int | None, buffer: bytearray) -> bytes | None:
        """The node over what is on the disk; None when less is there."""
        tree = PieceTree(self._metainfo.piece_length)
        try:
            if fd is None or not _feed(fd, *self._span(file, piece_index), tree, buffer):
                return None
        except OSError:
            return None
        # A file of one piece has a tree as wide as itself; in a longer one every piece has full width.
        return tree.root() if file.size <= self._metainfo.piece_length else tree.layer_node()

    def _open(self, file: ContentFile) -> int:
        *folders, name = file.path.split("/")
        with Folder.open(self._folder, (self._name, *folders)) as folder:
            return folder.open_file(name)


def _data_spans(fd: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _overlaps(span: tuple[int, int], written: Sequence[tuple[int, int]]) -> bool:
    start, size = span
    at = bisect.bisect_right(written, (start, math.inf)) - 1
    return any(begin < start + size and end > start for begin, end in written[max(at, 0) : at + 2])


def _feed(fd: int, start: int, size: int, tree: PieceTree, buffer: bytearray) -> bool:
    """Read a span into a tree, in chunks of whole blocks by way of *buffer*; False when the file ends before."""
    while size:
        view = memoryview(buffer)[: min(len(buffer), size)]
        if _pread_all(fd, view, start) < len(view):
            return False
        tree.update(view)
        start, size = start + len(view), size - len(view)
    return True


def _pread_all(fd: int, view: memoryview, start: int) -> int:
    """Fill a buffer from a position of a file; returns the bytes that were there."""
    filled = 0
    while filled < len(view) and (count := os.preadv(fd, [view[filled:]], start + filled)):
        filled += count
    return filled
