"""Low priority for what may take its time: processor (nice) and disk (ioprio). Standard library only, for children.

Linux keeps both per thread, and a new thread or process inherits them from the thread that makes it; so a child lowers
itself before it starts threads, and a pool lowers each of its threads (nice(2), ioprio_set(2)).
"""

import contextlib
import ctypes
import os
import threading

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
"""Number of the system call, which the C library does not wrap."""
_WHO_PROCESS = 1
_CLASS_SHIFT = 13
BEST_EFFORT_LAST = (2 << _CLASS_SHIFT) | 7
"""Behind every other program that reads or writes, and never starved: for what somebody waits for."""
IDLE = 3 << _CLASS_SHIFT
"""Only when nobody else uses the disk: for what nobody waits for."""


def lower(nice: int, *, thread: int = 0, io: int = BEST_EFFORT_LAST) -> None:
    """Give a thread low priority; 0 is the calling one, and the process id of a child its main thread.

    Never raises: a system that forbids it, or has no such call, is no reason not to transfer.

    Args:
        nice: niceness from 0 to 19; 0 leaves everything as it is, the disk included.
        io: class and level for the disk; counts where its scheduler knows priorities (bfq, not none or mq-deadline).
    """
    if nice <= 0:
        return
    who = thread or threading.get_native_id()
    with contextlib.suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, who) < nice:
            os.setpriority(os.PRIO_PROCESS, who, nice)
    if (number := _IOPRIO_SET.get(os.uname().machine)) is not None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, who, io)
