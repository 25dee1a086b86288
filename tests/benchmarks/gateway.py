"""`fleetcast bench gateway`: 50 nodes and 500 models behind one gateway: lists, 200 event streams with slow readers,
and the dashboard in Chromium.

A server, a registry daemon and the gateway run as processes; the nodes are simulated: every one says every five seconds
which models it serves, each model being on five of them. Lists are asked for one after the other.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks._dashboard import Browsed, browse, missing
from tests.benchmarks._processes import peak_mib
from tests.benchmarks._report import Figure, Report, arguments, median, percentile
from tests.benchmarks._simulated import Nodes, fill_registry
from tests.integration.gateway.gateways import LOOPBACK, GatewayProcess

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.config.gateway import GatewaySettings
from fleetcast.config.settings import BusSettings, DistributorSettings
from fleetcast.daemons.testing import RegistryProcess, node_settings
from fleetcast.transport.listening import free_port

NODES, MODELS, VERSIONS, GROUPS = 50, 500, 3, 10
BEAT_SECONDS = 5.0
STREAMS, SLOW = 200, 20
EVENTS_PER_SECOND, EVENT_SECONDS, EVENT_BYTES = 50, 20.0, 4000
RSS_MIB = 256
"""What a gateway may have in memory with all of them: a small machine can give that."""
LISTS = {
    "versions": "/api/model-registry/models?limit=200",
    "versions in production": "/api/model-registry/models?stage=development&framework=onnx",
    "models": "/api/models",
    "board": "/api/fleet",
    "nodes": "/api/nodes",
    "rollouts": "/api/rollouts",
    "transfers": "/api/transfers",
    "status": "/api/status",
    "incidents": "/api/incidents",
    "runs": "/api/runs",
    "dead letters": "/api/dead-letters",
}


@dataclass
class World:
    """What runs."""

    bus: Bus
    gateway: GatewayProcess
    nodes: Nodes

    @property
    def pid(self) -> int:
        if self.gateway.process is None:
            raise RuntimeError("the gateway does not run")
        return self.gateway.process.pid


@dataclass
class Streamed:
    """What became of many event streams. `rss_before_mib`, `rss_mib`: of the gateway, at most."""

    rss_before_mib: float
    rss_mib: float
    behind: int
    late_ms: list[float] = field(default_factory=list)


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """A fleet of that size, and a gateway that knows it."""
    async with LocalServer(folder / "nats") as server:
        made = node_settings(folder, "node-1", server.url)
        settings = made.model_copy(
            update={
                "distributor": DistributorSettings(heartbeat_seconds=BEAT_SECONDS),
                "gateway": GatewaySettings(port=free_port(LOOPBACK, 0)),
            }
        )
        async with connect(BusSettings(url=server.url), node="bench", daemon="bench") as bus:
            await declare(bus, 1)
            await fill_registry(bus, MODELS, VERSIONS)
            nodes = Nodes(bus, NODES, MODELS, GROUPS, VERSIONS)
            keeper = RegistryProcess("keeper", folder / "keeper", settings)
            gateway = GatewayProcess("gateway", folder / "gateway", settings)
            async with nodes.beating(BEAT_SECONDS):
                try:
                    for process in (keeper, gateway):
                        process.folder.mkdir()
                        process.start()
                    await keeper.until_ready()
                    await asyncio.to_thread(gateway.until_ready)
                    yield World(bus, gateway, nodes)
                finally:
                    gateway.kill()
                    keeper.kill()


def ask(port: int, path: str, times: int) -> list[float]:
    """Milliseconds of so many answers, each read whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        taken.append(1000 * (time.perf_counter() - began))
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
    connection.close()
    return taken


async def measure_lists(made: World, rounds: int) -> dict[str, list[float]]:
    """Milliseconds by list; rounds go through all of them, so that nothing is always fresh."""
    found: dict[str, list[float]] = {name: [] for name in LISTS}
    for each in range(rounds + 2):
        for name, path in LISTS.items():
            taken = await asyncio.to_thread(ask, made.gateway.port, path, 1)
            if each >= 2:
                found[name] += taken
    return found


async def measure_streams(made: World) -> Streamed:
    """Streams with readers that keep up, and some that read nothing, while events come."""
    quick = [Reader(made.gateway.port) for _ in range(STREAMS - SLOW)]
    slow = [Reader(made.gateway.port, reads=False) for _ in range(SLOW)]
    before = peak_mib(made.pid)
    await asyncio.gather(*(each.open() for each in (*quick, *slow)))
    try:
        said, peak = [], 0.0
        for number in range(int(EVENTS_PER_SECOND * EVENT_SECONDS)):
            body = {"path": "/x", "node": "n", "version": f"v{number}", "metadata": {"note": "x" * EVENT_BYTES}}
            receipt = await made.bus.publish_raw("fc.ev.model.registered.bench", json.dumps(body).encode())
            said.append((receipt.sequence, time.monotonic()))
            peak = max(peak, peak_mib(made.pid)) if number % EVENTS_PER_SECOND == 0 else peak
            await asyncio.sleep(1 / EVENTS_PER_SECOND)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while any(said[-1][0] not in each.seen for each in quick):  # noqa: ASYNC110  # of other processes
                    await asyncio.sleep(0.05)
        behind = sum(any(number not in each.seen for number, _ in said) for each in quick)
        late = [1000 * (each.seen[number] - at) for each in quick for number, at in said if number in each.seen]
        peak = max(peak, peak_mib(made.pid))
        return Streamed(before, peak, behind, late)
    finally:
        for each in (*quick, *slow):
            each.close()


class Reader:
    """One client of the event stream. `seen`: when it had which event."""

    def __init__(self, port: int, *, reads: bool = True) -> None:
        self._port = port
        self._reads = reads
        self.seen: dict[int, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Ask for all events; a slow one takes nothing in from then on."""
        own = socket.socket()
        if not self._reads:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(own, ("127.0.0.1", self._port))
        await loop.sock_sendall(own, b"GET /api/events?changes=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if self._reads:
            reader, self._writer = await asyncio.open_connection(sock=own)
            self._task = asyncio.create_task(self._read(reader))
        self._socket = own

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            if line.startswith(b"id: "):
                self.seen[int(line[4:])] = time.monotonic()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self._socket is not None:
            self._socket.close()


async def measure(given: argparse.Namespace, folder: Path) -> tuple[dict[str, list[float]], Streamed, Browsed | None]:
    """All of it, one after the other."""
    async with world(folder) as made:
        lists = await measure_lists(made, given.rounds)
        browsed = None if missing() else await browse(made.bus, made.gateway.url, MODELS, given.loads)
        return lists, await measure_streams(made), browsed


def main() -> int:
    """Measure and report."""
    options = {"rounds": (20, "times that each list is asked for"), "loads": (5, "times that the dashboard is opened")}
    given = arguments(__doc__ or "", options)
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        lists, streamed, browsed = asyncio.run(measure(given, Path(folder)))
    everything = [each for some in lists.values() for each in some]
    conditions = {
        "nodes": NODES,
        "models": MODELS,
        "nodes_of_a_model": NODES // GROUPS,
        "versions": MODELS * VERSIONS,
        "heartbeat_seconds": BEAT_SECONDS,
        "lists_p95_ms": {name: round(percentile(each, 0.95), 1) for name, each in lists.items()},
        "streams": f"{STREAMS}, of which {SLOW} read nothing",
        "events": f"{EVENTS_PER_SECOND} a second of {EVENT_BYTES} bytes for {EVENT_SECONDS:g} s",
        "readers_that_lack_an_event": streamed.behind,
    }
    report = Report("gateway", conditions)
    report.figures["list_p95_ms"] = Figure(percentile(everything, 0.95), "ms", required=50)
    report.figures["list_p50_ms"] = Figure(median(everything), "ms")
    report.figures["sse_200_clients_rss_mib"] = Figure(streamed.rss_mib, "MiB", required=RSS_MIB)
    report.figures["sse_200_clients_grew_mib"] = Figure(streamed.rss_mib - streamed.rss_before_mib, "MiB")
    report.figures["sse_event_p95_ms"] = Figure(percentile(streamed.late_ms, 0.95), "ms")
    if browsed is None:
        report.conditions["browser"] = missing()
    else:
        report.figures["first_paint_ms"] = Figure(percentile(browsed.first_paint, 0.95), "ms", required=1000)
        report.figures["filled_ms"] = Figure(percentile(browsed.filled, 0.95), "ms")
        report.figures["live_update_ms"] = Figure(percentile(browsed.told, 0.95), "ms", required=300)
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
