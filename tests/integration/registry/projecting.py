"""A read model that follows a real server, and what it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus, Service
from fleetcast.daemons.registry.projector import Projector
from fleetcast.daemons.registry.queries import QueryDesk
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.envelope import new_event
from fleetcast.events.lifecycle import QUERY_SUBJECT
from fleetcast.events.payloads import Checks, Endpoints, Origin, VersionInstalled
from fleetcast.events.runs import RunEpochLogged, RunStarted
from fleetcast.events.state import Cause, SlotEntry, VersionState
from fleetcast.registry import Registry
from fleetcast.registry.querying import query

PATIENCE_SECONDS = 60
QUESTIONS: dict[str, dict[str, Any]] = {
    "versions": {"order": "registered", "count": True},
    "models": {},
    "info": {"model": "m", "version": "2"},
    "compare": {"a": "m@1", "b": "m@2"},
    "history": {"model": "m"},
    "decision": {"model": "m", "n": 1},
    "registry_at": {"at": "2099-01-01T00:00:00Z"},
    "consumption": {"model": "m"},
    "rollouts": {"ended": True},
    "freezes": {},
    "runs": {},
    "run": {"run_id": "run-1"},
    "stats": {},
    "performance": {"model": "m"},
    "rollback_reasons": {"model": "m"},
}


@asynccontextmanager
async def projected(bus: Bus, path: Path) -> AsyncIterator[Projector]:
    """A projector at work, with its service."""
    projector = Projector(bus, path)
    running = asyncio.create_task(projector.run(), name="projector")
    desk = QueryDesk(bus, projector)
    endpoints = {"query": (QUERY_SUBJECT, desk.answer)}
    service = await bus.serve(Service("fleetcast-registry", "1.0.0", "queries", endpoints=endpoints))
    try:
        yield projector
    finally:
        await service.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def cause(sequence: int) -> Cause:
    return Cause(event=f"event-{sequence}", sequence=sequence, by="/test", correlation="correlation-1")


def version(model: str, number: int) -> VersionState:
    file = ContentFile(path="m.pt", size=number, sha256=f"{number:064x}", pieces_root="0" * 64)
    made = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    return VersionState(
        model=model,
        version=str(number),
        artifact=made.artifact,
        content=made,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=cause(number),
        at=f"2026-11-20T10:00:{number % 60:02d}.000Z",
    )


async def promote(registry: Registry, model: str, number: int) -> None:
    """A version that is reserved and served."""
    state = version(model, number)
    await registry.reserve_version(state, request=f"reserve/{number}", actor="/test")
    entry = SlotEntry(version=state.version, artifact=state.artifact)
    await registry.order_slot(model, entry, cause=cause(number), request=f"order/{number}", actor="/test")


async def tell(bus: Bus) -> None:
    """What a node and a run have to say."""
    checks = Checks(size="ok", sha256="ok", format="ok")
    artifact = version("m", 2).artifact
    await bus.publish(
        new_event(VersionInstalled(model="m", version="2", artifact=artifact, node="n1", checks=checks), source="/test")
    )
    await bus.publish(new_event(RunStarted(run_id="run-1", node="n1", lane="m"), source="/test"))
    await bus.publish(
        new_event(RunEpochLogged(run_id="run-1", node="n1", epoch=0, metrics={"loss": 0.5}), source="/test")
    )


async def fill(bus: Bus, versions: int = 3) -> None:
    """A registry with one model of so many versions, and events."""
    registry = Registry(bus)
    for number in range(1, versions + 1):
        await promote(registry, "m", number)
    await tell(bus)


async def last_sequence(bus: Bus) -> int:
    return int((await bus.js.api("STREAM.INFO.FC_REGISTRY"))["state"]["last_seq"])


async def answers(bus: Bus) -> dict[str, Any]:
    """Every answer, once everything that is in both streams is in them."""
    sequence = await last_sequence(bus)

    async def epochs() -> bool:
        found = await query(bus, "runs", {}, min_seq=sequence)
        return [run.get("epoch") for run in found.result["runs"]] == [0]

    await until(epochs)
    return {name: (await query(bus, name, asked, min_seq=sequence)).result for name, asked in QUESTIONS.items()}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110  # what it waits for is in a file, or behind a server
            await asyncio.sleep(0.02)
