"""Whether a cap is held: one capped node, one direction, on each kind of address."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from tests.benchmarks._hosts import LAN_NETWORK, OVERLAY_NETWORK, FleetHosts, Flow, Host, fleet_hosts, loopback_hosts
from tests.benchmarks._swarm_fleet import ORIGIN, SwarmFleet, swarm_fleet

from fleetcast.config.limits import LimitsSettings
from fleetcast.config.settings import Settings
from fleetcast.config.transports import LadderSettings

LINK_MBIT = 1000
SECONDS = 12
"""How long a transfer under its cap takes: long enough that what passes in the first moment does not count."""
SAMPLE_SECONDS = 0.2

NETWORKS: dict[str, Callable[[], AbstractContextManager[FleetHosts]]] = {
    "loopback": lambda: loopback_hosts(1),
    "LAN 10/8": lambda: fleet_hosts(1, LINK_MBIT, LAN_NETWORK),
    "overlay 100.64/10": lambda: fleet_hosts(1, LINK_MBIT, OVERLAY_NETWORK),
}
DIRECTIONS = ("download", "upload")
TRANSPORTS = ("bittorrent", "aria2", "rsync")
RSYNC_PORT = 8730


@dataclass(frozen=True, slots=True)
class Sample:
    """What had passed at a moment."""

    seconds: float
    flow: Flow


@dataclass(frozen=True, slots=True)
class Held:
    """One transfer under a cap; bytes per second in TCP streams, and on the line with all headers."""

    network: str
    direction: str
    transport: str
    stream_rate: float
    line_rate: float

    def error(self, cap: int) -> float:
        """How far the rate is from the cap, either way, as a share of the cap."""
        return abs(self.stream_rate / cap - 1)

    def shown(self, cap: int) -> dict[str, object]:
        """As the conditions show it."""
        return {
            "network": self.network,
            "direction": self.direction,
            "transport": self.transport,
            "stream_over_cap": round(self.stream_rate / cap, 4),
            "line_over_cap": round(self.line_rate / cap, 4),
        }


def steady(samples: list[Sample], size: int) -> list[Sample]:
    """The samples from a quarter to 95 % of *size* bytes, and one before and after: without the first moment and the
    end."""
    passed = [s.flow.stream_bytes - samples[0].flow.stream_bytes for s in samples]
    first = max(n for n, count in enumerate(passed) if count < 0.25 * size)
    last = min(n for n, count in enumerate(passed) if count >= 0.95 * size)
    return samples[first : last + 1]


def rate(samples: list[Sample], count: Callable[[Flow], int]) -> float:
    """Bytes per second: the slope of the line of least squares, since what comes in bursts of a second ends anywhere in
    one."""
    return linear_regression([s.seconds for s in samples], [count(s.flow) for s in samples]).slope


def measure_caps(cap: int, folder: Path, transports: Sequence[str] = ()) -> Iterator[Held]:
    """Every direction on every network by every transport, one after the other; none: what the ladder chooses.

    What rsync sends, an rsync daemon or sshd sends: it is no part of the node, and has no cap.
    """
    for network, hosts in NETWORKS.items():
        for transport in transports or ("",):
            for direction in DIRECTIONS[: 1 if transport == "rsync" else 2]:
                place = folder / f"{network[:3]}-{direction}-{transport}"
                with hosts() as made, _rsyncd(made.origin, place) if transport == "rsync" else nullcontext(""):
                    yield asyncio.run(_one(cap, place, made, network, direction, transport))


async def _one(cap: int, folder: Path, hosts: FleetHosts, network: str, direction: str, transport: str) -> Held:
    capped = ORIGIN if direction == "upload" else "node-1"
    limits = LimitsSettings.model_validate({f"{direction}_bytes_per_second": cap})

    def change(name: str, settings: Settings) -> Settings:
        changed: dict[str, object] = {"limits": limits} if name == capped else {}
        if transport:
            changed["ladder"] = LadderSettings.model_validate({"order": (transport,)})
        if transport == "rsync":
            serve = f"rsync://{hosts.origin.address}:{RSYNC_PORT}/store" if name == ORIGIN else ""
            changed["rsync"] = settings.rsync.model_copy(update={"modules": True, "accept_older": True, "serve": serve})
        return settings.model_copy(update=changed)

    size = SECONDS * cap
    async with swarm_fleet(folder, hosts, change=change) as fleet:
        samples: list[Sample] = []
        sampling = asyncio.create_task(_sample(samples, fleet, direction), name="sample the wire")
        try:
            run = await fleet.run("v1", size, seconds=60 + 4 * SECONDS)
        finally:
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
    counted = steady(samples, size)
    return Held(
        network,
        direction,
        run.nodes[0].transport or "unknown",
        rate(counted, lambda f: f.stream_bytes),
        rate(counted, lambda f: f.bytes),
    )


@contextlib.contextmanager
def _rsyncd(origin: Host, folder: Path) -> Iterator[None]:
    """A read-only module of the store that the origin will have; it ends with this process."""
    folder.mkdir(parents=True)
    configuration = folder / "rsyncd.conf"
    configuration.write_text(
        f"address = {origin.address}\nport = {RSYNC_PORT}\nuse chroot = no\nlog file = {folder / 'rsyncd.log'}\n"
        f"[store]\npath = {folder / ORIGIN / 'data' / 'store'}\nread only = yes\nlist = no\n"
    )
    words = origin.bound_command("rsync", "--daemon", "--no-detach", f"--config={configuration}")
    with subprocess.Popen(words) as server:
        try:
            yield
        finally:
            server.kill()


async def _sample(samples: list[Sample], fleet: SwarmFleet, direction: str) -> None:
    while True:
        if direction == "upload":
            flow = fleet.hosts.origin.counters().sent
        else:
            flow = fleet.hosts.receivers[0].counters().received
        samples.append(Sample(time.monotonic(), flow))
        await asyncio.sleep(SAMPLE_SECONDS)
