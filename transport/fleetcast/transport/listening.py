"""A port to listen on. Standard library only: the child imports this."""

import errno
import random
import socket

OFFERED = range(15_000, 32_000)
"""Where a free port is looked for. The kernel gives ports from 32768 on (ip_local_port_range) to everybody who wants
any, to every connection that goes out too: one of those may be somebody's before it is listened on."""
TRIES = 100


def free_port(bind: str, port: int) -> int:
    """Return a port that can be listened on now: *port*, or a free one for 0.

    libtorrent would take another free port on every interface, and would not say plainly that one is taken.

    Raises:
        OSError: it is taken, or not allowed, or *bind* is no address of this machine.
    """
    return _listened_on(bind, port) if port else _any_port(bind)


def _any_port(bind: str) -> int:
    for port in random.SystemRandom().sample(OFFERED, TRIES):
        try:
            return _listened_on(bind, port)
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
    return _listened_on(bind, 0)


def _listened_on(bind: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bind, port))
        # Two sockets may be bound to one port with SO_REUSEADDR; only listening tells.
        probe.listen(1)
        return int(probe.getsockname()[1])
