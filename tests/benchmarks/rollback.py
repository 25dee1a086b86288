"""`fleetcast bench rollback`: from a published breach until the last of 16 local nodes serves the former version.

A breach is what a monitor publishes: `model.rollback.requested`. The remedy daemon takes it, runs `model_rollback`, the
registry daemon moves the slot, every node its pointer; server and daemons are processes, as on a fleet, and every state
and step is on disk before it is acted on (`sync_interval: always`).
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.benchmarks._report import Figure, Report, arguments, median, percentile

from fleetcast.bus.streams import EVENTS
from fleetcast.config.remedy import RemedySettings
from fleetcast.config.settings import BusSettings, LogSettings
from fleetcast.daemons.testing import DaemonProcess, Fleet, RegistryProcess, RemedyProcess, fleet, node_settings
from fleetcast.events.lifecycle import StageName
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunState, RunPhase, run_subject
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import AnyCommand, Move, Promote

MODEL = "bench"
GOOD, BAD = "1", "2"
REQUIRED_SECONDS = 1.0
SECONDS = 60.0
REST_SECONDS = 0.3
"""Before each breach: the server copies facts and records of what was before."""
MANY = 1_000_000
"""The breaker is not what is measured."""


@dataclass(frozen=True, slots=True)
class Rollbacks:
    """Seconds from the storage of each breach: until all nodes serve, and until the playbook had ended."""

    served: list[float]
    ended: list[float]


@contextlib.asynccontextmanager
async def _daemons(folder: Path, url: str) -> AsyncIterator[None]:
    """A registry daemon and a remedy daemon, with the settings of a fleet."""
    made: list[DaemonProcess] = []
    try:
        kinds: dict[str, type[DaemonProcess]] = {"registry": RegistryProcess, "remedy": RemedyProcess}
        for name, kind in kinds.items():
            base = node_settings(folder, name, url)
            update = {
                "bus": BusSettings(url=url),
                "log": LogSettings(format="json"),
                "remedy": RemedySettings(rollbacks_per_model=MANY, rollbacks_per_fleet=MANY),
            }
            (folder / name).mkdir(parents=True, exist_ok=True)
            process = kind(name, folder / name, base.model_copy(update=update))
            process.start()
            made.append(process)
        for process in made:
            await process.until_ready()
        yield
    finally:
        for process in made:
            process.kill()


async def measure(folder: Path, nodes: int, count: int) -> Rollbacks:
    """Roll back so often."""
    async with fleet(folder, nodes=nodes) as f, _daemons(folder, f.server.url):
        for version in (GOOD, BAD):
            path = await asyncio.to_thread(f.publish, f"{version}.bin", version.encode() * 2**20)
            await f.promote(MODEL, version, path)
            await f.until_served(MODEL, version, seconds=120)
        client = RegistryClient(f.bus, actor="/bench")
        rollbacks = Rollbacks([], [])
        for _ in range(count):
            served, ended = await _roll_back(f)
            rollbacks.served.append(served)
            rollbacks.ended.append(ended)
            await _restore(f, client)
        return rollbacks


async def _roll_back(f: Fleet) -> tuple[float, float]:
    """Publish a breach, and wait; seconds until it was served everywhere, and until the run had ended."""
    await asyncio.sleep(REST_SECONDS)
    body = {"version": BAD, "requested_by": "monitor", "reasons": ["error rate 20 %, limit 5 %"]}
    sequence = await f.say(f"fc.ev.model.rollback_requested.{MODEL}", body)
    await f.until_served(MODEL, GOOD, seconds=SECONDS)
    links = [node.data / "models" / MODEL / "current" for node in f.nodes.values()]
    asked = await _stored_at(f, sequence)
    served = max(link.lstat().st_ctime for link in links) - asked
    return served, await _until_ended(f)


async def _stored_at(f: Fleet, sequence: int) -> float:
    async for entry in f.bus.tail(EVENTS, ("fc.ev.model.rollback_requested.*",), start_sequence=sequence):
        return entry.time.timestamp()
    raise RuntimeError(f"event {sequence} is not there")


async def _until_ended(f: Fleet) -> float:
    async with asyncio.timeout(SECONDS):
        while True:
            entries = await f.bus.newest("FC_REMEDY", (run_subject("*"),))
            runs = sorted((PlaybookRunState.model_validate_json(e.data) for e in entries), key=lambda run: run.asked_at)
            if runs and runs[-1].phase in RUN_ENDED:
                break
            await asyncio.sleep(0.02)
    last = runs[-1]
    if last.phase is not RunPhase.SUCCEEDED:
        raise RuntimeError(f"the playbook {last.phase}: {json.dumps(last.phase_detail)}")
    stored = next(e for e in entries if e.subject == run_subject(last.run))
    return (stored.time - datetime.fromisoformat(last.asked_at)).total_seconds()


async def _restore(f: Fleet, client: RegistryClient) -> None:
    """Let the version that was quarantined in again, and serve it."""
    commands: tuple[AnyCommand, ...] = (
        Move(model=MODEL, version=BAD, stage=StageName.DEVELOPMENT),
        Promote(model=MODEL, version=BAD),
    )
    for command in commands:
        answer = await client.transition(command, reason="measured")
        if not answer.accepted:
            raise RuntimeError(f"{command.do} was {answer.outcome}: {answer.message}")
    await f.until_served(MODEL, BAD, seconds=SECONDS)


def main() -> int:
    """Measure and report."""
    given = arguments(
        __doc__ or "", {"nodes": (16, "nodes that serve the model"), "rollbacks": (30, "rollbacks that are timed")}
    )
    report = Report("rollback")
    with tempfile.TemporaryDirectory(prefix="fleetcast-bench-") as name:
        times = asyncio.run(measure(Path(name), given.nodes, given.rollbacks))
    report.conditions |= {
        "nodes": given.nodes,
        "rollbacks": given.rollbacks,
        "breach_to_served": "model.rollback.requested stored -> `current` of the last node is the former version",
        "sync_interval": "always",
    }
    report.figures["breach_to_served_p95_seconds"] = Figure(
        percentile(times.served, 0.95), "s", required=REQUIRED_SECONDS
    )
    report.figures["breach_to_served_p50_seconds"] = Figure(median(times.served), "s")
    report.figures["breach_to_served_max_seconds"] = Figure(max(times.served), "s")
    report.figures["playbook_p95_seconds"] = Figure(percentile(times.ended, 0.95), "s")
    return report.finish(as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
