"""A registry, nodes and remedy daemons on one real server, in this process: lives that a test may end at any failpoint.

The registry's engine is the real one. Nodes are stand-ins that do what the slots say and report it, as the heartbeat's
protocol wants it. A life that is killed does nothing more: every task of it that comes to a failpoint ends there.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus, InSync, Service, connect, declare
from fleetcast.bus.streams import EVENTS, REGISTRY
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.config.remedy import RemedySettings
from fleetcast.config.settings import DistributorSettings, Settings
from fleetcast.daemons.registry.desk import TransitionDesk
from fleetcast.daemons.registry.watching import Nodes
from fleetcast.daemons.remedy.ledger import RemedyLedger
from fleetcast.daemons.remedy.playbooks.commands import READS, PlaybookAnswer
from fleetcast.daemons.remedy.playbooks.desk import PlaybookDesk
from fleetcast.daemons.remedy.playbooks.intake import Incidents, Intake
from fleetcast.daemons.remedy.playbooks.keeper import Keeper
from fleetcast.daemons.remedy.playbooks.loading import load_all
from fleetcast.daemons.remedy.playbooks.steps import Step, Surroundings, params_of, registered
from fleetcast.daemons.remedy.stream_time import StreamClock
from fleetcast.daemons.runtime.requests import with_reading
from fleetcast.daemons.testing import heartbeat
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import EntryState, StageName, entry_subject
from fleetcast.events.payloads import Checks, Endpoints, Origin
from fleetcast.events.remedies import PLAYBOOKS_SUBJECT, RUN_ENDED, PlaybookRunState
from fleetcast.events.state import (
    Cause,
    InstalledVersion,
    ModelStatus,
    NodeStatus,
    SlotState,
    VersionState,
    slot_subject,
)
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import AnyCommand, Promote, Reserve
from fleetcast.registry.engine import Engine
from fleetcast.registry.gates import Policy
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.nodes import FleetWatch
from fleetcast.registry.registry import Registry
from fleetcast.transport import failpoints

LIMIT_SECONDS = 60.0
NODES = ("n1", "n2")


@dataclass
class Rig:
    """What runs all the time.

    Attributes:
        told: keys of the dependents' calls, in the order in which they came.
        silent: nodes that do nothing any more.
    """

    url: str
    folder: Path
    bus: Bus
    client: RegistryClient
    told: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)

    async def serve(self, model: str, *versions: str) -> int:
        """Promote these, one after the other; the generation of the last."""
        for version in versions:
            await self.ask(Reserve(state=_version(model, version)))
            await self.ask(Promote(model=model, version=version, skip_rollout=True))
        last = versions[-1]
        await until(f"{model}@{last} reported", lambda: self._reported(model, last))
        slot = await self.slot(model)
        return slot.generation

    async def try_out(self, model: str, version: str) -> None:
        """Make a version the canary of half of the nodes."""
        await self.ask(Reserve(state=_version(model, version)))
        await self.ask(Promote(model=model, version=version, stage=StageName.CANARY, percent=50, skip_rollout=True))

    async def ask(self, command: AnyCommand) -> None:
        answer = await self.client.transition(command, reason="test")
        assert answer.accepted, answer.message

    async def slot(self, model: str) -> SlotState:
        entry = await self.bus.last(REGISTRY, slot_subject(model))
        assert entry is not None
        return SlotState.model_validate_json(entry.data)

    async def stage(self, model: str, version: str) -> str:
        entry = await self.bus.last(REGISTRY, entry_subject(model, version))
        assert entry is not None
        return EntryState.model_validate_json(entry.data).stage.value

    async def say(self, subject: str, body: Mapping[str, Any] | bytes = b"{}", **headers: str) -> int:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (await self.bus.publish_raw(subject, data, headers)).sequence

    async def facts(self, *subjects: str) -> list[dict[str, Any]]:
        """The data of the events under *subjects*, in order."""
        return [json.loads(entry.data)["data"] async for entry in self.bus.tail(EVENTS, subjects)]

    async def _reported(self, model: str, version: str) -> bool:
        entries = await self.bus.kv_entries("fc_nodes")
        found = [NodeStatus.model_validate_json(e.data) for e in entries if e.key.endswith(".distributor")]
        serving = {s.node for s in found for m in s.models if (m.model, m.current) == (model, version)}
        return serving >= set(NODES) - self.silent


@dataclass
class Life:
    """A remedy daemon from its start until it is stopped or killed."""

    rig: Rig
    keeper: Keeper
    desk: PlaybookDesk
    noted: list[tuple[Any, ...]] = field(default_factory=list)

    async def ask(self, **request: Any) -> PlaybookAnswer:
        return PlaybookAnswer.model_validate_json(await self.desk.answer(json.dumps(request).encode()))

    async def runs(self, resource: str) -> list[PlaybookRunState]:
        found = [run for run in await self.keeper.store.runs() if run.resource_id == resource]
        return sorted(found, key=lambda run: run.asked_at)

    async def ended(self, resource: str, count: int = 1) -> list[PlaybookRunState]:
        """The runs about a resource, once so many have ended."""

        async def look() -> list[PlaybookRunState] | None:
            runs = await self.runs(resource)
            return runs if sum(run.phase in RUN_ENDED for run in runs) >= count else None

        found: list[PlaybookRunState] = await until(f"{count} ended runs about {resource}", look)
        return found


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


def _version(model: str, version: str) -> VersionState:
    file = ContentFile(path="m.pt", size=len(version), sha256=version[0] * 64, pieces_root="0" * 64)
    content = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    return VersionState(
        model=model,
        version=version,
        artifact=content.artifact,
        content=content,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=Cause(event=f"{model}-{version}", sequence=0, by="/test", correlation="c"),
        at="2026-01-01T00:00:00.000Z",
    )


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """A server, a registry and nodes."""
    async with nats_server(folder / "nats") as server, connect(fast_settings(server.url), node="t", daemon="t") as bus:
        await declare(bus, 1)
        made = Rig(server.url, folder, bus, RegistryClient(bus, actor="/test"))
        nodes = Nodes(bus, silent_after_seconds=5.0)
        engine = Engine(bus, policy=Policy.default, readiness=nodes.readiness, ledger=Ledger(bus))
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(nodes.watch()), tasks.create_task(_nodes(made))]
            await nodes.known.wait()
            service = Service(
                name="registry",
                version="0.0.1",
                description="test",
                endpoints=TransitionDesk(engine).endpoints(),
            )
            running = await bus.serve(service)
            stop = await _dependent(made)
            yield made
            await stop()
            await running.stop()
            for task in work:
                task.cancel()


async def _nodes(made: Rig) -> None:
    """Serve what the slots say, and report it at once."""
    slots: dict[str, SlotState] = {}
    held: dict[str, dict[str, str]] = {}
    async for entry in made.bus.watch(REGISTRY, (slot_subject("*"),)):
        if isinstance(entry, InSync):
            continue
        slot = SlotState.model_validate_json(entry.data)
        slots[slot.model] = slot
        for each in (slot.production, slot.canary, slot.previous, *slot.former):
            if each is not None:
                held.setdefault(slot.model, {})[each.version] = each.artifact
        for node in NODES:
            if node not in made.silent:
                status = _status(node, slots, held)
                await made.bus.kv_put("fc_nodes", f"{node}.distributor", status.model_dump_json().encode())


def _status(node: str, slots: Mapping[str, SlotState], held: Mapping[str, Mapping[str, str]]) -> NodeStatus:
    models = []
    for name, slot in slots.items():
        entry = slot.canary if slot.canary is not None and node in slot.canary.nodes else slot.production
        installed = tuple(
            InstalledVersion(
                version=version,
                artifact=artifact,
                checks=Checks(size="ok", sha256="ok", format="ok"),
                bytes=1,
                transport="none",
                seconds=0.0,
                installed_at="2026-01-01T00:00:00Z",
            )
            for version, artifact in held[name].items()
        )
        models.append(
            ModelStatus(
                model=name,
                kind="model",
                current=entry.version if entry else None,
                artifact=entry.artifact if entry else None,
                generation=slot.generation,
                path="/m",
                installed=installed,
            )
        )
    now = datetime.now(UTC).isoformat()
    return heartbeat(
        node,
        at=now,
        models=tuple(models),
    )


async def _dependent(made: Rig) -> Callable[[], Awaitable[None]]:
    """Somebody who depends on every model, and answers."""

    def answer(message: Any) -> None:
        body = json.loads(message.data)
        made.told.append(body["key"])
        if message.reply:
            answering.add(asyncio.ensure_future(made.bus.send(message.reply, b"heard")))

    answering: set[Any] = set()
    return await made.bus.listen("svc.dependent", answer)


def settings(url: str, **changes: Any) -> Settings:
    """Of a remedy daemon that looks often."""
    remedy = {"look_seconds": 0.05, "rollbacks_per_fleet": 1000, **changes}
    return Settings(
        bus=fast_settings(url),
        distributor=DistributorSettings(heartbeat_seconds=1.0),
        remedy=RemedySettings(**remedy),
    )


@asynccontextmanager
async def life(
    made: Rig, node: str = "r1", *, steps: Mapping[str, Step] | None = None, **changes: Any
) -> AsyncIterator[Life]:
    """A remedy daemon at work, of which incidents are left out."""
    own = settings(made.url, **changes)
    known = {**await asyncio.to_thread(registered), **(steps or {})}
    playbooks = await asyncio.to_thread(load_all, own.remedy.playbooks, params_of(known))
    async with connect(own.bus, node=node, daemon="remedy") as bus:
        fleet = FleetWatch(bus, silent_after_seconds=2.0)
        clock = StreamClock(bus)
        await clock.ask()
        actor = f"/fleet/{node}/remedy"
        around = Surroundings(
            bus=bus,
            registry=RegistryClient(bus, actor=actor),
            book=Registry(bus),
            fleet=fleet,
            now=clock.now,
            actor=actor,
            dependents=_dependents,
        )
        keeper = Keeper(bus, RemedyLedger(bus), own, playbooks, known, around)
        alive = Life(made, keeper, PlaybookDesk(keeper))

        async def note(*said: Any, **more: Any) -> None:
            alive.noted.append((*said, more))

        intake = Intake(bus, keeper, Incidents(list, note))
        work = [
            asyncio.create_task(each, name=f"life-{node}")
            for each in (fleet.watch(), keeper.run(), intake.consume(), intake.tell(), _beat(bus, node))
        ]
        await asyncio.gather(fleet.known.wait(), keeper.known.wait())
        endpoints = with_reading("playbooks", PLAYBOOKS_SUBJECT, alive.desk.answer, READS)
        service = await bus.serve(Service(name="remedy", version="0.0.1", description="test", endpoints=endpoints))
        try:
            yield alive
        finally:
            await service.stop()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


async def _beat(bus: Bus, node: str) -> None:
    import os

    now = datetime.now(UTC).isoformat()
    status = _status(node, {}, {}).model_copy(update={"daemon": "remedy", "pid": os.getpid(), "started_at": now})
    while True:
        await bus.kv_put("fc_nodes", f"{node}.remedy", status.model_dump_json().encode())
        await asyncio.sleep(0.5)


async def _dependents(_model: str) -> tuple[Mapping[str, Any], ...]:
    return ({"name": "gateway", "subject": "svc.dependent"},)


class Killer:
    """Ends a life at a failpoint, and whatever of it comes to another one later."""

    def __init__(self, at: str, passage: int = 1) -> None:
        self.dead = asyncio.Event()
        self.passed: list[str] = []
        self._at, self._left = at, passage

    def __call__(self, name: str) -> None:
        if not name.startswith("playbook."):
            return
        self.passed.append(name)
        if name == self._at:
            self._left -= 1
        if (name == self._at and self._left == 0) or self.dead.is_set():
            self.dead.set()
            raise asyncio.CancelledError


@contextlib.contextmanager
def killing(at: str, passage: int = 1) -> Any:
    """A killer on duty."""
    killer = Killer(at, passage)
    with failpoints.watched(killer):
        yield killer
