"""A service manager's end of the notify socket, and daemons started as it would start them."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleetcast.daemons.testing import NodeProcess

SECONDS = 60.0
"""For what has to happen some time: the machine may be busy."""
WATCHDOG_SECONDS = 0.9
"""What daemons are told that they have; they feed three times in it."""


class Silence(Exception):
    """What was waited for was not said."""


@dataclass
class Manager:
    """Hears what a daemon says: lines such as `READY=1`, each with the time at which it was read.

    Attributes:
        heard: all of them, in order.
    """

    address: Path
    heard: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.address))

    def listen(self, seconds: float = 0.0) -> None:
        """Take in what comes within so many seconds, and what is there already."""
        deadline = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return
            now = time.monotonic()
            self.heard += [(now, line) for line in data.decode().splitlines()]

    def until(self, wanted: str, *, since: int = 0, seconds: float = SECONDS) -> int:
        """Listen until a line begins so; its place in `heard`.

        Raises:
            Silence: it does not come.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for place, (_, line) in enumerate(self.heard[since:], since):
                if line.startswith(wanted):
                    return place
            self.listen(0.05)
        raise Silence(f"no {wanted} in {[line for _, line in self.heard[-20:]]}")

    def lines(self, since: int = 0) -> list[str]:
        """What was said from a place on."""
        return [line for _, line in self.heard[since:]]

    def statuses(self) -> list[str]:
        """What people were shown, in order."""
        return [line.removeprefix("STATUS=") for line in self.lines() if line.startswith("STATUS=")]

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class Service(NodeProcess):
    """A daemon as a unit starts it.

    Attributes:
        name: of the daemon.
        program: Python code that is run in place of `fleetcast run`; None: that.
    """

    program: str | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def config(self) -> Path:
        return self.folder / f"{self.name}.toml"

    def command(self) -> list[str]:
        """What is started."""
        how = ["-m", "fleetcast"] if self.program is None else ["-c", self.program]
        return [sys.executable, *how, "run", self.name, "--config", str(self.config)]

    def ended(self, seconds: float = SECONDS) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Silence(f"{self.name} goes on\n{self.tail()}") from None


def told_by(manager: Manager, **more: str) -> Mapping[str, str]:
    """The environment of a unit with a watchdog, whose manager is this one."""
    return {
        "NOTIFY_SOCKET": str(manager.address),
        "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000)),
        **more,
    }


def wait_for(holds: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until something holds.

    Raises:
        Silence: it does not in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Silence(what)
        time.sleep(0.02)
