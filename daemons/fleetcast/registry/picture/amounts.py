"""Numbers as people say them: durations, ages, sizes and rates. Pure."""

from datetime import UTC, datetime

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def duration(seconds: float) -> str:
    """*seconds* with two parts at most: `0.4 ms`, `0.42 s`, `12 s`, `3 m 10 s`, `2 h 5 m`, `3 d 4 h`."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for big, small, size in (("d", "h", 86400), ("h", "m", 3600), ("m", "s", 60)):
        if whole >= size:
            rest = (whole % size) // {"h": 3600, "m": 60, "s": 1}[small]
            return f"{whole // size} {big} {rest} {small}"
    return f"{whole} s"


def ago(seconds: float) -> str:
    """How long ago something was, as exactly as one cares: `now`, `4 s ago`, `2 h 5 m ago`."""
    whole = round(seconds)
    if whole < 1:
        return "now"
    return f"{whole} s ago" if whole < 60 else f"{duration(whole)} ago"


def size(count: float) -> str:
    """*count* bytes: `512 B`, `64.0 MiB`."""
    for unit in _SIZES:
        if count < 1024 or unit == _SIZES[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes everything")


def counted(number: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def rate(bytes_per_second: float) -> str:
    """Bytes per second: `0 B/s`, `31.9 MiB/s`."""
    return f"{size(bytes_per_second)}/s"


def percent(done: int, total: int) -> int:
    """Whole percent, 100 only when everything is done."""
    if total <= 0 or done >= total:
        return 100
    return min(99, done * 100 // total)


def moment(text: str) -> datetime:
    """An RFC 3339 time as events and states carry it."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def clock(at: datetime, now: datetime | None = None) -> str:
    """Local wall clock with milliseconds, and the date when it is not today's."""
    local = at.astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    day = "" if local.date() == today else f"{local:%Y-%m-%d} "
    return f"{day}{local:%H:%M:%S}.{local.microsecond // 1000:03d}"
