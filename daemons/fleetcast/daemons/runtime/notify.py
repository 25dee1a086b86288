"""Messages to the service manager: the datagrams of sd_notify(3), without its library.

The protocol is stable and documented: `NAME=value` lines to the datagram socket named in `$NOTIFY_SOCKET`; a leading
`@` stands for the NUL byte of an abstract address. Nothing here raises: a daemon that cannot reach its manager works
on.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Notifier:
    """The way to the service manager.

    `address` is the socket's address (a path, or NUL and a name), None where no manager asked to be told.
    `watchdog_seconds` is the time within which `watchdog()` must be called again, None where no watchdog is set.
    """

    address: str | None = None
    watchdog_seconds: float | None = None

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Self:
        """What `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID` say; quiet where they are absent."""
        return cls(address=_address(env.get("NOTIFY_SOCKET", "")), watchdog_seconds=_watchdog_seconds(env))

    @property
    def enabled(self) -> bool:
        """Whether anybody listens."""
        return self.address is not None

    def ready(self, status: str = "") -> bool:
        """Say that start-up is over: what this daemon promises, it does from now on."""
        return self._send(["READY=1", *_status_line(status)])

    def status(self, text: str) -> bool:
        """Show one line to people: `systemctl status` prints it."""
        return self._send(_status_line(text))

    def watchdog(self) -> bool:
        """Prove life. Call it only after progress was proven, never from a bare timer."""
        return self._send(["WATCHDOG=1"])

    def stopping(self, status: str = "") -> bool:
        """Say that the shutdown has begun."""
        return self._send(["STOPPING=1", *_status_line(status)])

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for that much more time, from now, to finish starting or stopping."""
        return self._send([f"EXTEND_TIMEOUT_USEC={int(seconds * MICROSECONDS)}"])

    def _send(self, lines: list[str]) -> bool:
        if self.address is None or not lines:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                # A full queue at the manager must not stop the event loop: the message is dropped, the next one
                # repeats it.
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode(), self.address)
        except OSError:
            return False
        return True


def _address(value: str) -> str | None:
    """The socket address, None where there is none or it is of a kind (vsock) that a daemon of ours never gets."""
    if value.startswith("@"):
        return "\0" + value[1:]
    return value if value.startswith("/") else None


def _watchdog_seconds(env: Mapping[str, str]) -> float | None:
    """The watchdog's time, where it is meant for this process: children inherit the variables, not the duty."""
    meant_for = env.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(os.getpid()):
        return None
    microseconds = env.get("WATCHDOG_USEC", "")
    return int(microseconds) / MICROSECONDS if microseconds.isdecimal() and int(microseconds) else None


def _status_line(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []
