"""What rsync and ssh run in place of connecting to a source: hands the ends of the line over to the daemon, and ends.

rsync talks to its remote shell through the sockets at 0 and 1, and the daemon is sent both. ssh waits at 1 for a socket
(ProxyUseFdpass, ssh_config(5)): it is sent one end of a new pair, and the daemon the other. So nothing copies the bytes
on the way, and nothing listens where another user could connect.
"""

import os
import socket
import sys


def main(folder: str, door: str, program: str) -> int:
    """Send the daemon, which waits at the socket *door*, what to read from and what to write to."""
    # The whole path may be longer than the name of a socket may be.
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.connect(door)
        if program == "rsync":
            socket.send_fds(daemon, [b"\0"], [0, 1])
            return 0
        ours, theirs = socket.socketpair()
        socket.send_fds(daemon, [b"\0"], [ours.fileno(), ours.fileno()])
        socket.send_fds(socket.socket(fileno=1), [b"\0"], [theirs.fileno()])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:4]))
    except OSError as e:
        sys.exit(f"the daemon does not take the connection: {e.strerror}")
