"""What the kernel said of GPUs and memory: `/dev/kmsg`, which only root and CAP_SYSLOG may read."""

import os
import re
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

KMSG: Final = Path("/dev/kmsg")
RECORD_BYTES: Final = 8192
"""One read gives one record, of at most so many bytes (Linux, Documentation/ABI/testing/dev-kmsg)."""
MOST_RECORDS: Final = 20_000
MOST_LINES: Final = 200
_TELLING: Final = re.compile(r"NVRM|amdgpu|kfd|oom-kill|Out of memory|Memory cgroup out of memory")


def read(seconds: float, *, path: Path = KMSG) -> tuple[str, ...]:
    """Lines of the last so many *seconds* about GPUs and memory, oldest first; empty where they may not be read.
    Blocks for some milliseconds."""
    since = time.clock_gettime(time.CLOCK_MONOTONIC) - seconds
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return telling(_records(handle), since)
        finally:
            os.close(handle)
    return ()


def telling(records: list[str], since: float) -> tuple[str, ...]:
    """Lines of *records* about GPUs and memory from the moment *since*, in seconds since boot."""
    found = []
    for record in records:
        # `6,1234,567890123,-;text`: priority, number, microseconds since boot, flags.
        head, _, text = record.partition(";")
        fields = head.split(",")
        with suppress(ValueError, IndexError):
            if int(fields[2]) / 1e6 >= since and _TELLING.search(text):
                found.append(text.partition("\n")[0])
    return tuple(found[-MOST_LINES:])


def _records(handle: int) -> list[str]:
    found: list[str] = []
    for _ in range(MOST_RECORDS):
        try:
            data = os.read(handle, RECORD_BYTES)
        except BlockingIOError:
            break
        except BrokenPipeError:
            continue  # records were overwritten before they could be read; what follows is there
        if not data:
            break
        found += [each for each in data.decode(errors="replace").split("\n") if each and not each.startswith(" ")]
    return found


def of_gpus(lines: Sequence[str], addresses: Collection[str]) -> tuple[str, ...]:
    """Of *lines* those that may be about the GPUs at these PCI *addresses*, or name none: the fault of one GPU says
    nothing about a run on another one. No addresses: all of them."""
    wanted = {_short(each) for each in addresses}
    if not wanted:
        return tuple(lines)
    named = ((line, {_short(each) for each in _ADDRESS.findall(line)}) for line in lines)
    return tuple(line for line, there in named if not there or there & wanted)


_ADDRESS: Final = re.compile(r"\b(?:PCI:)?((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\b")


def _short(address: str) -> str:
    """`65:00` of `00000000:65:00.0`: drivers write as much of the rest as they like."""
    return ":".join(address.lower().partition(".")[0].split(":")[-2:])
