"""`fleetcast bench registry`: transitions on one server and on three, a slot change until 16 nodes serve it, lists over
10,000 models of 10 versions, and a rebuild of the read model from 100,000 records.

A transition is a promotion that moves a slot, as a client asks for it and has its answer: with a full list of former
versions, and with every message on disk before it is acknowledged (`sync_interval: always`).
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.benchmarks._report import Figure, Report, arguments, median, percentile
from tests.benchmarks.registry_readmodel import MODELS, RECORDS, VERSIONS, measure_lists, measure_rebuild

from fleetcast.bus import BatchMessage, Bus, connect
from fleetcast.bus.streams import REGISTRY
from fleetcast.bus.testing import nats_cluster, nats_server
from fleetcast.config.settings import BusSettings, LogSettings
from fleetcast.daemons.testing import Fleet, RegistryProcess, fleet, node_settings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import Cause, VersionState, slot_subject
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, AnyCommand, Promote, Reserve

MODEL = "bench"
CYCLE = 8
"""Versions that are promoted in turn: more than a slot remembers, so that its list of former ones is full."""
WARM = 50
BESIDE = 200
"""Promotions without a rest, and messages stored alone."""
REST_SECONDS = 0.05
"""Before each promotion: the server copies facts and records of the one before, each with a write to the disk of its
own, and a fleet promotes a few times an hour."""
REST_SUBJECT = "fc.reg.state.bench.alone"
FLIPS = 30
FLIP_REST_SECONDS = 0.3
FLIP_SECONDS = 30.0


def _version(number: int) -> VersionState:
    file = ContentFile(path="m.pt", size=number, sha256=f"{number:064x}", pieces_root="0" * 64)
    content = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    return VersionState(
        model=MODEL,
        version=str(number),
        artifact=content.artifact,
        content=content,
        origin=Origin(node="bench", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=Cause(event=f"e{number}", sequence=0, by="/bench", correlation="c"),
        at="2026-01-01T00:00:00.000Z",
    )


@contextlib.asynccontextmanager
async def _daemon(folder: Path, bus: BusSettings) -> AsyncIterator[RegistryProcess]:
    """One registry daemon, with the settings of a fleet."""
    made = node_settings(folder, "registry", bus.url)
    settings = made.model_copy(update={"bus": bus, "log": LogSettings(format="json")})
    (folder / "registry").mkdir(parents=True, exist_ok=True)
    process = RegistryProcess("registry", folder / "registry", settings)
    try:
        process.start()
        await process.until_ready()
        yield process
    finally:
        process.kill()


async def _ask(client: RegistryClient, command: AnyCommand) -> Answer:
    answer = await client.transition(command, reason="measured")
    if not answer.accepted:
        raise RuntimeError(f"{command.do} was {answer.outcome}: {answer.message}")
    return answer


@dataclass(frozen=True, slots=True)
class Transitions:
    """Milliseconds of promotions with a rest between them, of others without, and of messages stored alone: what the
    disk and the servers take of each."""

    rested: list[float]
    pressed: list[float]
    stored: list[float]


async def measure_transitions(folder: Path, settings: BusSettings, count: int) -> Transitions:
    """Ask for so many promotions, one after the other."""
    async with _daemon(folder, settings), connect(settings, node="bench", daemon="bench") as bus:
        client = RegistryClient(bus, actor="/bench")
        for number in range(1, CYCLE + 1):
            await _ask(client, Reserve(state=_version(number)))
        turns = cycle(range(1, CYCLE + 1))

        async def promote() -> object:
            return await _ask(client, Promote(model=MODEL, version=str(next(turns))))

        async def store() -> object:
            return await bus.batch([BatchMessage(REST_SUBJECT, b"x")])

        await _times(promote, WARM, rest_seconds=0)
        rested = await _times(promote, count, rest_seconds=REST_SECONDS)
        pressed = await _times(promote, BESIDE, rest_seconds=0)
        return Transitions(rested, pressed, await _times(store, BESIDE, rest_seconds=REST_SECONDS))


async def _times(work: Callable[[], Awaitable[object]], count: int, *, rest_seconds: float) -> list[float]:
    times = []
    for _ in range(count):
        await asyncio.sleep(rest_seconds)
        began = time.perf_counter()
        await work()
        times.append(1000 * (time.perf_counter() - began))
    return times


async def on_one_server(folder: Path, count: int) -> Transitions:
    """As `measure_transitions`, on a server of its own."""
    async with nats_server(folder / "nats") as server:
        return await measure_transitions(folder, BusSettings(url=server.url), count)


async def on_three_servers(folder: Path, count: int) -> Transitions:
    """As `measure_transitions`, on a cluster whose streams have three copies."""
    async with nats_cluster(folder / "nats") as cluster:
        return await measure_transitions(folder, BusSettings(url=cluster.url, replicas=3), count)


async def measure_flips(folder: Path, nodes: int) -> list[float]:
    """Milliseconds from the storage of a slot order until the last node's pointer was made: both moments are of this
    machine's clock, as the server and the file system noted them."""
    async with fleet(folder, nodes=nodes) as f, _daemon(folder, BusSettings(url=f.server.url)):
        versions = ("1", "2")
        for version in versions:
            path = await asyncio.to_thread(f.publish, f"{version}.bin", version.encode() * 2**20)
            await f.promote(MODEL, version, path)
            await f.until_served(MODEL, version, seconds=120)
        await _until_reported(f, set(versions))
        client = RegistryClient(f.bus, actor="/bench")
        return [await _flip(f, client, versions[turn % 2]) for turn in range(FLIPS)]


async def _until_reported(f: Fleet, versions: set[str]) -> None:
    """The registry orders what nodes say they hold."""
    async with asyncio.timeout(FLIP_SECONDS):
        while True:
            statuses = [s for s in (await f.statuses()).values() if s.daemon == "distributor"]
            held = [{v.version for m in s.models for v in m.installed} for s in statuses]
            if sum(versions <= each for each in held) >= len(f.nodes):
                return
            await asyncio.sleep(0.2)


async def _flip(f: Fleet, client: RegistryClient, version: str) -> float:
    await asyncio.sleep(FLIP_REST_SECONDS)
    answer = await _ask(client, Promote(model=MODEL, version=version))
    links = [node.data / "models" / MODEL / "current" for node in f.nodes.values()]
    await f.until_served(MODEL, version, seconds=FLIP_SECONDS)
    ordered = await _ordered_at(f.bus, answer.generation)
    return 1000 * (max(link.lstat().st_ctime for link in links) - ordered)


async def _ordered_at(bus: Bus, generation: int) -> float:
    """When the server stored the slot order, in seconds of the epoch."""
    entry = await bus.last(REGISTRY, slot_subject(MODEL))
    if entry is None or f'"generation":{generation},' not in entry.data.decode():
        raise RuntimeError(f"generation {generation} is not there")
    return entry.time.timestamp()


def main() -> int:
    """Measure and report."""
    given = arguments(
        __doc__ or "",
        {
            "transitions": (600, "promotions that are timed on one server, and again on three; 0: none"),
            "nodes": (16, "nodes whose pointers flip; 0: leave that out"),
            "rounds": (20, "times that every kind of list is asked for; 0: no lists, no rebuild"),
        },
    )
    report = Report("registry")
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as name:
        folder = Path(name)
        if given.transitions:
            _transitions(report, folder, given.transitions)
        if given.nodes:
            _flips(report, folder, given.nodes)
        if given.rounds:
            _read_model(report, folder, given.rounds)
    return report.finish(as_json=given.json)


def _transitions(report: Report, folder: Path, count: int) -> None:
    report.conditions |= {
        "transitions": count,
        "transition": "a promotion that moves a slot with 5 former versions; RegistryClient.transition -> answer",
        "sync_interval": "always",
        "rest_ms": round(1000 * REST_SECONDS),
    }
    one = asyncio.run(on_one_server(folder / "one", count))
    three = asyncio.run(on_three_servers(folder / "three", count))
    for key, times, bound in (("transition", one, 25), ("transition_3_servers", three, 50)):
        report.figures[f"{key}_p99_ms"] = Figure(percentile(times.rested, 0.99), "ms", required=bound)
        report.figures[f"{key}_p50_ms"] = Figure(median(times.rested), "ms")
        report.figures[f"{key}_without_rest_p99_ms"] = Figure(percentile(times.pressed, 0.99), "ms")
        report.figures[f"{key}_without_rest_p50_ms"] = Figure(median(times.pressed), "ms")
    report.peers |= {
        "one message stored, 1 server": _spread(one.stored),
        "one message stored, 3 servers": _spread(three.stored),
    }


def _spread(times: list[float]) -> dict[str, float]:
    return {"p50_ms": round(median(times), 2), "p99_ms": round(percentile(times, 0.99), 2)}


def _flips(report: Report, folder: Path, nodes: int) -> None:
    times = asyncio.run(measure_flips(folder / "flips", nodes))
    report.conditions |= {
        "flip": f"slot order stored -> `current` of all {nodes} local nodes points to it; {FLIPS} promotions between "
        "two versions that all of them hold",
    }
    report.figures[f"flip_{nodes}_nodes_p95_ms"] = Figure(percentile(times, 0.95), "ms", required=500)
    report.figures[f"flip_{nodes}_nodes_p50_ms"] = Figure(median(times), "ms")


def _read_model(report: Report, folder: Path, rounds: int) -> None:
    lists = asyncio.run(measure_lists(folder / "lists", rounds))
    rebuild = asyncio.run(measure_rebuild(folder / "rebuild"))
    report.conditions |= {
        "list": f"query over NATS -> answer decoded, {MODELS} models of {VERSIONS} versions, 50 a page, "
        f"{len(lists.all)} pages of 19 kinds of question",
        "rebuild": f"{rebuild.records} records in FC_REGISTRY -> all tables and indexes of an empty file",
    }
    report.figures["list_p95_ms"] = Figure(percentile(lists.all, 0.95), "ms", required=50)
    report.figures["rebuild_100k_seconds"] = Figure(rebuild.seconds * RECORDS / rebuild.records, "s", required=20)


if __name__ == "__main__":
    raise SystemExit(main())
