"""A fleet for tests and benchmarks: a real nats-server and real distributors as processes on loopback.

async with fleet(folder, nodes=3) as f:
    await f.promote("m", "1", f.publish("m.bin", b"..."))
    await f.until_served("m", "1")
"""

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus, Entry, connect
from fleetcast.bus.server import LocalServer
from fleetcast.config.local import loopback_settings
from fleetcast.config.settings import BusSettings, DistributorSettings, LogSettings, Settings
from fleetcast.config.template import render
from fleetcast.events.envelope import Event, EventInvalid
from fleetcast.events.payloads import DaemonState, Endpoints, Wants
from fleetcast.events.state import NodeStatus

START_SECONDS = 60.0
STOP_SECONDS = 30.0


class FleetProblem(Exception):
    """What a test waited for did not happen; the message ends with the logs' last lines."""


@dataclass
class NodeProcess:
    """One daemon as a process, and its folders: a distributor, or what `daemon` of a subclass names."""

    daemon = "distributor"

    name: str
    folder: Path
    settings: Settings
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    was_ready: int = 0
    """How often it had become ready before its current process."""

    @property
    def data(self) -> Path:
        return self.settings.store.data

    @property
    def config(self) -> Path:
        return self.folder / "fleetcast.toml"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.daemon}.log"

    def command(self) -> list[str]:
        """What is started; a subclass may put it elsewhere."""
        return [sys.executable, "-m", "fleetcast", "run", self.daemon, "--config", str(self.config)]

    def start(self) -> None:
        """Start the process; does not wait until it is ready."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.config.write_text(render(self.settings, comments=False))
        self.was_ready = len(self.logged("daemon.ready"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the daemon; its children end with it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise FleetProblem(f"{self.name} did not stop in {STOP_SECONDS} s\n{self.tail()}") from None

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    def logged(self, event: str) -> list[dict[str, object]]:
        """Lines of the log with this event name."""
        found = []
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        for line in text.splitlines():
            if event not in line:  # tests ask often, and a log is long
                continue
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found


class DaemonProcess(NodeProcess):
    """A daemon that serves the whole fleet, or goes beside a distributor, as a process; which one, its class says."""

    @property
    def ended(self) -> bool:
        """Whether it ended by itself, or was killed."""
        return self.process is not None and self.process.poll() is not None

    async def until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it answers requests.

        Raises:
            FleetProblem: it does not in time, or ended.
        """
        deadline = time.monotonic() + seconds
        while len(self.logged("daemon.ready")) <= self.was_ready:
            if self.ended or time.monotonic() > deadline:
                raise FleetProblem(f"{self.name} did not become ready in {seconds} s\n{self.tail()}")
            await asyncio.sleep(0.02)


class RegistryProcess(DaemonProcess):
    """One registry daemon as a process."""

    daemon = "registry"


class RemedyProcess(DaemonProcess):
    """One remedy daemon as a process."""

    daemon = "remedy"


class TrainerProcess(DaemonProcess):
    """The trainer of a node as a process, beside the node's distributor."""

    daemon = "trainer"

    @property
    def runs(self) -> Path:
        """Folders of the runs that the node has or had."""
        return self.data / "runs"

    def kill_all(self) -> None:
        """SIGKILL the daemon and every process of its runs, as a power cut would."""
        self.kill()
        for state in self.runs.glob("*/state.json"):
            said = json.loads(state.read_bytes())
            for process in (said["supervisor"], said["main"]):
                # One that has ended may have given its number to another: the time at which it began tells.
                if process is not None and _ticks(process["pid"]) == process["start_ticks"]:
                    os.kill(process["pid"], signal.SIGKILL)


def _ticks(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot (proc(5)); None: there is none of that number."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


class Fleet:
    """Several distributors on one server."""

    def __init__(self, folder: Path, server: LocalServer, bus: Bus, nodes: Mapping[str, NodeProcess]) -> None:
        self.folder = folder
        self.server = server
        self.bus = bus
        self.nodes = dict(nodes)

    def publish(self, name: str, data: bytes) -> Path:
        """Write a file that may be promoted from every node."""
        path = self.folder / "publish" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    async def say(self, subject: str, body: Mapping[str, object] | bytes, **headers: str) -> int:
        """Publish bytes as the NATS CLI would; returns the sequence."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (await self.bus.publish_raw(subject, data, headers)).sequence

    async def promote(self, model: str, version: str, path: Path, node: str = "node-1") -> int:
        """Promote with bare JSON."""
        body = {"version": version, "path": str(path), "node": node}
        return await self.say(f"fc.ev.model.promoted.{model}", body)

    async def statuses(self) -> dict[str, NodeStatus]:
        entries = await self.bus.kv_entries("fc_nodes")
        values = (NodeStatus.model_validate_json(e.data) for e in entries)
        return {s.node: s for s in values}

    async def events(self, *subjects: str) -> list[Event]:
        """Everything in FC_EVENTS under *subjects* that parses."""
        found = []
        async for entry in self.bus.tail("FC_EVENTS", subjects or ("fc.ev.>",)):
            with contextlib.suppress(EventInvalid):
                found.append(_event(entry))
        return found

    def current(self, model: str) -> dict[str, str | None]:
        """Where `current` points, by node."""
        return {n.name: _target(n.data / "models" / model / "current") for n in self.nodes.values()}

    async def until(self, what: str, holds: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until a condition on files or logs holds.

        Raises:
            FleetProblem: it does not in time, or a process ended.
        """
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise FleetProblem(f"{what}: not within {seconds} s\n{self.tails()}")
            await asyncio.sleep(0.02)

    async def until_served(
        self, model: str, version: str, *, nodes: tuple[str, ...] = (), seconds: float = 60.0
    ) -> None:
        """Wait until `current` of *model* is *version* on the given nodes (default: all)."""
        asked = nodes or tuple(self.nodes)

        def served() -> bool:
            current = self.current(model)
            return all(current[n] == version for n in asked)

        await self.until(f"{model}@{version} served on {', '.join(asked)}", served, seconds)

    async def until_ready(self, *names: str, seconds: float = START_SECONDS) -> None:
        """Wait until nodes report `ready` since they were last started."""
        for name in names or tuple(self.nodes):
            node = self.nodes[name]
            await self.until(f"{name} ready", functools.partial(_ready, node), seconds)

    async def rejected(self, seconds: float = 60.0) -> Event:
        """The newest `event.rejected`, once there is one."""
        deadline = time.monotonic() + seconds
        while not (found := await self.events("fc.ev.event.rejected.*")):
            if time.monotonic() > deadline:
                raise FleetProblem(f"nothing was rejected within {seconds} s\n{self.tails()}")
            await asyncio.sleep(0.05)
        return found[-1]

    def tails(self) -> str:
        return "\n".join(f"--- {n.name}\n{n.tail()}" for n in self.nodes.values())


def _ready(node: NodeProcess) -> bool:
    if node.process is not None and node.process.poll() is not None:
        raise FleetProblem(f"{node.name} ended with {node.process.returncode}\n{node.tail()}")
    return len(node.logged("daemon.ready")) > node.was_ready


def _target(link: Path) -> str | None:
    try:
        return link.readlink().name
    except OSError:
        return None


def _event(entry: Entry) -> Event:
    return entry.event()


def node_settings(folder: Path, name: str, url: str) -> Settings:
    """Settings of a node that notices things sooner than a real one needs to, and logs all of them."""
    base = loopback_settings(
        name, url, data=folder / name / "data", publish_roots=(folder / "publish",), reserve_bytes=0
    )
    quick = DistributorSettings(heartbeat_seconds=1.0, resync_seconds=2.0)
    return base.model_copy(update={"distributor": quick, "log": LogSettings(format="json", level="debug")})


@contextlib.asynccontextmanager
async def fleet(
    folder: Path,
    nodes: int = 3,
    *,
    settings: Callable[[str, Settings], Settings] = lambda _, s: s,
    start: bool = True,
    host: str = "127.0.0.1",
    process: Callable[[str, Path, Settings], NodeProcess] = NodeProcess,
) -> AsyncIterator[Fleet]:
    """A fleet of `node-1` … `node-N` below *folder*. Everything is ended on leaving, whatever happened.

    Args:
        settings: may change what a node is started with.
        host: where the server listens.
        process: makes a node of its name, its folder and its settings.
    """
    (folder / "publish").mkdir(parents=True, exist_ok=True)
    async with LocalServer(folder / "nats", host=host) as server:
        processes = {}
        for name in (f"node-{n}" for n in range(1, nodes + 1)):
            node = process(name, folder / name, settings(name, node_settings(folder, name, server.url)))
            node.folder.mkdir(parents=True, exist_ok=True)
            processes[name] = node
        try:
            if start:
                for node in processes.values():
                    node.start()
            async with connect(BusSettings(url=server.url), node="tests", daemon="tests") as bus:
                f = Fleet(folder, server, bus, processes)
                if start:
                    await f.until_ready()
                yield f
        finally:
            for node in processes.values():
                node.kill()


def heartbeat(node: str, *, at: str, daemon: str = "distributor", **more: Any) -> NodeStatus:
    """What a ready daemon of a simulated node says of itself at the time *at* (ISO 8601), and *more* fields of it."""
    fields = {
        "version": "0",
        "state": DaemonState.READY,
        "status": "",
        "pid": 1,
        "started_at": at,
        "endpoints": Endpoints(),
        "labels": {},
        "wants": Wants(),
        "data": "/data",
        **more,
    }
    return NodeStatus(node=node, daemon=daemon, at=at, **fields)
