"""`fleetcast bench promote`: from an event to the first byte and to the installed file, 64 MB, three nodes on loopback.

Distributors are up for more than ten seconds and promotions come at random phases of libtorrent's one-second tick,
which is what a naive design waits for.
"""

import asyncio
import os
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks._report import Figure, Report, arguments, median, percentile

from fleetcast.daemons.testing import Fleet, fleet

SIZE = 64 * 10**6
WARM_SECONDS = 11.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One promotion: seconds from its publication, and first bytes in milliseconds."""

    installed_seconds: float
    first_byte_ms: list[float]
    first_piece_ms: list[float]
    first_byte_from_event_ms: list[float]


async def promote(f: Fleet, version: str) -> Sample:
    """Promote one version and wait until all nodes serve it."""
    path = await asyncio.to_thread(f.publish, f"{version}.bin", os.urandom(SIZE))
    await asyncio.sleep(random.uniform(0.0, 1.2))
    published, began = time.time(), time.monotonic()
    await f.promote("bench", version, path)
    await f.until_served("bench", version, seconds=60)
    installed = time.monotonic() - began
    offered = _moment(f, "node-1", "artifact.announcing", version)
    first = _moments(f, "transfer.first_byte", version)
    pieces = _moments(f, "transfer.first_piece", version)
    await asyncio.to_thread(path.unlink)
    return Sample(
        installed,
        [1000 * (t - offered) for t in first],
        [1000 * (t - offered) for t in pieces],
        [1000 * (t - published) for t in first],
    )


def _moments(f: Fleet, event: str, version: str) -> list[float]:
    """When it happened on each receiver."""
    return [_moment(f, name, event, version) for name in f.nodes if name != "node-1"]


def _moment(f: Fleet, node: str, event: str, version: str) -> float:
    entries = [e for e in f.nodes[node].logged(event) if e.get("version") == version]
    at = entries[-1]["at_unix"]
    if not isinstance(at, float):
        raise TypeError(f"{event} of {node} has no time")
    return at


async def measure(folder: Path, runs: int) -> list[Sample]:
    """All samples; one promotion before them warms what only the first one does."""
    async with fleet(folder, nodes=3) as f:
        await asyncio.sleep(WARM_SECONDS)
        await promote(f, "warm")
        return [await promote(f, f"v{n}") for n in range(runs)]


def main() -> int:
    """Measure and report."""
    given = arguments(__doc__ or "", {"runs": (10, "promotions")})
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        samples = asyncio.run(measure(Path(folder), given.runs))
    first = [ms for s in samples for ms in s.first_byte_ms]
    from_event = [ms for s in samples for ms in s.first_byte_from_event_ms]
    installs = [s.installed_seconds for s in samples]
    conditions = {
        "bytes": SIZE,
        "nodes": 3,
        "promotions": given.runs,
        "first_byte": "artifact.available published -> a receiver's daemon knows of its first payload byte",
        "first_piece": "artifact.available published -> first piece of a receiver read back from its disk and proven",
        "installed": "model.promoted published -> current points to it on all three nodes",
    }
    report = Report("promote", conditions)
    report.figures["first_byte_p95_ms"] = Figure(percentile(first, 0.95), "ms", required=100)
    report.figures["first_byte_p50_ms"] = Figure(median(first), "ms")
    pieces = [ms for s in samples for ms in s.first_piece_ms]
    report.figures["first_piece_p50_ms"] = Figure(median(pieces), "ms")
    report.figures["first_piece_p95_ms"] = Figure(percentile(pieces, 0.95), "ms")
    report.figures["event_to_first_byte_p95_ms"] = Figure(percentile(from_event, 0.95), "ms", goal=250)
    report.figures["install_64mb_3_nodes_seconds"] = Figure(median(installs), "s", required=3.0)
    report.figures["install_64mb_3_nodes_worst_seconds"] = Figure(max(installs), "s")
    report.conditions["first_byte_samples_ms"] = [round(ms) for ms in sorted(first)]
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
