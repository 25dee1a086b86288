"""Reading the logs of a run while they grow and are cut: by offsets, from the files of its folder."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fleetcast.daemons.trainer.supervision.output import TAIL_BYTES, end_of_parts, parts_of

_TRIES = 20
_FAR = 1 << 62
"""An offset that no log reaches."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a log.

    Attributes:
        start: offset of the first byte; later than was asked for where the bytes before it are not kept any more.
        end: offset of the end of the log as it is now.
    """

    start: int
    data: bytes
    end: int

    @property
    def next(self) -> int:
        """Where to go on."""
        return self.start + len(self.data)


def read_piece(path: Path, start: int, most_bytes: int) -> Piece:
    """At most *most_bytes* of the log at *path* from *start* on; nothing where there is no log yet. What lies between
    two parts that are kept is passed over: `start` of the answer says so.

    Raises:
        OSError: the log cannot be read.
    """
    for _ in range(_TRIES):
        before = parts_of(path)
        with suppress(FileNotFoundError):
            piece = _read(path, before, start, most_bytes)
            # The names have not moved meanwhile, so that offsets and bytes belong together.
            if parts_of(path) == before:
                return piece
    return Piece(start, b"", start)


def read_end(path: Path, at_least: int = 0, most_bytes: int = TAIL_BYTES) -> Piece:
    """The end of a log without a gap in it, and nothing before the offset *at_least*.

    Raises:
        OSError: the log cannot be read.
    """
    end = read_piece(path, _FAR, 0).end
    start, data = max(end - most_bytes, at_least), b""
    while start + len(data) < end:
        piece = read_piece(path, start + len(data), end - start - len(data))
        if not piece.data:
            break
        if piece.start != start + len(data):
            start, data = piece.start, b""
        data += piece.data
    return Piece(start, data, max(end, start + len(data)))


def read_last_lines(path: Path, lines: int, most_bytes: int) -> Piece:
    """The last *lines* lines of a log, so far as *most_bytes* hold them; errors as `read_end`."""
    found = read_end(path, most_bytes=most_bytes)
    at = len(found.data) - found.data.endswith(b"\n")
    for _ in range(lines):
        at = found.data.rfind(b"\n", 0, max(at, 0))
        if at < 0:
            break
    begin = at + 1 if lines else len(found.data)
    return Piece(found.start + begin, found.data[begin:], found.end)


def _read(path: Path, parts: list[tuple[int, Path]], start: int, most_bytes: int) -> Piece:
    base = end_of_parts(path)
    size = path.stat().st_size if path.exists() else 0
    end = base + size
    for first, part in [*parts, (base, path)]:
        last = first + (size if part == path else part.stat().st_size)
        if start < last:
            begin = max(start, first)
            with part.open("rb") as file:
                file.seek(begin - first)
                return Piece(begin, file.read(min(most_bytes, last - begin)), end)
    return Piece(min(start, end), b"", end)
