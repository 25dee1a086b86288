"""What the benchmark of the client starts as processes of their own: jobs that emit, and a forwarder that is killed."""

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.benchmarks._report import percentile, quiet_logs

WARM_UP = 2000
BACKLOG_BYTES = 32 * 2**20
"""A job that is faster than any forwarder waits here: beyond 64 MiB the spool drops cheap events, as it should."""


def fields(step: int) -> dict[str, object]:
    """Of an event as a job sends it: some 330 bytes in the spool."""
    return {"run_id": f"run-{step % 50}", "step": step, "epoch": 3, "metrics": {"loss": 0.25, "accuracy": 0.75}}


def time_emit(calls: int, durable: int) -> None:
    """Print the time of single calls in microseconds."""
    from fleetcast.client import emit, lost

    def timed(kind: str, count: int) -> list[float]:
        taken = []
        for step in range(count):
            given = fields(step)
            began = time.perf_counter_ns()
            emit(kind, **given)
            taken.append((time.perf_counter_ns() - began) / 1000)
        return taken

    timed("run.metrics.logged", WARM_UP)
    cheap, dear = timed("run.metrics.logged", calls), timed("run.epoch.logged", durable)
    found = {"p50": percentile(cheap, 0.5), "p99": percentile(cheap, 0.99), "max": max(cheap)}
    print(
        json.dumps(
            {**found, "durable_p50": percentile(dear, 0.5), "durable_p99": percentile(dear, 0.99), "lost": lost()}
        )
    )


def time_write(calls: int, size: int) -> None:
    """Print the time of what no spool can go below: one system call that appends as many bytes."""
    line, taken = b"x" * size, []
    file = os.open(Path(os.environ["FLEETCAST_SPOOL"]) / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(calls):
        began = time.perf_counter_ns()
        os.write(file, line)
        taken.append((time.perf_counter_ns() - began) / 1000)
    print(json.dumps({"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99)}))


def emit_all(events: int) -> None:
    """Emit so many events, each with a number of its own; print how many the client says are lost."""
    from fleetcast.client import emit, lost

    spool = Path(os.environ["FLEETCAST_SPOOL"])
    for step in range(events):
        if step % 5000 == 0:
            while waiting_bytes(spool) > BACKLOG_BYTES:
                time.sleep(0.2)
        emit("run.metrics.logged", **fields(step))
    print(json.dumps({"lost": lost()}))


def waiting_bytes(spool: Path) -> int:
    """Bytes in the spool that no forwarder has taken yet."""
    total = 0
    for path in spool.glob("*.jsonl"):
        # The forwarder removes what it has taken at any moment.
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


async def forward(url: str, spool: str) -> None:
    """Forward until killed."""
    # Here, for jobs that are measured have none of it.
    from fleetcast.bus import connect
    from fleetcast.bus.forwarding import Forwarder
    from fleetcast.bus.testing import fast_settings

    quiet_logs()
    async with connect(fast_settings(url), node="bench", daemon="forwarder") as bus:
        forwarder = Forwarder(bus, spool, node="bench", deadline_seconds=30)
        with await forwarder.open() as reader:
            while True:
                if not (await forwarder.forward(reader)).records:
                    await asyncio.sleep(0.1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["time-emit", calls, durable]:
            time_emit(int(calls), int(durable))
        case ["time-write", calls, size]:
            time_write(int(calls), int(size))
        case ["emit", events]:
            emit_all(int(events))
        case ["forward", url, spool]:
            asyncio.run(forward(url, spool))
