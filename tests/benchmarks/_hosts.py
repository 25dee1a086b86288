"""Test hosts: network namespaces on wires of limited rate, made and removed by this process."""

import contextlib
import ctypes
import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = Path("/run/netns")
PREFIX = "fcb"
CLONE_NEWNET = 0x40000000
BURST_BYTES = 128 * 1024
"""Bucket of a limited wire: two of the largest packets that the kernel hands down, so that the rate holds from the
first moment."""
QUEUE = "50ms"
HEADER_BYTES = 66
"""Of a TCP packet with time stamps on Ethernet: 14, 20 and 32."""


class NoHosts(Exception):
    """This machine cannot make network namespaces."""


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace and its address."""

    namespace: str
    address: str

    def command(self, *words: str) -> list[str]:
        """*words* as a command inside the namespace."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def bound_command(self, *words: str) -> list[str]:
        """As `command`, for what must not outlive this process, however that ends."""
        return ["setpriv", "--pdeathsig", "KILL", *self.command(*words)]


@dataclass(frozen=True, slots=True)
class Flow:
    """What a wire let pass in one direction: bytes, headers of every packet included, and packets."""

    bytes: int
    packets: int

    @property
    def stream_bytes(self) -> int:
        """Bytes of the TCP streams alone."""
        return self.bytes - self.packets * HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Counters:
    """What a host has sent and received on its data wire so far."""

    sent: Flow
    received: Flow

    def sent_since(self, before: "Counters") -> int:
        """Bytes that it put on the wire since then, headers included."""
        return self.sent.bytes - before.sent.bytes


@dataclass(frozen=True, slots=True)
class FleetHost(Host):
    """A host of a fleet: its data network is limited in both directions, its control network is not.

    Attributes:
        control: its address on the control network.
        port: the far end of its data wire, in the network of this process.
    """

    control: str
    port: str

    def counters(self) -> Counters:
        """As the token buckets at both ends of its data wire counted."""
        return Counters(sent=_bucket("-n", self.namespace, DATA), received=_bucket(self.port))


class LoopbackHost(FleetHost):
    """One of several that share an address: the loopback of this process's network."""

    def command(self, *words: str) -> list[str]:
        """*words*: everything is in the same namespace."""
        return list(words)

    def counters(self) -> Counters:
        """As the loopback interface counted, for all that share it."""
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        shown = next(line for line in lines if line.strip().startswith("lo:"))
        received, packets, *_ = map(int, shown.partition(":")[2].split())
        flow = Flow(received, packets)
        return Counters(sent=flow, received=flow)


@dataclass(frozen=True, slots=True)
class FleetHosts:
    """The origin and the receivers, and the address by which they reach this process."""

    origin: FleetHost
    receivers: tuple[FleetHost, ...]
    control: str

    @property
    def all(self) -> tuple[FleetHost, ...]:
        return (self.origin, *self.receivers)


DATA = "data"
CONTROL = "control"
CONTROL_NETWORK = "10.232.77"
LAN_NETWORK = "10.231.77"
OVERLAY_NETWORK = "100.64.77"
LOOPBACK = "127.0.0.1"


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, timeout=20, capture_output=True, text=True).stdout


def _bucket(*where: str) -> Flow:
    *options, link = where
    shown = json.loads(_run("tc", *options, "-s", "-j", "qdisc", "show", "dev", link))
    bucket = next(q for q in shown if q["kind"] == "tbf")
    return Flow(int(bucket["bytes"]), int(bucket["packets"]))


def _need_root() -> None:
    missing = [tool for tool in ("ip", "tc", "setpriv") if not shutil.which(tool)]
    if os.geteuid() != 0:
        raise NoHosts("network namespaces need root: run it with sudo")
    if missing:
        raise NoHosts(f"there is no {', '.join(missing)}: apt install iproute2 util-linux")


@contextlib.contextmanager
def two_hosts(rate_mbit: int) -> Iterator[tuple[Host, Host]]:
    """Two hosts, each sending at most *rate_mbit* Mbit/s (token bucket of 1 MB).

    Raises:
        NoHosts: no root, or no `ip` and `tc`.
    """
    _need_root()
    tag = f"{PREFIX}{os.getpid()}"
    hosts = tuple(Host(f"{tag}{side}", f"10.231.77.{n}") for n, side in ((1, "a"), (2, "b")))
    try:
        for host in hosts:
            _run("ip", "netns", "add", host.namespace)
        _run("ip", "link", "add", f"{tag}va", "type", "veth", "peer", "name", f"{tag}vb")
        for host, side in zip(hosts, "ab", strict=True):
            _wire(host, f"{tag}v{side}", rate_mbit)
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            _delete(host.namespace)


def _wire(host: Host, link: str, rate_mbit: int) -> None:
    _run("ip", "link", "set", link, "netns", host.namespace)
    for words in (
        ("ip", "addr", "add", f"{host.address}/24", "dev", link),
        ("ip", "link", "set", link, "up"),
        ("ip", "link", "set", "lo", "up"),
        (
            "tc",
            "qdisc",
            "add",
            "dev",
            link,
            "root",
            "tbf",
            "rate",
            f"{rate_mbit}mbit",
            "burst",
            "1mb",
            "latency",
            "50ms",
        ),
    ):
        _run(*host.command(*words))


@contextlib.contextmanager
def fleet_hosts(receivers: int, rate_mbit: int, network: str = LAN_NETWORK) -> Iterator[FleetHosts]:
    """An origin and *receivers* hosts on one switch; every link sends and receives *rate_mbit* Mbit/s at most.

    A second network without limits carries the control traffic. This process itself moves into a namespace of its own,
    which holds both switches: it reaches the control network, and nothing of it outlives the process. What a killed
    benchmark left behind is removed first.

    Args:
        network: first three numbers of the data addresses.

    Raises:
        NoHosts: no root, or no `ip` and `tc`.
    """
    _need_root()
    _sweep()
    tag = f"{PREFIX}{os.getpid()}"
    hosts = tuple(
        FleetHost(f"{tag}n{n}", f"{network}.{n + 10}", f"{CONTROL_NETWORK}.{n + 10}", f"{DATA}{n}")
        for n in range(receivers + 1)
    )
    _move_out()
    try:
        _switches()
        for number, host in enumerate(hosts):
            _plug_in(host, number, rate_mbit)
        yield FleetHosts(hosts[0], hosts[1:], f"{CONTROL_NETWORK}.1")
    finally:
        for host in hosts:
            _delete(host.namespace)
        for link in (DATA, CONTROL, *(f"{switch}{n}" for switch in (DATA, CONTROL) for n in range(len(hosts)))):
            subprocess.run(["ip", "link", "del", link], check=False, timeout=20, capture_output=True)


@contextlib.contextmanager
def loopback_hosts(receivers: int) -> Iterator[FleetHosts]:
    """An origin and *receivers* that share the loopback address of a network of their own, without limits.

    Raises:
        NoHosts: no root, or no `ip`.
    """
    _need_root()
    hosts = tuple(LoopbackHost("", LOOPBACK, LOOPBACK, "") for _ in range(receivers + 1))
    _move_out()
    yield FleetHosts(hosts[0], hosts[1:], LOOPBACK)


@functools.cache
def _move_out() -> None:
    """Move this process, once and for ever, into a network namespace of its own.

    The threads that a process keeps, such as the one that starts nats-server, stay where they were made: so it neither
    moves on nor back. Call it before there are any.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise NoHosts(f"this kernel gives no network namespace: {os.strerror(ctypes.get_errno())}")
    _run("ip", "link", "set", "lo", "up")


def _switches() -> None:
    for switch in (DATA, CONTROL):
        _run("ip", "link", "add", "name", switch, "type", "bridge")
        _run("ip", "link", "set", switch, "up")
    _run("ip", "addr", "add", f"{CONTROL_NETWORK}.1/24", "dev", CONTROL)


def _plug_in(host: FleetHost, number: int, rate_mbit: int) -> None:
    limit = ("root", "tbf", "rate", f"{rate_mbit}mbit", "burst", str(BURST_BYTES), "latency", QUEUE)
    _run("ip", "netns", "add", host.namespace)
    for switch, address in ((DATA, host.address), (CONTROL, host.control)):
        port = f"{switch}{number}"
        near = ("ip", "-n", host.namespace)
        _run(
            *("ip", "link", "add", "name", port, "type", "veth"),
            *("peer", "name", switch, "netns", host.namespace),
        )
        _run("ip", "link", "set", port, "master", switch, "up")
        _run(*near, "addr", "add", f"{address}/24", "dev", switch)
        _run(*near, "link", "set", switch, "up")
    _run("ip", "-n", host.namespace, "link", "set", "lo", "up")
    _run("tc", "qdisc", "add", "dev", host.port, *limit)
    _run("tc", "-n", host.namespace, "qdisc", "add", "dev", DATA, *limit)


def _sweep() -> None:
    """Remove namespaces whose benchmark does not run any more: it was killed."""
    for path in NAMESPACES.glob(f"{PREFIX}*"):
        named = re.fullmatch(rf"{PREFIX}(\d+)[abn]\d*", path.name)
        if named and not Path("/proc", named[1]).exists():
            _delete(path.name)


def _delete(namespace: str) -> None:
    subprocess.run(["ip", "netns", "del", namespace], check=False, timeout=20, capture_output=True)
