"""The process itself, under the names that all exporters use.

Not by the library's own collector: it takes the time of boot from /proc/stat, which the units hide (`ProcSubset=pid`),
and a process would seem to have begun in 1970.
"""

import os
import resource
import time
from pathlib import Path
from typing import Final

from fleetcast.daemons.metrics.sheet import Sheet

SELF: Final = Path("/proc/self")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Places in /proc/PID/stat behind the name, which may hold anything (proc(5): fields 14, 15, 22, 23 and 24).
_USER, _SYSTEM, _STARTED, _VIRTUAL, _RESIDENT = 11, 12, 19, 20, 21


def read(sheet: Sheet, proc: Path = SELF) -> None:
    """Fill in all of it; reads files. Where there is no /proc, nothing is known."""
    try:
        fields = (proc / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        descriptors = sum(1 for _ in (proc / "fd").iterdir())
    except OSError:
        return
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[_STARTED]) / _TICKS
    sheet.put("process_start_time_seconds", time.time() - age)
    sheet.put("process_cpu_seconds_total", (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS)
    sheet.put("process_virtual_memory_bytes", int(fields[_VIRTUAL]))
    sheet.put("process_resident_memory_bytes", int(fields[_RESIDENT]) * _PAGE_BYTES)
    sheet.put("process_open_fds", descriptors)
    sheet.put("process_max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
