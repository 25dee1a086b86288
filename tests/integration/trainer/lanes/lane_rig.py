"""A registry's records and the lane desks of trainers on one real server, in this process. Data sets come as an origin
brings them: reserved, then named the newest of their lane. Nodes run nothing here: a run ends when a test says so."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import EVENTS, TRAINING, WORK
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.config.trainer import TrainerSettings
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.daemons.trainer.lanes.answering import LaneService
from fleetcast.daemons.trainer.lanes.commands import LaneAnswer, NodeVerdict
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.lanes.desk import LaneDesk
from fleetcast.daemons.trainer.lanes.loading import Lanes, Loaded
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import Cause, SlotEntry, VersionState
from fleetcast.events.training import (
    LaneState,
    TrainingPhase,
    TrainingRunState,
    lane_subject,
    training_subject,
)
from fleetcast.registry.registry import Registry

LIMIT_SECONDS = 60.0


def lane(name: str = "hex8_2p", **fields: Any) -> LaneDefinition:
    """A lane; *fields* as in its table."""
    return LaneDefinition.model_validate({"name": name, "command": ["train", "{data}"], **fields})


def lanes(*definitions: LaneDefinition) -> Lanes:
    """As if they had been read from a file."""
    return Lanes({each.name: Loaded(each, Path("lanes.toml")) for each in definitions})


@dataclass
class Rig:
    """What is there all the time."""

    url: str
    bus: Bus
    server: LocalServer | None = None
    sequence: int = 0

    async def export(self, lane: str, version: str, new: int, total: int | None = None, *, order: bool = True) -> str:
        """A data set, as its origin brings it; its artifact."""
        state = _data_set(lane, version, new, new if total is None else total)
        registry = Registry(self.bus)
        await registry.reserve_version(state, request=f"reserve/{lane}/{version}", actor="/test")
        if order:
            await self.order(lane, version, state.artifact)
        return state.artifact

    async def order(self, lane: str, version: str, artifact: str) -> None:
        """Name a data set the newest of its lane."""
        self.sequence += 1
        cause = Cause(event=f"export-{lane}-{version}", sequence=self.sequence, by="/test", correlation=f"c-{version}")
        entry = SlotEntry(version=version, artifact=artifact)
        request = f"order/{lane}/{version}"
        await Registry(self.bus).order_slot(lane, entry, kind=Kind.DATASET, cause=cause, request=request, actor="/test")

    async def ledger(self, lane: str) -> LaneState | None:
        entry = await self.bus.last(TRAINING, lane_subject(lane))
        return None if entry is None else LaneState.model_validate_json(entry.data)

    async def runs(self, lane: str) -> list[TrainingRunState]:
        """The runs of a lane, oldest first."""
        entries = await self.bus.newest(TRAINING, (training_subject("*"),))
        found = [TrainingRunState.model_validate_json(entry.data) for entry in entries]
        return sorted((run for run in found if run.lane == lane), key=lambda run: run.created_at)

    async def jobs(self, lane: str) -> list[dict[str, Any]]:
        """What waits in the queue of class gpu."""
        entry = await self.bus.last(WORK, f"fc.work.gpu.{lane}")
        return [] if entry is None else [json.loads(entry.data)]

    async def take_job(self, lane: str) -> None:
        """Take a lane's job out of the queue, as if somebody had lost it."""
        entry = await self.bus.last(WORK, f"fc.work.gpu.{lane}")
        assert entry is not None
        await self.bus.js.api(f"STREAM.MSG.DELETE.{WORK}", {"seq": entry.sequence})

    async def facts(self, *subjects: str) -> list[dict[str, Any]]:
        """The data of the events under *subjects*, in order."""
        return [json.loads(entry.data)["data"] async for entry in self.bus.tail(EVENTS, subjects)]

    async def claim(self, run: str) -> None:
        """Have a node own a run."""
        store = RunStore(TrainingLedger(self.bus), node="gpu-1")
        now = store.ledger.clock()
        await store.change(run, lambda there: rules.claimed(there, node="gpu-1", pid=1, device="cpu", now=now))

    async def end(self, run: str, phase: TrainingPhase = TrainingPhase.SUCCEEDED) -> None:
        """End a run, as its owner does."""
        store = RunStore(TrainingLedger(self.bus), node="t")
        now = store.ledger.clock()
        await store.change(run, lambda there: rules.finished(there, phase, rules.Ended(phase.value), now))

    async def one_run(self, lane: str, count: int = 1) -> TrainingRunState:
        """The newest run of a lane, once there are *count*; its job is there too."""

        async def look() -> TrainingRunState | None:
            found = await self.runs(lane)
            jobs = await self.jobs(lane)
            return found[-1] if len(found) == count and jobs else None

        run: TrainingRunState = await until(f"{count} runs of {lane}, and a job", look)
        return run


@dataclass
class Trainer:
    """The lane desk of one trainer."""

    bus: Bus
    desk: LaneDesk
    service: LaneService
    work: "list[asyncio.Task[None]]"

    async def ask(self, **request: Any) -> LaneAnswer:
        body = {"by": "ann", "reason": "test", **request} if request["ask"] not in {"list", "show"} else request
        return LaneAnswer.model_validate_json(await self.service.answer(json.dumps(body).encode()))

    async def stop(self) -> None:
        """End it at once."""
        for task in self.work:
            task.cancel()
        await asyncio.gather(*self.work, return_exceptions=True)


async def until(what: str, condition: Callable[[], Awaitable[Any]]) -> Any:
    """What a condition gives, once it gives something."""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                found = await condition()
                if found:
                    return found
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT_SECONDS:g} s: {what}") from None


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """A server with everything declared."""
    async with nats_server(folder / "nats") as server, connect(fast_settings(server.url), node="t", daemon="t") as bus:
        await declare(bus, 1)
        yield Rig(server.url, bus, server)


@asynccontextmanager
async def trainer(made: Rig, known: Lanes, node: str = "n1", **settings: Any) -> AsyncIterator[Trainer]:
    """A trainer's desk at work."""
    async with connect(fast_settings(made.url), node=node, daemon="trainer") as bus:
        alive = await begun(bus, known, **settings)
        try:
            yield alive
        finally:
            await alive.stop()


async def begun(bus: Bus, known: Lanes, **settings: Any) -> Trainer:
    """A desk that knows all lanes."""
    own = TrainerSettings(**{"look_seconds": 0.05, "reconcile_seconds": 0.2, **settings})
    runs = RunWatch(bus)
    desk = LaneDesk(bus, TrainingLedger(bus), known, own, runs)
    await desk.clock.ask()
    work = [asyncio.create_task(each, name=f"trainer-{bus.node}") for each in (runs.run(), desk.run())]
    async with asyncio.timeout(LIMIT_SECONDS):
        await desk.known.wait()
    return Trainer(bus, desk, LaneService(bus, desk, _judge), work)


def _judge(_lane: LaneDefinition, _run: TrainingRunState | None, _now: datetime) -> Iterable[NodeVerdict]:
    return (
        NodeVerdict(node="gpu-1", eligible=True, score=0.7),
        NodeVerdict(node="gpu-2", eligible=False, reason="GPU 0: 3.1 GiB free, asked for: 20.0"),
    )


def _data_set(lane: str, version: str, new: int, total: int) -> VersionState:
    digest = hashlib.sha256(f"{lane}/{version}".encode()).hexdigest()
    file = ContentFile(path=f"{lane}.npz", size=total + 1, sha256=digest, pieces_root="0" * 64)
    content = Content(kind=Kind.DATASET, format=Format.NPZ, files=(file,))
    metadata: Mapping[str, object] = {"samples_new": new, "samples_total": total}
    return VersionState(
        model=lane,
        version=version,
        artifact=content.artifact,
        content=content,
        kind=Kind.DATASET,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=Cause(event=f"export-{lane}-{version}", sequence=0, by="/test", correlation=f"c-{version}"),
        at="2026-01-01T00:00:00.000Z",
        metadata=dict(metadata),
    )
