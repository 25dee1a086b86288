"""Real distributors on limited hosts, and one promotion among them, timed from their logs."""

import asyncio
import contextlib
import json
import os
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
from tests.benchmarks._hosts import FleetHosts, Host
from tests.benchmarks._processes import cpu_seconds, forget_peaks, peak_mib
from tests.benchmarks._runs import MIB, NodeRun, Run

from fleetcast.bus import connect
from fleetcast.bus.server import LocalServer
from fleetcast.config.local import loopback_settings
from fleetcast.config.settings import BusSettings, LogSettings, NetworkSettings, Settings
from fleetcast.daemons.testing import Fleet, FleetProblem, NodeProcess
from fleetcast.events.payloads import ArtifactAvailable, TransferVerified

ORIGIN = "origin"
MODEL = "bench"
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 3.0
POLL_SECONDS = 0.05
START_SECONDS = 60.0


class LogTail:
    """The JSON lines of a growing log, each read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self.lines: list[dict[str, object]] = []

    def read(self) -> None:
        """Take in what was written since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(line))

    def moment(self, event: str, version: str) -> float | None:
        """When the event first came for a version; None while it has not."""
        for line in self.lines:
            if line.get("event") == event and line.get("version") == version:
                return datetime.fromisoformat(str(line["timestamp"])).timestamp()
        return None


class SwarmFleet:
    """A fleet on limited hosts; promote with `run`."""

    def __init__(self, fleet: Fleet, hosts: FleetHosts) -> None:
        self.fleet, self.hosts = fleet, hosts
        self.origin = fleet.nodes[ORIGIN]
        self.receivers = [node for name, node in fleet.nodes.items() if name != ORIGIN]
        self._logs = {name: LogTail(node.log) for name, node in fleet.nodes.items()}
        self._idle: dict[str, float] = {}

    async def settle(self) -> None:
        """Wait until the processes rest, and measure what they use then."""
        await asyncio.sleep(SETTLE_SECONDS)
        before = self._cpu()
        await asyncio.sleep(IDLE_SECONDS)
        self._idle = {name: (used - before[name]) / IDLE_SECONDS for name, used in self._cpu().items()}

    @property
    def warnings(self) -> dict[str, int]:
        """What went wrong in any daemon so far, by event: a process that died costs time that no scheme can save."""
        lines = [line for log in self._logs.values() for line in log.lines]
        return dict(Counter(str(line.get("event")) for line in lines if line.get("level") in {"warning", "error"}))

    @property
    def idle_cores(self) -> float:
        """Cores that a receiver uses when it has nothing to do, on average."""
        return sum(self._idle[n.name] for n in self.receivers) / len(self.receivers)

    async def run(self, version: str, size: int, *, seconds: float) -> Run:
        """Promote a fresh file of *size* bytes and wait until every receiver has it installed and confirmed."""
        path = self.fleet.folder / "publish" / f"{version}.safetensors"
        await asyncio.to_thread(write_model, path, size)
        forget_peaks(_pid(node) for node in self.fleet.nodes.values())
        psutil.cpu_percent()
        cpu, began, wire = self._cpu(), time.monotonic(), self.hosts.origin.counters()
        await self.fleet.promote(MODEL, version, path, node=ORIGIN)
        await self._until(version, "transfer.proven", seconds)
        sent, busy = self.hosts.origin.counters().sent_since(wire), psutil.cpu_percent() / 100
        await self._until(version, "version.confirmed", seconds)
        used, took = self._cpu(), time.monotonic() - began
        shares = {name: used[name] - cpu[name] - took * self._idle.get(name, 0.0) for name in cpu}
        facts = await self._facts(version)
        await asyncio.to_thread(path.unlink)
        offered = self._moment(ORIGIN, "artifact.announcing", version)
        return Run(
            size,
            sent,
            tuple(self._node_run(n, version, offered, shares[n.name], facts[n.name]) for n in self.receivers),
            busy,
        )

    async def curl_seconds(self, version: str) -> float:
        """Seconds that curl takes on the first receiver for a version's file from the origin's file server."""
        facts = [e.payload for e in await self.fleet.events("fc.ev.>")]
        artifact = next(f.artifact for f in facts if isinstance(f, TransferVerified) and f.version == version)
        offer = next(f for f in facts if isinstance(f, ArtifactAvailable) and f.artifact == artifact)
        assert offer.content is not None
        url = f"{offer.origin.endpoints.http}/c/{offer.content.files[0].sha256}"
        target = self.fleet.folder / "curl.out"
        began = time.monotonic()
        words = self.hosts.receivers[0].bound_command("curl", "--noproxy", "*", "-sSf", "-o", str(target), url)
        curl = await asyncio.create_subprocess_exec(*words)
        if await curl.wait() != 0:
            raise FleetProblem(f"curl ended with {curl.returncode}")
        seconds = time.monotonic() - began
        target.unlink()
        return seconds

    def _node_run(self, node: NodeProcess, version: str, offered: float, cpu: float, fact: TransferVerified) -> NodeRun:
        def since(event: str) -> float:
            return self._moment(node.name, event, version) - offered

        return NodeRun(
            node=node.name,
            first_byte=since("transfer.first_byte"),
            nearly=since("transfer.last_percent"),
            proven=since("transfer.proven"),
            installed=since("version.installed"),
            cpu_seconds=cpu,
            rss_mib=peak_mib(_pid(node)),
            bytes_by_source=fact.bytes_by_source,
            transport=fact.transport,
        )

    async def _until(self, version: str, event: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        waiting = {n.name for n in self.receivers}
        while waiting:
            if time.monotonic() > deadline:
                where = ", ".join(sorted(waiting))
                raise FleetProblem(f"no {event} of {version} on {where} within {seconds:.0f} s\n{self._tail(waiting)}")
            await asyncio.sleep(POLL_SECONDS)
            for name in tuple(waiting):
                self._logs[name].read()
                if self._logs[name].moment(event, version) is not None or self._stopped_without(name, event, version):
                    waiting.discard(name)

    def _stopped_without(self, name: str, event: str, version: str) -> bool:
        """Whether the version is confirmed although the event never came: nothing more is to be waited for."""
        return self._logs[name].moment("version.confirmed", version) is not None and event != "version.confirmed"

    def _tail(self, names: set[str]) -> str:
        return "\n".join(self.fleet.nodes[name].tail() for name in (ORIGIN, min(names)))

    def _moment(self, node: str, event: str, version: str) -> float:
        self._logs[node].read()
        at = self._logs[node].moment(event, version)
        if at is None:
            raise FleetProblem(f"{node} did not log {event} for {version}\n{self.fleet.nodes[node].tail()}")
        return at

    async def _facts(self, version: str) -> dict[str, TransferVerified]:
        facts = [e.payload for e in await self.fleet.events("fc.ev.>")]
        return {f.node: f for f in facts if isinstance(f, TransferVerified) and f.version == version}

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(_pid(node)) for name, node in self.fleet.nodes.items()}


@dataclass
class HostedNode(NodeProcess):
    """A distributor on a host; it ends with this process."""

    host: Host | None = None

    def command(self) -> list[str]:
        words = super().command()
        return self.host.bound_command(*words) if self.host else words


@contextlib.asynccontextmanager
async def swarm_fleet(
    folder: Path, hosts: FleetHosts, *, change: Callable[[str, Settings], Settings] = lambda _, s: s
) -> AsyncIterator[SwarmFleet]:
    """Distributors on all hosts, ready and at rest; everything is ended on leaving.

    Their settings are the defaults, but for logs that tell all moments. Variables such as
    FLEETCAST_BITTORRENT_STALL_SECONDS reach them too; *change* may change what each is started with.
    """
    (folder / "publish").mkdir(parents=True)
    async with LocalServer(folder / "nats", host=hosts.control) as server:
        nodes = {}
        for name, host in zip(_names(hosts), hosts.all, strict=True):
            settings = change(name, _settings(folder, name, server.url, host))
            nodes[name] = HostedNode(name, folder / name, settings, host=host)
            nodes[name].folder.mkdir()
        try:
            for node in nodes.values():
                node.start()
            async with connect(BusSettings(url=server.url), node="bench", daemon="bench") as bus:
                fleet = Fleet(folder, server, bus, nodes)
                await fleet.until_ready(seconds=START_SECONDS)
                swarm = SwarmFleet(fleet, hosts)
                await swarm.settle()
                yield swarm
        finally:
            for node in nodes.values():
                node.kill()


def _names(hosts: FleetHosts) -> list[str]:
    return [ORIGIN, *(f"node-{n}" for n in range(1, len(hosts.receivers) + 1))]


def _settings(folder: Path, name: str, url: str, host: Host) -> Settings:
    base = loopback_settings(
        name, url, data=folder / name / "data", publish_roots=(folder / "publish",), reserve_bytes=0
    )
    network = NetworkSettings(address=host.address, bind=host.address)
    return base.model_copy(update={"network": network, "log": LogSettings(format="json", level="debug")})


def write_model(path: Path, size: int) -> None:
    """A safetensors file of *size* bytes that does not compress."""
    room = 256
    shape = size - room - 8
    header = json.dumps({"weights": {"dtype": "U8", "shape": [shape], "data_offsets": [0, shape]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", room) + header.ljust(room))
        while left := size - file.tell():
            file.write(os.urandom(min(MIB, left)))


def _pid(node: NodeProcess) -> int:
    if node.process is None:
        raise FleetProblem(f"{node.name} does not run")
    return node.process.pid
