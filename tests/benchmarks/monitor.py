"""`fleetcast bench monitor`: snapshots judged per second of one core, from a real stream; the time from a published
snapshot to its verdict at 300 a second; what a storm of snapshots costs a promotion, and in memory; and the statistics
of the verdicts, by simulation.

Servers, monitor and registry are processes of their own, with the settings of a fleet.
"""

import asyncio
import contextlib
import json
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import monitor_statistics
from tests.benchmarks._processes import cpu_seconds, forget_peaks, peak_mib
from tests.benchmarks._report import Figure, Report, arguments, median, percentile

from fleetcast.bus import BatchMessage, Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.config.monitor import MonitorSettings
from fleetcast.config.settings import BusSettings, LogSettings
from fleetcast.daemons.testing import DaemonProcess, RegistryProcess, node_settings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.performance import LatencyHistogram
from fleetcast.events.state import Cause, SlotEntry, SlotState, VersionState, slot_subject
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import AnyCommand, Promote, Reserve
from fleetcast.registry.rules import dump

POLICY = """[default]
mode = "auto"
warm_up_seconds = 0
expected_latency_p95_ms = 40
"""
PROMOTED = "promoted"
MODELS, NODES = 20, 5
STORM_MODELS = tuple(f"storm{n}" for n in range(MODELS))
STORM = 100_000
RATE = 300
APART = 60
"""Snapshots from one model that turns bad to the next: five a second, each with its own writes to the disk."""
PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 0.05
PROMOTIONS = 12
BURST = 500
BACKLOG = 50_000
"""That a monitor catches up with: it may not be stopped for as long as a lease lasts."""


class MonitorProcess(DaemonProcess):
    """A monitor as a process."""

    daemon = "monitor"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@dataclass
class Rig:
    """What runs, and who asks."""

    bus: Bus
    monitor: MonitorProcess
    client: RegistryClient
    turn: int = field(default=0)

    async def judged(self) -> int:
        """How many snapshots the monitor has judged since it began."""
        answers = await self.bus.request_many("$SRV.STATS.fleetcast-monitor", b"", expect=1)
        return int(json.loads(answers[0])["endpoints"][0]["data"]["snapshots"]) if answers else 0

    async def until_judged(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.judged() < count:  # noqa: ASYNC110  # another process counts
                await asyncio.sleep(0.05)

    async def promote(self) -> float:
        """Seconds of one promotion, from the question to the answer."""
        self.turn += 1
        began = time.perf_counter()
        await _ask(self.client, Promote(model=PROMOTED, version=str(1 + self.turn % 2)))
        return time.perf_counter() - began


async def _ask(client: RegistryClient, command: AnyCommand) -> None:
    answer = await client.transition(command, reason="measured")
    if not answer.accepted:
        raise RuntimeError(f"{command.do} was {answer.outcome}: {answer.message}")


def _version(number: int) -> VersionState:
    file = ContentFile(path="m.pt", size=number, sha256=f"{number:064x}", pieces_root="0" * 64)
    content = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    cause = Cause(event=f"e{number}", sequence=0, by="/bench", correlation="c")
    return VersionState(
        model=PROMOTED,
        version=str(number),
        artifact=content.artifact,
        content=content,
        origin=Origin(node="bench", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=cause,
        at="2026-01-01T00:00:00.000Z",
    )


async def _serve(bus: Bus, models: tuple[str, ...]) -> None:
    entry = SlotEntry(version="1", artifact="0" * 64)
    cause = Cause(event="e", sequence=0, by="/bench", correlation="c")
    for model in models:
        state = SlotState(model=model, generation=1, production=entry, cause=cause, at="2026-01-01T00:00:00.000Z")
        await bus.batch([BatchMessage(slot_subject(model), dump(state))])


@contextlib.asynccontextmanager
async def _rig(folder: Path, verdict_models: tuple[str, ...]) -> AsyncIterator[Rig]:
    (folder / "policy.toml").write_text(POLICY)
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalServer(folder / "nats"))
        settings = node_settings(folder, "bench", server.url).model_copy(
            update={
                "bus": BusSettings(url=server.url),
                "log": LogSettings(format="json"),
                "monitor": MonitorSettings(policy=folder / "policy.toml"),
            }
        )
        bus = await stack.enter_async_context(connect(settings.bus, node="bench", daemon="bench"))
        await declare(bus, 1)
        await _serve(bus, (*STORM_MODELS, *verdict_models))
        processes = []
        for kind, name in ((RegistryProcess, "registry"), (MonitorProcess, "monitor")):
            (folder / name).mkdir()
            process = kind("bench", folder / name, settings)
            stack.callback(process.kill)
            process.start()
            await process.until_ready()
            processes.append(process)
        monitor = processes[1]
        assert isinstance(monitor, MonitorProcess)
        client = RegistryClient(bus, actor="/bench")
        for number in (1, 2):
            await _ask(client, Reserve(state=_version(number)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not monitor.logged("shards.live"):  # noqa: ASYNC110  # another process says so
                await asyncio.sleep(PAUSE_SECONDS)
        yield Rig(bus, monitor, client)


def _snapshot(number: int, *, errors: int = 5) -> bytes:
    """What a server that counts says: requests, errors, and a histogram of its latencies."""
    latency = LatencyHistogram({80 + n: 50 for n in range(20)}).document()
    said: dict[str, Any] = {"version": "1", "node": f"gpu-{number % NODES}", "num_requests": 1000, "errors": errors}
    return json.dumps({**said, "ood": 3, "latency": latency, "id": f"s{number}"}).encode()


# -- how many


async def _storm(bus: Bus, count: int, start: int) -> float:
    """Publish as fast as the stream takes them; the seconds that it took."""
    began = time.perf_counter()
    before = await bus.last_sequence("FC_PERF")
    for first in range(start, start + count, BURST):
        for number in range(first, min(first + BURST, start + count)):
            await bus.wire.publish(f"fc.perf.{STORM_MODELS[number % MODELS]}", _snapshot(number))
        # What is published without an answer is lost when the stream cannot keep up: it is let breathe.
        await _until_stored(bus, before + first - start)
    await _until_stored(bus, before + count)
    return time.perf_counter() - began


async def _until_stored(bus: Bus, sequence: int) -> None:
    while await bus.last_sequence("FC_PERF") < sequence:  # noqa: ASYNC110  # the server counts
        await asyncio.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Storm:
    """What a storm cost.

    Attributes:
        per_core: snapshots judged in a second of the monitor's processor time, as they came.
        seconds: from its first snapshot until all were judged; `published_seconds`: until all were stored.
        promotions: seconds of promotions while it went on; `quiet`: before.
        peak_mib: most memory of the monitor; `before_mib`: before.
    """

    per_core: float
    seconds: float
    published_seconds: float
    promotions: list[float]
    quiet: list[float]
    peak_mib: float
    before_mib: float


async def measure_storm(rig: Rig, count: int) -> Storm:
    """A storm, and promotions in the middle of it."""
    quiet = [await rig.promote() for _ in range(PROMOTIONS)][2:]
    forget_peaks([rig.monitor.pid])
    before, judged, cpu = peak_mib(rig.monitor.pid), await rig.judged(), cpu_seconds(rig.monitor.pid)
    began = time.perf_counter()
    publishing = asyncio.create_task(_storm(rig.bus, count, 0))
    promotions = []
    while not publishing.done():
        promotions.append(await rig.promote())
        await asyncio.sleep(0.2)
    await rig.until_judged(judged + count)
    seconds, spent = time.perf_counter() - began, cpu_seconds(rig.monitor.pid) - cpu
    return Storm(count / spent, seconds, await publishing, promotions, quiet, peak_mib(rig.monitor.pid), before)


async def measure_rate(rig: Rig, count: int) -> tuple[float, float]:
    """Snapshots judged in a second of processor time, and in a second, by a monitor that has so many to catch up
    with: while it is stopped they pile up in the stream."""
    judged = await rig.judged()
    rig.monitor.send(signal.SIGSTOP)
    try:
        await _storm(rig.bus, count, STORM * 10)
    finally:
        rig.monitor.send(signal.SIGCONT)
    cpu, began = cpu_seconds(rig.monitor.pid), time.perf_counter()
    await rig.until_judged(judged + count)
    return count / (cpu_seconds(rig.monitor.pid) - cpu), count / (time.perf_counter() - began)


# -- how soon


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Seconds from the publication of the snapshot that decides: until the verdict is stored, with all that follows
    from it, and until its copy is in FC_EVENTS."""

    stored: list[float]
    told: list[float]


async def measure_verdicts(rig: Rig, models: tuple[str, ...]) -> Verdicts:
    """How soon verdicts come, among 300 snapshots a second."""
    stored: dict[str, float] = {}
    told: dict[str, float] = {}
    published: dict[str, float] = {}
    listening = [
        asyncio.create_task(_listen(rig.bus, "FC_REMEDY", "fc.rem.fact.verdict.changed.*.*", stored, models)),
        asyncio.create_task(_listen(rig.bus, "FC_EVENTS", "fc.ev.verdict.changed.*", told, models)),
    ]
    began, number, waiting = time.perf_counter(), 0, list(models)
    while waiting or number < RATE:
        number += 1
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        if waiting and number % APART == 0:
            model = waiting.pop()
            published[model] = time.time()
            await rig.bus.wire.publish(f"fc.perf.{model}", _snapshot(10**7 + number, errors=400))
        else:
            await rig.bus.wire.publish(f"fc.perf.{STORM_MODELS[number % MODELS]}", _snapshot(2 * 10**7 + number))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*listening)
    return Verdicts(*([seconds[model] - at for model, at in published.items()] for seconds in (stored, told)))


async def _listen(bus: Bus, stream: str, subject: str, stored: dict[str, float], models: tuple[str, ...]) -> None:
    """When the server stored the breach of each model: on one machine there is one clock."""
    start = await bus.last_sequence(stream) + 1
    async for entry in bus.tail(stream, (subject,), start_sequence=start, follow=True):
        data = json.loads(entry.data)["data"]
        if data["verdict"] == "breach" and data["model"] in models:
            stored.setdefault(data["model"], entry.time.timestamp())
            if len(stored) == len(models):
                return


async def measure(folder: Path, count: int, verdicts: int) -> tuple[Storm, tuple[float, float], Verdicts]:
    """Everything that needs daemons."""
    models = tuple(f"bad{n}" for n in range(verdicts))
    async with _rig(folder, models) as rig:
        # First the storm: what it leaves warm is warm in a fleet, too.
        storm = await measure_storm(rig, count)
        rates = await measure_rate(rig, min(count, BACKLOG))
        return storm, rates, await measure_verdicts(rig, models)


def main() -> int:
    """Measure and report."""
    given = arguments(
        __doc__ or "",
        {
            "snapshots": (STORM, "snapshots in the storm"),
            "verdicts": (200, "models that turn bad, one after the other"),
            "models": (1000, "model-days of each kind that are simulated; 0: no simulation"),
        },
    )
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        storm, (per_core, per_second), verdicts = asyncio.run(measure(Path(folder), given.snapshots, given.verdicts))
    report = Report("monitor")
    delay = max(storm.promotions) - median(storm.quiet)
    report.figures = {
        "snapshots_per_second": Figure(per_core, "1/s", required=10_000, at_least=True),
        "verdict_p99_ms": Figure(1000 * percentile(verdicts.stored, 0.99), "ms", required=20),
        "verdict_p50_ms": Figure(1000 * percentile(verdicts.stored, 0.5), "ms"),
        "verdict_told_p99_ms": Figure(1000 * percentile(verdicts.told, 0.99), "ms"),
        "storm_promotion_seconds": Figure(delay, "s", required=2),
        "storm_memory_mib": Figure(storm.peak_mib, "MiB", required=400),
        "storm_seconds": Figure(storm.seconds, "s"),
    }
    report.conditions |= {
        "snapshots": f"{given.snapshots} of {MODELS} models on {NODES} nodes, {len(_snapshot(0))} bytes each",
        "snapshots_per_second_is": "per second of the monitor's processor time, catching up with a backlog",
        "caught_up_per_second": round(per_second),
        "storm_per_core_second": round(storm.per_core),
        "storm_stored_seconds": round(storm.published_seconds, 2),
        "promotions_in_the_storm": len(storm.promotions),
        "promotion_quiet_ms": round(1000 * median(storm.quiet), 1),
        "promotion_storm_median_ms": round(1000 * median(storm.promotions), 1),
        "monitor_before_the_storm_mib": round(storm.before_mib, 1),
        "verdicts": f"{len(verdicts.stored)}, {RATE // APART} a second, among {RATE} snapshots a second, from "
        "publication until stored (told: until copied to FC_EVENTS), each write on disk before it counts",
    }
    if given.models:
        found = monitor_statistics.figures(given.models)
        report.figures |= found.figures
        report.peers |= found.peers
        report.conditions |= found.conditions
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
