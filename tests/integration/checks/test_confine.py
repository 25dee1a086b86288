"""The filter of system calls that keeps a format test off the network where no namespace may be made."""

import subprocess
import sys

import pytest

CODE = """
import ctypes, errno, os, socket, sys
from fleetcast.transport.checks import confine
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[1] == "filtered":
    libc.prctl(confine.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    assert confine.deny_sockets(libc)
def told(make):
    try:
        make()
    except OSError as refused:
        return errno.errorcode[refused.errno]
    return "made"
pid = os.fork()
if not pid:
    # A child has it as well.
    print(*(told(lambda: socket.socket(kind)) for kind in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)))
    print(open("/proc/self/comm").read().strip())
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize(("how", "expected"), [("filtered", "EPERM EPERM EPERM"), ("not", "made made made")])
def test_filter_refuses_every_socket_and_nothing_else(how: str, expected: str) -> None:
    ran = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, timeout=60)

    assert ran.stdout.splitlines()[0] == expected, ran.stderr
    assert ran.stdout.splitlines()[1].startswith("python")
