"""What the child gives up before it looks at the file: memory, time, files, network, privileges."""

import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
OPEN_FILES = 256
"""Importing torch opens about forty libraries, one after the other."""
UNSAFE_VARIABLES = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "PYTHONPATH", "PYTHONSTARTUP")


def confine(memory_bytes: int, cpu_seconds: int) -> dict[str, object]:
    """Give up what a format test does not need; returns what could not be given up.

    The network is cut off by an empty network namespace; a node that allows neither that nor user namespaces says so in
    the facts, and the test goes on: the file is data to it either way.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    isolated = libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
    for name in UNSAFE_VARIABLES:
        os.environ.pop(name, None)
    _limit(memory_bytes, cpu_seconds)
    return {} if isolated else {"network": "not cut off"}


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
