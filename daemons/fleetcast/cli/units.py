"""Numbers as people say them, and durations as people type them."""

import re

from fleetcast.cli.problems import usage
from fleetcast.registry.picture.amounts import ago, clock, counted, duration, moment, percent, rate, size

__all__ = ["ago", "clock", "counted", "duration", "moment", "parse_duration", "percent", "rate", "size"]

_STEPS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_duration(text: str, *, option: str = "duration") -> float:
    """Seconds of `90`, `90s`, `1h30m`, `7d`.

    Raises:
        Problem: *text* is no duration; names *option*.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not text or _DURATION.sub("", text):
        raise usage(f"{option}: {text!r} is not a duration", why="durations look like 30s, 10m, 1h30m or 7d")
    return sum(float(number) * _STEPS[unit] for number, unit in _DURATION.findall(text))
