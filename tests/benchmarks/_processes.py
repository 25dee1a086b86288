"""What a node's processes cost: processor time, and the most memory they held."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

MIB = 2**20
HASHED_MIB = 64


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its descendants, those that have ended included."""
    total = 0.0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def forget_peaks(pids: Iterable[int]) -> None:
    """Let the kernel count peaks of memory from now on (proc(5), clear_refs 5)."""
    for pid in pids:
        for process in _family(pid):
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """Sum of the peaks of the processes that run now: more than they held at any one moment, never less."""
    return sum(_peak_bytes(process.pid) for process in _family(pid)) / MIB


def _peak_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def sha256_seconds_per_gib() -> float:
    """Processor time of one SHA-256 pass here and now: machines differ fivefold, and verification is made of it."""
    data = os.urandom(MIB)
    began = time.thread_time()
    for _ in range(HASHED_MIB):
        hashlib.sha256(data).digest()
    return (time.thread_time() - began) * 1024 / HASHED_MIB


def _family(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
