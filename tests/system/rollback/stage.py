"""Three real nodes with hooks, and slot orders written as a registry daemon writes them."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetcast.config.hooks import HookRule, HookSettings
from fleetcast.config.settings import Settings
from fleetcast.daemons.testing import Fleet
from fleetcast.events.lifecycle import DrainState, drain_subject
from fleetcast.events.payloads import Payload
from fleetcast.events.state import Cause, ModelStatus, SlotEntry, SlotState, slot_subject
from fleetcast.registry import Registry
from fleetcast.registry.fleet import FleetView, ServedBy, served_by
from fleetcast.registry.rules import dump

PATIENCE_SECONDS = 90.0

SERVER = """#!/bin/sh
# What a reload script does, and what the test that wrote it wants of it: $1 is the folder of the node.
echo "$FLEETCAST_MODEL $FLEETCAST_VERSION $FLEETCAST_GENERATION $FLEETCAST_SLOT ${FLEETCAST_PREVIOUS:--} \\
$FLEETCAST_REASON $FLEETCAST_DRAINED $(sha256sum "$FLEETCAST_PATH" | cut -d' ' -f1)" >> "$1/told"
[ ! -e "$1/$FLEETCAST_MODEL-$FLEETCAST_VERSION.sh" ] || . "$1/$FLEETCAST_MODEL-$FLEETCAST_VERSION.sh"
"""


def hooked(name: str, settings: Settings) -> Settings:
    """Settings of a node that calls a script for every model whose name begins with `told`."""
    folder = settings.store.data.parent
    script = folder / "reload"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(SERVER)
    script.chmod(0o755)
    rule = HookRule(models=("told*",), command=(str(script), str(folder)), timeout_seconds=3)
    hooks = HookSettings(rules=(rule,), retry_base_seconds=0.2, retry_cap_seconds=0.5)
    return settings.model_copy(update={"hooks": hooks})


def content(model: str, version: str) -> bytes:
    return f"{model} {version} ".encode() * 4000


def sha256(model: str, version: str) -> str:
    return hashlib.sha256(content(model, version)).hexdigest()


class Story:
    """One model on a fleet."""

    def __init__(self, fleet: Fleet, model: str) -> None:
        self.fleet = fleet
        self.model = model

    def told(self, node: str) -> list[list[str]]:
        """What the process on a node was told of the model: version, generation, slot, previous, reason, drained,
        digest of what it would have loaded."""
        note = self.fleet.nodes[node].folder / "told"
        lines = [line.split() for line in note.read_text().splitlines()] if note.exists() else []
        return [line[1:] for line in lines if line[0] == self.model]

    def misbehave(self, version: str, script: str, *nodes: str) -> None:
        """What the hook does for a version, on these nodes (default: all)."""
        for node in nodes or tuple(self.fleet.nodes):
            (self.fleet.nodes[node].folder / f"{self.model}-{version}.sh").write_text(script)

    def file(self, node: str, version: str) -> Path:
        return self.fleet.nodes[node].data / f"models/{self.model}/{version}/{self.model}-{version}.bin"

    def slots(self, node: str) -> dict[str, Any]:
        """What `slots.json` says."""
        found = json.loads((self.fleet.nodes[node].data / f"models/{self.model}/slots.json").read_bytes())
        assert isinstance(found, dict)
        return found

    async def promote(self, version: str) -> None:
        """Publish a version on node-1 and let every pointer move to it; hooks are not waited for."""
        path = self.fleet.publish(f"{self.model}-{version}.bin", content(self.model, version))
        await self.fleet.promote(self.model, version, path)
        await self.fleet.until_served(self.model, version, nodes=self.running, seconds=PATIENCE_SECONDS)

    @property
    def running(self) -> tuple[str, ...]:
        """The nodes of which a process runs."""
        return tuple(n.name for n in self.fleet.nodes.values() if n.process and n.process.poll() is None)

    async def slot(self) -> SlotState:
        slot = await Registry(self.fleet.bus).slot(self.model)
        assert slot is not None
        return slot

    async def roll_back(self) -> SlotState:
        """Order the version before."""
        slot = await self.slot()
        assert slot.previous is not None
        return await self.order(slot, production=slot.previous, previous=slot.production)

    async def order(self, before: SlotState, **changed: SlotEntry | None) -> SlotState:
        generation = before.generation + 1
        cause = Cause(event=f"order-{generation}", sequence=10_000 + generation, by="/test", correlation="rollback")
        more = {"generation": generation, "cause": cause, "at": datetime.now(UTC).isoformat()}
        slot = SlotState.model_validate(before.model_copy(update={**more, **changed}).model_dump())
        await self.fleet.bus.publish_raw(slot_subject(self.model), dump(slot))
        return slot

    async def served(self, slot: SlotState, holds: Callable[[ServedBy], bool] = lambda s: s.done) -> ServedBy:
        """Who serves an order, once that is what the test waits for."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            statuses = (await self.fleet.statuses()).values()
            answer = served_by(FleetView.at(datetime.now(UTC), statuses, silent_after_seconds=4), slot)
            if holds(answer):
                return answer
            assert time.monotonic() < deadline, f"{answer.sentence}\n{self.fleet.tails()}"
            await asyncio.sleep(0.02)

    async def status(self, node: str, holds: Callable[[ModelStatus], object]) -> ModelStatus:
        """What a node reports of the model, once that holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            said = (await self.fleet.statuses()).get(node)
            found = next((m for m in said.models if m.model == self.model), None) if said else None
            if found is not None and holds(found):
                return found
            assert time.monotonic() < deadline, f"{found}\n{self.fleet.nodes[node].tail()}"
            await asyncio.sleep(0.02)

    async def facts(self, subject: str, holds: Callable[[list[Any]], object]) -> list[Any]:
        """Payloads about the model under a subject, once that holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            events = await self.fleet.events(subject)
            found: list[Payload] = [e.payload for e in events if getattr(e.payload, "model", None) == self.model]
            if holds(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    async def drain(self, node: str, *, drained: bool = True) -> None:
        """Write the record of a node that leaves service, or returns."""
        state = DrainState(node=node, drained=drained, reason="test", by="/test", at=datetime.now(UTC).isoformat())
        await self.fleet.bus.publish_raw(drain_subject(node), dump(state))
