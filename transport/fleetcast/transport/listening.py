"""A port to listen on. Standard library only: the child imports this."""

import socket


def free_port(bind: str, port: int) -> int:
    """Return a port that can be listened on now: *port*, or a free one for 0.

    libtorrent would take another free port on every interface, and would not say plainly that one is taken.

    Raises:
        OSError: it is taken, or not allowed, or *bind* is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bind, port))
        # Two sockets may be bound to one port with SO_REUSEADDR; only listening tells.
        probe.listen(1)
        return int(probe.getsockname()[1])
