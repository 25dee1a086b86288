"""Becomes aria2c, tied to the life of the daemon: `launch.py DAEMON-PID PROGRAM ARGUMENT…`. Standard library only.

The kernel kills the process when the daemon ends, by whatever cause, and keeps that promise through exec (prctl(2),
PR_SET_PDEATHSIG).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replace this process by the program."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(arguments[0]):
        raise SystemExit(0)
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - a path that the daemon looked up, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
