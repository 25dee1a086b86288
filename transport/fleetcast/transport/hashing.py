"""Digests of files: flat SHA-256 and the Merkle tree of BitTorrent v2 (BEP 52), in one read.

The tree: leaves are the SHA-256 of blocks of 16 KiB, the last one unpadded; the leaves are filled up with 32 zero
bytes to a power of two. The *layer* of a file are the nodes that cover one piece each; the nodes beside the last one
are roots of subtrees whose leaves are all zero. A file of at most one piece has no layer in a torrent; here its layer
is its root, so that a layer always has `ceil(size / piece_length)` nodes.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Protocol

BLOCK = 16 * 1024
"""Bytes under one leaf (BEP 52)."""
NODE = 32
"""Bytes of one node."""
CHUNK = 4 * 2**20
"""Bytes read at once: large enough that handing a chunk to a second thread costs nothing beside hashing it."""

Sink = Callable[[memoryview], object]


class Readable(Protocol):
    """What can be hashed: a raw or buffered binary file."""

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None: ...


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What one read of a file says.

    Attributes:
        size: bytes.
        sha256: flat digest, hexadecimal.
        pieces_root: root of the Merkle tree, hexadecimal.
        layer: the nodes of the pieces, 32 bytes each.
    """

    size: int
    sha256: str
    pieces_root: str
    layer: bytes


def hash_stream(file: Readable, piece_length: int, sink: Sink | None = None) -> FileDigest:
    """Hash *file* from where it stands to its end, and hand every chunk to *sink* (a copy, for example).

    Flat digest and tree are computed by two threads over the same chunk; hashlib lets go of the interpreter lock.

    Args:
        piece_length: bytes of a piece; a power of two, at least 16 KiB.

    Raises:
        OSError: the file cannot be read, or the sink not be written.
    """
    flat, tree = hashlib.sha256(), PieceTree(piece_length)
    buffer = memoryview(bytearray(CHUNK))
    with ThreadPoolExecutor(1, "sha256") as second:
        while count := _fill(file, buffer):
            chunk = buffer[:count]
            update = second.submit(flat.update, chunk)
            try:
                tree.update(chunk)
                if sink is not None:
                    sink(chunk)
            finally:
                update.result()
    return FileDigest(tree.size, flat.hexdigest(), tree.root().hex(), tree.layer())


def sha256_stream(file: Readable) -> str:
    """Return the flat SHA-256 of *file* from where it stands, hexadecimal."""
    flat, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    while count := _fill(file, buffer):
        flat.update(buffer[:count])
    return flat.hexdigest()


def _fill(file: Readable, buffer: memoryview) -> int:
    """Fill *buffer* as far as the file goes: raw files may return less than they could."""
    filled = 0
    while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
        filled += count
    return filled


class PieceTree:
    """The Merkle tree of a file that arrives in chunks; keeps one node per piece, and the leaves of one piece."""

    def __init__(self, piece_length: int) -> None:
        self._width = blocks_per_piece(piece_length)
        self._leaves: list[bytes] = []
        self._nodes: list[bytes] = []
        self.size = 0

    def update(self, chunk: bytes | memoryview) -> None:
        """Add the next bytes. All chunks but the last one are whole blocks of 16 KiB."""
        if self.size % BLOCK:
            raise ValueError("a chunk follows one that did not end with a block")
        self.size += len(chunk)
        for leaf in leaves_of(chunk):
            self._leaves.append(leaf)
            if len(self._leaves) == self._width:
                self._nodes.append(_root(self._leaves, self._width))
                self._leaves.clear()

    def layer(self) -> bytes:
        """The nodes of the pieces so far; of a file of at most one piece, its root."""
        if not self._nodes:
            return self.root()
        tail = [_root(self._leaves, self._width)] if self._leaves else []
        return b"".join(self._nodes + tail)

    def layer_node(self) -> bytes:
        """The node over everything so far as one piece of full width: at most one piece was added."""
        return self._nodes[0] if self._nodes else _root(self._leaves, self._width)

    def root(self) -> bytes:
        """The root over everything so far."""
        if not self._nodes:
            return _root(self._leaves, _power_of_two(len(self._leaves)))
        return layer_root(self.layer(), self._width * BLOCK)


def leaves_of(data: bytes | memoryview) -> list[bytes]:
    """The leaves over *data*, which starts at a block."""
    view, sha256 = memoryview(data), hashlib.sha256
    return [sha256(view[at : at + BLOCK]).digest() for at in range(0, len(view), BLOCK)]


def piece_digest(data: bytes | memoryview, piece_length: int) -> bytes:
    """The node of one piece of a file of several pieces; a short *data* is the last piece."""
    return _root(leaves_of(data), blocks_per_piece(piece_length))


def file_root(data: bytes | memoryview) -> bytes:
    """The root over a whole file that is in memory."""
    leaves = leaves_of(data)
    return _root(leaves, _power_of_two(len(leaves)))


def layer_root(layer: bytes, piece_length: int) -> bytes:
    """The root over the layer of a file of several pieces.

    Raises:
        ValueError: *layer* is empty, or no sequence of nodes.
    """
    if not layer or len(layer) % NODE:
        raise ValueError(f"a layer is one or more nodes of {NODE} bytes, not {len(layer)} bytes")
    nodes = [layer[at : at + NODE] for at in range(0, len(layer), NODE)]
    return _root(nodes, _power_of_two(len(nodes)), zero_root(blocks_per_piece(piece_length)))


def blocks_per_piece(piece_length: int) -> int:
    """Leaves under one node of a layer.

    Raises:
        ValueError: *piece_length* is no power of two of at least 16 KiB (BEP 52).
    """
    if piece_length < BLOCK or piece_length & (piece_length - 1):
        raise ValueError(f"a piece length is a power of two of at least {BLOCK}, not {piece_length}")
    return piece_length // BLOCK


@cache
def zero_root(width: int) -> bytes:
    """Root of a subtree of *width* leaves that are all zero: what stands beside the end of a file."""
    return bytes(NODE) if width == 1 else hashlib.sha256(zero_root(width // 2) * 2).digest()


def _root(nodes: list[bytes], width: int, padding: bytes | None = None) -> bytes:
    """Root over *nodes*, filled up to *width*; *padding* is the zero node of their level."""
    if not nodes:
        return zero_root(width)
    zero = bytes(NODE) if padding is None else padding
    level, sha256 = list(nodes), hashlib.sha256
    while width > 1:
        # Only one node of padding per level is ever needed: the rest of the subtree is the next level's padding.
        if len(level) % 2:
            level.append(zero)
        level = [sha256(level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
        zero = sha256(zero + zero).digest()
        width //= 2
    return level[0]


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()
