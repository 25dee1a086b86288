"""Three machines on one switch whose cables can be pulled, each with a cable of its own to this process.

What the servers say to each other goes over the switch; clients are beside it, so that a server that is cut off from
the others still takes connections. Every machine is a network namespace. This process is in a network of its own
(`inside`): nothing here meets anything else of the machine, and nothing outlives the process.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SECONDS = 20
SWITCH = "switch"
PEERS, CLIENTS = "198.18.0", "198.18.{machine}"
"""For tests of networks (RFC 2544): nobody's own."""


@dataclass(frozen=True, slots=True)
class Cable:
    """A machine's place in the network; `number` is 1 for the first."""

    number: int

    @property
    def namespace(self) -> str:
        return f"fcc{os.getpid()}n{self.number}"

    @property
    def among_servers(self) -> str:
        """Its address on the switch."""
        return f"{PEERS}.{self.number}"

    @property
    def for_clients(self) -> str:
        """Its address on the cable to this process."""
        return f"{CLIENTS.format(machine=self.number)}.2"

    def command(self, words: list[str]) -> list[str]:
        """*words* as a command on the machine, which ends with the thread that starts it."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{self.namespace}", *words]

    def pull(self) -> None:
        """Take the cable to the other servers out."""
        _ip([f"link set port{self.number} down"])

    def plug(self) -> None:
        """Put it back."""
        _ip([f"link set port{self.number} up"])


@contextlib.contextmanager
def wired(machines: int) -> Iterator[tuple[Cable, ...]]:
    """So many machines on a switch.

    Raises:
        subprocess.CalledProcessError: this machine gives no network namespaces.
    """
    cables = tuple(Cable(number) for number in range(1, machines + 1))
    try:
        _ip([f"link add {SWITCH} type bridge", f"link set {SWITCH} up", *(f"netns add {c.namespace}" for c in cables)])
        for cable in cables:
            _connect(cable)
        yield cables
    finally:
        for cable in cables:
            subprocess.run(["ip", "netns", "del", cable.namespace], check=False, timeout=SECONDS, capture_output=True)
        subprocess.run(["ip", "link", "del", SWITCH], check=False, timeout=SECONDS, capture_output=True)


def _connect(cable: Cable) -> None:
    number, inside = cable.number, cable.namespace
    here = f"{CLIENTS.format(machine=number)}.1"
    _ip(
        [
            f"link add port{number} type veth peer name peers netns {inside}",
            f"link set port{number} master {SWITCH} up",
            f"link add client{number} type veth peer name clients netns {inside}",
            f"addr add {here}/24 dev client{number}",
            f"link set client{number} up",
        ]
    )
    _ip(
        [
            "link set lo up",
            f"addr add {cable.among_servers}/24 dev peers",
            "link set peers up",
            f"addr add {cable.for_clients}/24 dev clients",
            "link set clients up",
        ],
        inside,
    )


def _ip(lines: Iterable[str], namespace: str = "") -> None:
    words = ["ip", *(("-n", namespace) if namespace else ()), "-batch", "-"]
    subprocess.run(words, input="\n".join(lines), check=True, timeout=SECONDS, capture_output=True, text=True)
