"""Proof of pieces: what a transport claims to have finished is read back from the disk and hashed."""

import bisect
import math
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from fleetcast.events.content import Content, ContentFile
from fleetcast.transport.hashing import BLOCK, CHUNK, NODE, PieceTree
from fleetcast.transport.metainfo import Metainfo, piece_count
from fleetcast.transport.store.folder import Folder


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
        """Read a piece back and compare it with its node of the layer (BEP 52); what is not there does not match.

        Raises:
            IndexError: the content has no such piece.
        """
        file = self._content.files[file_index]
        if not 0 <= piece_index < len(self._proven[file_index]):
            raise IndexError(f"{file.path} has no piece {piece_index}")
        expected = self._metainfo.layers[file.path][piece_index * NODE : (piece_index + 1) * NODE]
        right = self._digest(file, piece_index) == expected
        self._note(file_index, piece_index, file, right=right)
        return right

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

    def _digest(self, file: ContentFile, piece_index: int) -> bytes | None:
        """The node over what is on the disk; None when less is there."""
        tree = PieceTree(self._metainfo.piece_length)
        try:
            fd = self._open(file)
        except OSError:
            return None
        try:
            if not _feed(fd, *self._span(file, piece_index), tree):
                return None
        except OSError:
            return None
        finally:
            os.close(fd)
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


def _feed(fd: int, start: int, size: int, tree: PieceTree) -> bool:
    """Read a span into a tree, in chunks of whole blocks; False when the file ends before."""
    buffer = bytearray(min(CHUNK, -(-size // BLOCK) * BLOCK))
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
