"""Which bytes of a file an HTTP request wants (RFC 9110, 14). Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file: `start` up to, and without, `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Unsatisfiable(Exception):
    """A range that begins behind the end of the file."""


def wanted_span(header: str | None, size: int) -> Span | None:
    """Return the one range that a Range header asks for; None where the whole file is the answer (RFC 9110, 14.2).

    A header that is malformed, of another unit, or of several ranges is ignored, as the RFC allows.

    Raises:
        Unsatisfiable: it begins behind the end, or asks for the last 0 bytes.
    """
    unit, _, ranges = (header or "").partition("=")
    first, dash, last = ranges.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not _digits(first) or not _digits(last) or not first + last:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise Unsatisfiable
    return Span(start, stop)


def _digits(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and len(text) <= 18)
