"""Test hosts: two network namespaces on one wire of limited rate, made and removed by this process."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


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


def _run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=20, capture_output=True)


@contextlib.contextmanager
def two_hosts(rate_mbit: int) -> Iterator[tuple[Host, Host]]:
    """Two hosts, each sending at most *rate_mbit* Mbit/s (token bucket of 1 MB).

    Raises:
        NoHosts: no root, or no `ip` and `tc`.
    """
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        raise NoHosts("network namespaces need root, ip and tc (apt install iproute2)")
    tag = f"fcb{os.getpid()}"
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
            subprocess.run(["ip", "netns", "del", host.namespace], check=False, timeout=20, capture_output=True)


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
