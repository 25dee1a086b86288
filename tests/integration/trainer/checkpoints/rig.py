"""Runs on a real server, and the checkpoints of one or two nodes, in this process."""

import asyncio
import json
import os
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.testing import heartbeat
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.checkpoints.watch import CheckpointWatch
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import Payload, Wants
from fleetcast.events.runs import RunCheckpointSaved
from fleetcast.events.state import Cause
from fleetcast.events.training import TrainingRunState
from fleetcast.registry.commands import stamp

LIMIT_SECONDS = 60.0


def lane(**checkpoints: Any) -> LaneDefinition:
    return LaneDefinition.model_validate({"name": "hex8", "command": ["train"], "checkpoints": checkpoints})


@dataclass
class Node:
    """A trainer's checkpoints on one node."""

    name: str
    bus: Bus
    data: Path
    fetch_seconds: float = 30.0
    store: RunStore = field(init=False)
    checkpoints: Checkpoints = field(init=False)

    def __post_init__(self) -> None:
        self.store = RunStore(TrainingLedger(self.bus), node=self.name)
        self.checkpoints = Checkpoints(
            self.bus, self.store, self.data, node=self.name, fetch_seconds=self.fetch_seconds
        )

    async def new_run(self, run: str, definition: LaneDefinition) -> TrainingRunState:
        """A run that waits for a node."""
        now = stamp(datetime.now(UTC))
        state = TrainingRunState(
            run=run,
            lane=definition.name,
            model=definition.model,
            definition=definition.kept(),
            created_at=now,
            at=now,
            cause=Cause(event=f"export-{run}", sequence=1, by="/test", correlation="c"),
        )
        return (await self.store.save(None, state)).run

    async def claim(self, run: str) -> TrainingRunState:
        """This node takes a run, whoever has it."""
        now = datetime.now(UTC)
        taken = await self.store.change(
            run, lambda there: rules.claimed(there, node=self.name, pid=1, device="cpu", now=now)
        )
        return taken.run

    async def started(self, run: str, **checkpoints: Any) -> tuple[TrainingRunState, CheckpointWatch, Path]:
        """A new run of this node, its watch, and its folder."""
        definition = lane(**checkpoints)
        await self.new_run(run, definition)
        return await self.taken(run)

    async def taken(self, run: str) -> tuple[TrainingRunState, CheckpointWatch, Path]:
        """A run that this node takes now."""
        state = await self.claim(run)
        definition = LaneDefinition.of(state.definition)
        folder = await self.checkpoints.prepare(state, definition)
        return state, CheckpointWatch(self.checkpoints, state, definition), folder

    async def run(self, run: str) -> TrainingRunState:
        kept = await self.store.find(run)
        assert kept is not None
        return kept.run

    async def say(self, payload: Payload) -> None:
        await self.bus.publish(new_event(payload, source=f"/fleet/{self.name}/job"))

    async def announce(self, state: TrainingRunState, path: Path, **more: Any) -> None:
        """The job says that a checkpoint is complete."""
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size
        said = {"epoch": 0, "claim": state.claim, "size": size, "path": str(path), **more}
        await self.say(RunCheckpointSaved(run_id=state.run, node=self.name, **said))

    async def beat(self) -> None:
        """The heartbeat of a trainer on this node."""
        status = heartbeat(
            self.name,
            at="",
            daemon="trainer",
            labels={"gpu": "simulated"},
            wants=Wants(models=(), lanes=()),
            data=str(self.data),
        )
        await self.bus.kv_put("fc_nodes", f"{self.name}.trainer", status.model_dump_json().encode())

    async def told(self, run: str) -> list[dict[str, Any]]:
        """The data of all checkpoint events of a run."""
        subject = f"fc.ev.run.checkpoint_saved.{run}"
        return [json.loads(entry.data)["data"] async for entry in self.bus.tail(EVENTS, (subject,))]


def save(path: Path, data: bytes = b"weights" * 100) -> Path:
    """A checkpoint as a job writes it: under another name first."""
    spare = path.with_name(f"{path.name}.tmp")
    with zipfile.ZipFile(spare, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("m/data.pkl", data)
    spare.rename(path)
    return path


def save_sharded(path: Path) -> Path:
    """A checkpoint as torch's distributed checkpoint leaves it."""
    path.mkdir()
    for shard in range(2):
        (path / f"__{shard}_0.distcp").write_bytes(bytes([shard]) * 50_000)
    (path / ".metadata").write_bytes(b"\x80\x04meta")
    return path


def tree(path: Path) -> dict[str, bytes]:
    """What lies below a path, by name; of a file, the file."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {str(p.relative_to(path.parent)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def age(path: Path, seconds: float) -> None:
    """Have a file be older than it is."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - int(seconds * 10**9)))


async def until(what: str, condition: Callable[[], Awaitable[Any]]) -> Any:
    """What a condition gives, once it gives something."""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                if found := await condition():
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT_SECONDS:g} s: {what}") from None
