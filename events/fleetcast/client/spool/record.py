"""One record of the spool: `<length> <crc32, 8 hex digits> <CloudEvent JSON>\\n`; the length is that of the JSON in
bytes."""

from binascii import crc32

MAX_RECORD_BYTES = 1_000_000
"""Largest record: the largest event that the bus takes."""
MAX_LINE_BYTES = MAX_RECORD_BYTES + 32

TYPE_CHECKING = False  # as in typing, whose import a training job need not pay
if TYPE_CHECKING:
    import re


def encode_line(record: bytes) -> bytes:
    """*record* as one line. JSON never holds a raw newline, so that a reader finds the next line after any damage.

    Raises:
        ValueError: it is empty, too large, or holds a newline.
    """
    if not record or len(record) > MAX_RECORD_BYTES:
        raise ValueError(f"a record has 1 to {MAX_RECORD_BYTES} bytes, not {len(record)}")
    if b"\n" in record:
        raise ValueError("a record holds no newline")
    return b"%d %08x %b\n" % (len(record), crc32(record), record)


def decode_line(line: bytes) -> bytes | None:
    """The record of a whole *line*, or None when it is damaged."""
    return _decoded_at(line, 0) if line.endswith(b"\n") else None


def salvage(line: bytes) -> tuple[int, bytes] | None:
    """Start and record of what is whole at the end of a damaged *line*: a record written after a torn one."""
    for head in _heads()[1].finditer(line):
        record = _decoded_at(line, head.start())
        if record is not None:
            return head.start(), record
    return None


def _decoded_at(line: bytes, start: int) -> bytes | None:
    head = _heads()[0].match(line, start)
    if head is None or head.end() + int(head[1]) != len(line) - 1:
        return None
    record = line[head.end() : -1]
    return record if crc32(record) == int(head[2], 16) else None


_compiled: "list[tuple[re.Pattern[bytes], re.Pattern[bytes]]]" = []


def _heads() -> "tuple[re.Pattern[bytes], re.Pattern[bytes]]":
    """A head, and a place where one begins."""
    if not _compiled:
        import re  # 10 ms that whoever only writes does not pay

        # Looks ahead without consuming: a torn head may run into the digits of the whole one behind it.
        anywhere = re.compile(rb"(?=[1-9]\d{0,6} [0-9a-f]{8} )")
        _compiled.append((re.compile(rb"([1-9]\d{0,6}) ([0-9a-f]{8}) "), anywhere))
    return _compiled[0]
