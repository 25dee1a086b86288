"""What the child gives up before it looks at the file: memory, time, files, network, privileges."""

import ctypes
import errno
import os
import resource
import signal
import struct

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
CALLS = {"x86_64": (0xC000003E, (41, 425)), "aarch64": (0xC00000B7, (198, 425))}
"""By machine: its number for seccomp, and those of socket(2) and io_uring_setup(2)."""
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
OPEN_FILES = 256
"""Importing torch opens about forty libraries, one after the other."""
UNSAFE_VARIABLES = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "PYTHONPATH", "PYTHONSTARTUP")


def confine(memory_bytes: int, cpu_seconds: int) -> dict[str, object]:
    """Give up what a format test does not need; returns what could not be given up.

    The network is cut off by an empty network namespace, and, where none may be made, in a hardened unit or on a node
    without user namespaces, by a filter of system calls. A node that allows neither says so in the facts, and the test
    goes on: the file is data to it either way.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    isolated = libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
    isolated = deny_sockets(libc) or isolated
    for name in UNSAFE_VARIABLES:
        os.environ.pop(name, None)
    _limit(memory_bytes, cpu_seconds)
    return {} if isolated else {"network": "not cut off"}


def deny_sockets(libc: ctypes.CDLL) -> bool:
    """Let every call fail from now on that makes a socket, or a ring that could make one (seccomp(2)); whether this
    could be done. For good, for every thread to come and through exec; the privileges to gain any must be given up."""
    known = CALLS.get(os.uname().machine)
    if known is None:
        return False
    architecture, forbidden = known
    deny = len(forbidden) + 5
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 0, deny - 2, architecture),
        (_LOAD, 0, 0, 0),
        # The second ABI of x86-64 has numbers of its own for the same calls.
        (_AT_LEAST, deny - 4, 0, 0x40000000),
        *((_EQUAL, deny - 5 - place, 0, number) for place, number in enumerate(forbidden)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0) == 0)


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
