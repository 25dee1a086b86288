"""aria2's control file, in which it keeps what it has of a file (its manual, "Control File", version 1). Pure."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VERSION = 1
_HEAD = struct.Struct(">H4sI")
_BODY = struct.Struct(">IQQI")
_COUNT = struct.Struct(">I")
_IN_FLIGHT = struct.Struct(">III")


class ControlFileDamaged(ValueError):
    """The bytes are no control file of version 1."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A piece that has begun: its position, its length in bytes, and which of its blocks of 16 KiB are there."""

    index: int
    length: int
    blocks: bytes


@dataclass(frozen=True, slots=True)
class ControlFile:
    """What a control file says about one file.

    Attributes:
        piece_length: bytes of every piece but the last.
        size: bytes of the file.
        bitfield: a bit per piece that is there, the first piece in the highest bit of the first byte.
        in_flight: pieces that have begun.
    """

    piece_length: int
    size: int
    bitfield: bytes
    in_flight: tuple[InFlight, ...] = ()


def encode(control: ControlFile) -> bytes:
    """Return the bytes of the file; without an info-hash, for it belongs to no torrent."""
    head = _HEAD.pack(VERSION, bytes(4), 0)
    body = _BODY.pack(control.piece_length, control.size, 0, len(control.bitfield)) + control.bitfield
    flying = b"".join(_IN_FLIGHT.pack(p.index, p.length, len(p.blocks)) + p.blocks for p in control.in_flight)
    return head + body + _COUNT.pack(len(control.in_flight)) + flying


def decode(data: bytes) -> ControlFile:
    """Read a control file.

    Raises:
        ControlFileDamaged: it is cut off, goes on behind its end, or is of another version.
    """
    reader = _Reader(data)
    version, _, hash_length = reader.unpack(_HEAD)
    if version != VERSION:
        raise ControlFileDamaged(f"version {version}, not {VERSION}")
    reader.take(hash_length)
    piece_length, size, _, length = reader.unpack(_BODY)
    bitfield = reader.take(length)
    (count,) = reader.unpack(_COUNT)
    flying = tuple(_in_flight(reader) for _ in range(count))
    if reader.left:
        raise ControlFileDamaged(f"{reader.left} bytes follow its end")
    return ControlFile(piece_length, size, bitfield, flying)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ControlFileDamaged("it is cut off")
        self._at += count
        return self._data[self._at - count : self._at]

    def unpack(self, what: struct.Struct) -> tuple[int, ...]:
        return what.unpack(self.take(what.size))


def _in_flight(reader: _Reader) -> InFlight:
    index, length, blocks = reader.unpack(_IN_FLIGHT)
    return InFlight(index, length, reader.take(blocks))


def bitfield_of(pieces: Iterable[int], count: int) -> bytes:
    """Return the bitfield of *count* pieces in which *pieces* are set.

    Raises:
        IndexError: a piece lies behind the last one.
    """
    field = bytearray(-(-count // 8))
    for piece in pieces:
        if not 0 <= piece < count:
            raise IndexError(f"piece {piece} of {count}")
        field[piece // 8] |= 0x80 >> piece % 8
    return bytes(field)


def pieces_of(bitfield: bytes, count: int) -> Iterator[int]:
    """Yield the pieces that are set; bits behind the last piece say nothing."""
    for piece in range(min(count, 8 * len(bitfield))):
        if bitfield[piece // 8] & 0x80 >> piece % 8:
            yield piece
