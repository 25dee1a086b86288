"""`fleetcast bench client`: what an event costs the job that emits it, what the client costs to import, and whether a
spool whose forwarder is killed again and again loses or doubles anything."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks._report import Figure, Report, arguments, median

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.testing import fast_settings, nats_server

KILLS = 10
FULL_EVENTS = 1_000_000
JOBS = "tests.benchmarks._client_jobs"
LINE_BYTES = 330
IDLE_SECONDS = 60.0
"""Without a new event for so long, what is missing will not come."""


def environment(spool: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLEETCAST_", "PYTHONDONTWRITEBYTECODE"))}
    return {**kept, "FLEETCAST_SPOOL": str(spool), "FLEETCAST_NODE_ID": "bench"}


def job(spool: Path, *words: object) -> dict[str, float]:
    """Run one of the jobs and read what it prints."""
    command = [sys.executable, "-m", JOBS, *map(str, words)]
    done = subprocess.run(command, env=environment(spool), check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def wall_ms(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(Path("/nowhere")))
    return 1000 * (time.perf_counter() - began)


def import_ms(runs: int) -> tuple[float, float]:
    """What importing the client adds to a bare interpreter, and the bare interpreter; in turn, medians."""
    code = "from fleetcast.client import emit, run, snapshot"
    wall_ms(code)
    pairs = [(wall_ms("pass"), wall_ms(code)) for _ in range(runs)]
    bare = median([each[0] for each in pairs])
    return median([each[1] for each in pairs]) - bare, bare


async def killed_forwarder(folder: Path, events: int) -> dict[str, float]:
    """Send *events* through a spool while its forwarder is killed KILLS times."""
    spool = folder / "spool"
    async with (
        nats_server(folder / "nats") as server,
        connect(fast_settings(server.url), node="bench", daemon="bench") as bus,
    ):
        await declare(bus, 1)
        began = time.monotonic()
        emitting = await asyncio.create_subprocess_exec(
            sys.executable, "-m", JOBS, "emit", str(events), env=environment(spool), stdout=subprocess.PIPE
        )
        kills = await _forward_and_kill(bus, server.url, spool, events)
        seconds = time.monotonic() - began
        out, _ = await emitting.communicate()
        if emitting.returncode:
            raise RuntimeError(f"the job that emits ended with {emitting.returncode}")
        seen = await _counts(bus, events)
        return {
            "lost": sum(1 for each in seen if not each),
            "doubled": sum(each - 1 for each in seen if each > 1),
            "refused_by_client": json.loads(out)["lost"],
            "kills": kills,
            "per_second": events / seconds,
        }


async def _forward_and_kill(bus: Bus, url: str, spool: Path, events: int) -> int:
    """Keep a forwarder running until the stream has all or nothing more comes; kill it at even distances on the way."""
    kills, stored, since = 0, 0, time.monotonic()
    forwarder = await _forwarder(url, spool)
    while stored < events and time.monotonic() < since + IDLE_SECONDS:
        await asyncio.sleep(0.05)
        now = await _stored(bus)
        if now > stored:
            stored, since = now, time.monotonic()
        if kills < KILLS and stored >= (kills + 1) * events // (KILLS + 1):
            forwarder.send_signal(signal.SIGKILL)
            await forwarder.wait()
            kills += 1
            forwarder = await _forwarder(url, spool)
    # What was sent a second time would come now.
    await asyncio.sleep(1.0)
    forwarder.send_signal(signal.SIGKILL)
    await forwarder.wait()
    return kills


async def _forwarder(url: str, spool: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", JOBS, "forward", url, str(spool))


async def _stored(bus: Bus) -> int:
    return int((await bus.js.api("STREAM.INFO.FC_EVENTS"))["state"]["messages"])


async def _counts(bus: Bus, events: int) -> bytearray:
    """How often the stream has each event."""
    seen = bytearray(events)
    async for entry in bus.tail("FC_EVENTS", ("fc.ev.run.metrics_logged.*",)):
        seen[json.loads(entry.data)["data"]["step"]] += 1
    return seen


def main() -> int:
    """Measure and report."""
    options = {
        "calls": (200_000, "calls of emit"),
        "runs": (15, "imports"),
        "events": (20_000, "events through the spool"),
    }
    given = arguments(__doc__ or "", options, full=f"{FULL_EVENTS} events through the spool (some ten minutes)")
    events = FULL_EVENTS if given.full else given.events
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as name:
        folder = Path(name)
        (folder / "spool-1").mkdir()
        emitted = job(folder / "spool-1", "time-emit", given.calls, 200)
        bare = job(folder / "spool-1", "time-write", given.calls, LINE_BYTES)
        imported, interpreter = import_ms(given.runs)
        spooled = asyncio.run(killed_forwarder(folder, events))
    conditions = {"calls": given.calls, "imports": given.runs, "events": events, "forwarder_kills": spooled["kills"]}
    report = Report("client", {**conditions, "emit_max_us": round(emitted["max"]), "emit_lost": emitted["lost"]})
    report.figures |= {
        "emit_p50_us": Figure(emitted["p50"], "us", required=10),
        "emit_p99_us": Figure(emitted["p99"], "us", required=100),
        "import_ms": Figure(imported, "ms", required=30),
        "spool_lost": Figure(spooled["lost"], "events", required=0),
        "spool_doubled": Figure(spooled["doubled"], "events", required=0),
        "spool_kills": Figure(spooled["kills"], "kills", required=KILLS, at_least=True),
        "spool_per_second": Figure(spooled["per_second"], "events/s"),
        "emit_durable_p50_us": Figure(emitted["durable_p50"], "us"),
        "emit_durable_p99_us": Figure(emitted["durable_p99"], "us"),
    }
    report.peers["one bare append of as many bytes"] = {"p50_us": bare["p50"], "p99_us": bare["p99"]}
    report.peers["python -c pass"] = {"wall_ms": interpreter}
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
