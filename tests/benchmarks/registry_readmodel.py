"""`fleetcast bench registry_readmodel`: lists over 10,000 models of 10 versions, and a rebuild from 100,000 records.

Lists are asked for over NATS, as people and daemons ask, and gone through page by page. The rebuild begins with an
empty file and ends when every record of FC_REGISTRY is in its tables and the indexes are made.
"""

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from tests.benchmarks._registry import questions, records
from tests.benchmarks._report import Figure, Report, arguments, percentile

from fleetcast.bus import BatchMessage, Bus, Service, connect, declare
from fleetcast.bus.jetstream import Entry
from fleetcast.bus.streams import REGISTRY
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons.registry.projector import Projector
from fleetcast.daemons.registry.queries import QueryDesk
from fleetcast.events.lifecycle import QUERY_SUBJECT
from fleetcast.registry.querying import query
from fleetcast.registry.readmodel import ReadModel

MODELS, VERSIONS = 10_000, 10
RECORDS = 100_000
PAGES = 3
PATIENT = {"request_timeout_seconds": 60.0, "canary_timeout_seconds": 60.0}
"""A connection that is busy is no dead one here."""
BATCH = 1000
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Listing:
    """Milliseconds of every page, by kind of question, and the size of the file."""

    milliseconds: dict[str, list[float]]
    file_mib: float

    @property
    def all(self) -> list[float]:
        return [each for some in self.milliseconds.values() for each in some]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Seconds of one rebuild from so many records, and of their publication."""

    seconds: float
    records: int
    fill_seconds: float


@contextlib.asynccontextmanager
async def local_bus(folder: Path) -> AsyncIterator[Bus]:
    """A bus with its streams on a server of its own."""
    async with (
        nats_server(folder / "nats") as server,
        connect(fast_settings(server.url, **PATIENT), node="bench", daemon="bench") as bus,
    ):
        await declare(bus, 1)
        yield bus


@contextlib.asynccontextmanager
async def following(bus: Bus, path: Path) -> AsyncIterator[Projector]:
    """A projector at work."""
    projector = Projector(bus, path)
    running = asyncio.create_task(projector.run())
    try:
        yield projector
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def publish(bus: Bus, messages: Iterable[BatchMessage]) -> int:
    """Store messages in atomic batches; the last sequence."""
    waiting, last = iter(messages), 0
    while batch := list(islice(waiting, BATCH)):
        last = await bus.batch(batch)
    return last


async def measure_rebuild(folder: Path, count: int = RECORDS) -> Rebuild:
    """Fill a stream, then have it read into an empty file."""
    made = await asyncio.to_thread(lambda: list(islice(records(MODELS, 1 + count // (3 * MODELS)), count)))
    async with local_bus(folder) as bus:
        began = time.monotonic()
        last = await publish(bus, made)
        fill_seconds = time.monotonic() - began
        began = time.monotonic()
        async with following(bus, folder / "rebuilt.sqlite") as projector:
            await projector.ready.wait()
            seconds = time.monotonic() - began
            if projector.as_of_seq < last:
                raise RuntimeError(f"ready at {projector.as_of_seq}, the stream holds {last}")
        return Rebuild(seconds, last, fill_seconds)


def fill_file(path: Path, models: int, versions: int) -> None:
    """Make the tables of a registry, without its stream."""
    model = ReadModel(path)
    model.open()
    # Lists read no audit records: leaving them out saves a minute.
    made = (record for record in records(models, versions) if not record.subject.startswith("fc.reg.log."))
    sequence, now = 0, datetime.now(UTC)
    while batch := list(islice(made, BATCH)):
        entries = [Entry(m.subject, m.data, sequence + n, now) for n, m in enumerate(batch, 1)]
        sequence = model.apply(REGISTRY, entries)
    model.index()
    model.close()


async def measure_lists(folder: Path, rounds: int, models: int = MODELS, versions: int = VERSIONS) -> Listing:
    """Ask every kind of question so often, each for its first pages."""
    path = folder / "lists.sqlite"
    await asyncio.to_thread(fill_file, path, models, versions)
    async with local_bus(folder) as bus:
        desk = QueryDesk(bus, _Filled(bus, path))
        service = Service("bench", "1.0.0", "queries", endpoints={"query": (QUERY_SUBJECT, desk.answer)})
        running = await bus.serve(service)
        chance, times = random.Random(7), dict[str, list[float]]()
        for name, asked in questions(models, chance).items():
            await _pages(bus, name, asked, {})
        for _ in range(rounds):
            for name, asked in questions(models, chance).items():
                await _pages(bus, name, asked, times)
        await running.stop()
    return Listing(times, path.stat().st_size / MIB)


class _Filled(Projector):
    """A projector of a file that is there already: it follows nothing."""

    def __init__(self, bus: Bus, path: Path) -> None:
        super().__init__(bus, path)
        self._model.open()
        self._open = True


async def _pages(bus: Bus, name: str, asked: dict[str, Any], times: dict[str, list[float]]) -> None:
    after = None
    for _ in range(PAGES):
        began = time.perf_counter()
        answer = await query(bus, "versions", {**asked, "after": after})
        times.setdefault(name, []).append(1000 * (time.perf_counter() - began))
        after = answer.result["next"]
        if after is None:
            return


def main() -> int:
    """Measure and report."""
    given = arguments(__doc__ or "", {"rounds": (20, "times that every kind of question is asked")})
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        lists = asyncio.run(measure_lists(Path(folder) / "lists", given.rounds))
        rebuild = asyncio.run(measure_rebuild(Path(folder) / "rebuild"))
    conditions = {
        "models": MODELS,
        "versions_of_each": VERSIONS,
        "list": "query over NATS -> answer decoded; 50 versions a page, the first 3 pages of 19 kinds of question",
        "pages": len(lists.all),
        "file_mib": round(lists.file_mib),
        "worst_kinds_p95_ms": _worst(lists),
        "records": rebuild.records,
        "record": "a version's content, its entry, its audit record, a model's slots: all make rows",
        "fill_seconds": round(rebuild.fill_seconds, 2),
    }
    report = Report("registry_readmodel", conditions)
    report.figures["list_p95_ms"] = Figure(percentile(lists.all, 0.95), "ms", required=50)
    report.figures["list_p50_ms"] = Figure(statistics.median(lists.all), "ms")
    report.figures["list_worst_ms"] = Figure(max(lists.all), "ms")
    report.figures["rebuild_100k_seconds"] = Figure(rebuild.seconds * RECORDS / rebuild.records, "s", required=20)
    return report.finish(as_json=given.json)


def _worst(lists: Listing) -> dict[str, float]:
    p95 = {name: round(percentile(times, 0.95), 1) for name, times in lists.milliseconds.items()}
    return dict(sorted(p95.items(), key=lambda item: -item[1])[:6])


if __name__ == "__main__":
    raise SystemExit(main())
