"""Hosts of a test on one switch, whose cables can be pulled: what is sent to them then is lost, and nobody says so.

Every host is a network namespace; this process reaches them all, and keeps its own network. Everybody knows the
hardware address of everybody else beforehand: without an answer to ARP the kernel would tell who sends that a host is
away.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleetcast.daemons.testing import NodeProcess

PREFIX = "fcf"
NETWORK = "198.18"
"""For tests of networks (RFC 2544): nobody's own."""
SWITCH, HOST = "switch", "eth"
THIS, FIRST, NOBODY = 1, 11, 250
"""Last numbers of addresses: this process, the first host, and one that no host has."""
SECONDS = 20


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch and what is plugged in; make one with `switch`."""

    namespace: str
    network: str
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def here(self) -> str:
        """The address of this process."""
        return f"{self.network}.{THIS}"

    @property
    def nowhere(self) -> str:
        """An address to which packets go, and from which none comes."""
        return f"{self.network}.{NOBODY}"

    def address(self, name: str) -> str:
        return f"{self.network}.{self.ports[name]}"

    def command(self, name: str, words: Sequence[str]) -> list[str]:
        """*words* as a command on a host, which ends with this process."""
        inside = ["ip", "netns", "exec", f"{self.namespace}n{self.ports[name]}"]
        return ["setpriv", "--pdeathsig", "KILL", *inside, *words]

    @contextlib.contextmanager
    def pulled(self, *names: str) -> Iterator[None]:
        """Pull the cables of hosts: nothing reaches them or comes from them, and nobody is told."""
        ports = [f"p{self.ports[name]}" for name in names]
        _ip((f"link set {port} nomaster" for port in ports), self.namespace)
        try:
            yield
        finally:
            _ip((f"link set {port} master {SWITCH}" for port in ports), self.namespace)


@dataclass
class HostedNode(NodeProcess):
    """A distributor on a host."""

    switch: Switch | None = None

    def command(self) -> list[str]:
        words = super().command()
        return self.switch.command(self.name, words) if self.switch else words


@contextlib.contextmanager
def switch(names: Iterable[str]) -> Iterator[Switch]:
    """A switch with a host for each of *names*; skips the test where that cannot be."""
    missing = [tool for tool in ("ip", "setpriv") if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"network namespaces need root{''.join(f', and {tool}' for tool in missing)}")
    _sweep()
    tag = f"{PREFIX}{os.getpid()}"
    made = Switch(tag, f"{NETWORK}.{_free_third()}", dict(zip(names, itertools.count(FIRST), strict=False)))
    hosts = [f"{tag}n{port}" for port in made.ports.values()]
    try:
        try:
            _ip([f"netns add {tag}", *(f"netns add {host}" for host in hosts)])
            _plug_in(made)
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"this machine gives no network namespaces: {refused.stderr.strip()}")
        yield made
    finally:
        # The other cables go with their hosts; but that takes a moment, and the next test has the same names.
        subprocess.run(["ip", "link", "del", tag], check=False, timeout=SECONDS, capture_output=True)
        for namespace in (tag, *hosts):
            _delete(namespace)


def _plug_in(made: Switch) -> None:
    tag, everybody = made.namespace, [THIS, *made.ports.values()]
    _ip([f"link add {SWITCH} type bridge", f"link set {SWITCH} up"], tag)
    for port in made.ports.values():
        host = f"{tag}n{port}"
        _ip([f"link add p{port} type veth peer name {HOST} address {_hardware(port)} netns {host}"], tag)
        _ip(["link set lo up", *_addressed(made, HOST, port, everybody)], host)
    # The cable of this process has one end here: its name must be its own.
    _ip([f"link add {tag} address {_hardware(THIS)} type veth peer name p{THIS} netns {tag}"])
    _ip(_addressed(made, tag, THIS, everybody))
    plugs = ((f"link set p{port} master {SWITCH}", f"link set p{port} up") for port in everybody)
    _ip(itertools.chain.from_iterable(plugs), tag)


def _addressed(made: Switch, link: str, own: int, everybody: Sequence[int]) -> list[str]:
    others = [number for number in (*everybody, NOBODY) if number != own]
    known = (f"neigh add {made.network}.{n} lladdr {_hardware(n)} dev {link} nud permanent" for n in others)
    return [f"addr add {made.network}.{own}/24 dev {link}", f"link set {link} up", *known]


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _ip(lines: Iterable[str], namespace: str = "") -> None:
    words = ["ip", *(("-n", namespace) if namespace else ()), "-batch", "-"]
    subprocess.run(words, input="\n".join(lines), check=True, timeout=SECONDS, capture_output=True, text=True)


def _free_third() -> int:
    """A third number of addresses that this machine does not use yet: tests run beside each other."""
    shown = subprocess.run(["ip", "-j", "-4", "addr"], check=True, timeout=SECONDS, capture_output=True, text=True)
    taken = {a["local"].rsplit(".", 1)[0] for link in json.loads(shown.stdout) for a in link["addr_info"]}
    first = os.getpid() % 256
    return next(n % 256 for n in range(first, first + 256) if f"{NETWORK}.{n % 256}" not in taken)


def _sweep() -> None:
    """Remove what a test that was killed left behind."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        named = re.fullmatch(rf"{PREFIX}(\d+)(n\d+)?", path.name)
        if named and not Path("/proc", named[1]).exists():
            _delete(path.name)


def _delete(namespace: str) -> None:
    subprocess.run(["ip", "netns", "del", namespace], check=False, timeout=SECONDS, capture_output=True)
