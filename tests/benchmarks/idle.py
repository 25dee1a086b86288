"""`fleetcast bench idle`: resident memory of a distributor with all its processes, idle and during a 1 GiB transfer."""

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

import psutil
from tests.benchmarks._report import Figure, Report, arguments

from fleetcast.daemons.testing import NodeProcess, fleet

MIB = 2**20
SETTLE_SECONDS = 12.0


def resident_mib(node: NodeProcess) -> float:
    """RSS of the daemon and all its descendants, shared pages counted in each of them."""
    if node.process is None:
        raise RuntimeError(f"{node.name} does not run")
    parent = psutil.Process(node.process.pid)
    total = 0
    for process in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MIB


def write_random(path: Path, size: int) -> None:
    """A file that does not compress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


async def measure(folder: Path, size: int) -> tuple[float, float, float, float]:
    """Idle, and the peaks of receiver and origin during a transfer of *size* bytes, in MiB; and its seconds."""
    async with fleet(folder, nodes=2) as f:
        await asyncio.sleep(SETTLE_SECONDS)
        idle = max(resident_mib(n) for n in f.nodes.values())
        path = folder / "publish" / "big.bin"
        await asyncio.to_thread(write_random, path, size)
        peaks = dict.fromkeys(f.nodes, 0.0)
        began = time.monotonic()
        await f.promote("big", "1", path)
        served = asyncio.create_task(f.until_served("big", "1", seconds=300))
        while not served.done():
            for name, node in f.nodes.items():
                peaks[name] = max(peaks[name], resident_mib(node))
            await asyncio.sleep(0.05)
        await served
        return idle, peaks["node-2"], peaks["node-1"], time.monotonic() - began


def main() -> int:
    """Measure and report."""
    given = arguments(__doc__ or "", {"mib": (1024, "size of the transfer in MiB")})
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as folder:
        idle, receiver, origin, seconds = asyncio.run(measure(Path(folder), given.mib * MIB))
    report = Report("idle", {"transfer_mib": given.mib, "transfer_seconds": round(seconds, 2), "counted": "sum of RSS"})
    report.figures["idle_rss_mib"] = Figure(idle, "MiB", required=160)
    report.figures["transfer_rss_mib"] = Figure(max(receiver, origin), "MiB", required=350)
    report.peers["by role, peak"] = {"receiver_mib": receiver, "origin_mib": origin}
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
