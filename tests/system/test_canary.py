"""A canary over three real distributors: one node of three serves it, the others stand ready."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fleetcast.bus import InSync
from fleetcast.daemons.testing import Fleet, NodeProcess, fleet
from fleetcast.events.payloads import VersionActivated
from fleetcast.events.state import CanaryEntry, Cause, ModelStatus, NodeStatus, SlotEntry, SlotState, slot_subject
from fleetcast.registry import Registry
from fleetcast.registry.fleet import FleetView, canary_nodes
from fleetcast.registry.rules import dump

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path_factory.mktemp("three"), nodes=3) as f:
        yield f


async def tried(f: Fleet, model: str) -> tuple[SlotState, SlotEntry]:
    """Version 1 in production and version 2 on every node; the slot and what may become its canary."""
    await f.promote(model, "1", f.publish(f"{model}-1.bin", b"one" * 1000))
    await f.until_served(model, "1")
    return await registered(f, model, "2")


async def registered(f: Fleet, model: str, version: str) -> tuple[SlotState, SlotEntry]:
    """Bring a version to every node that runs, served by none."""
    path = f.publish(f"{model}-{version}.bin", version.encode() * 5000)
    await f.say(f"fc.ev.model.registered.{model}", {"version": version, "path": str(path), "node": "node-1"})
    await until(f, (f.nodes["node-1"].data / f"models/{model}/{version}" / path.name).exists)
    registry = Registry(f.bus)
    slot, state = await registry.slot(model), await registry.version(model, version)
    assert slot is not None
    assert state is not None
    return slot, SlotEntry(version=version, artifact=state.artifact)


async def order(f: Fleet, before: SlotState, **changed: object) -> SlotState:
    """Write the next slot order, as a registry daemon would."""
    generation = before.generation + 1
    cause = Cause(event=f"order-{generation}", sequence=10_000 + generation, by="/test", correlation="canary")
    more = {"generation": generation, "cause": cause, "at": datetime.now(UTC).isoformat()}
    slot = SlotState.model_validate(before.model_copy(update={**more, **changed}).model_dump())
    await f.bus.publish_raw(slot_subject(slot.model), dump(slot))
    return slot


def share(f: Fleet, slot: SlotState, entry: SlotEntry, percent: int) -> CanaryEntry:
    nodes = canary_nodes(slot.model, slot.generation + 1, percent, tuple(f.nodes))
    return CanaryEntry(**entry.model_dump(), percent=percent, nodes=nodes)


async def until(f: Fleet, holds: Callable[[], object], seconds: float = 60.0) -> None:
    await f.until("the pointers are right", holds, seconds)


def pointer(node: NodeProcess, model: str, name: str) -> str | None:
    link = node.data / "models" / model / name
    return link.readlink().name if link.is_symlink() else None


def told(node: NodeProcess, model: str) -> Any:
    return json.loads((node.data / "models" / model / "slots.json").read_bytes())


def offered(node: NodeProcess, model: str) -> dict[str, Any]:
    """What `slots.json` says of the canary."""
    return next((s for s in told(node, model)["slots"] if s["slot"] == "canary"), {"path": None})


async def reported(f: Fleet, model: str, holds: Callable[[dict[str, ModelStatus]], bool]) -> dict[str, ModelStatus]:
    """What all nodes report of a model, once that holds."""
    deadline = time.monotonic() + 60
    while True:
        said = {n: m for n, s in (await f.statuses()).items() for m in s.models if m.model == model}
        if holds(said):
            return said
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.05)


async def activations(f: Fleet, model: str, generation: int, count: int) -> dict[str, str]:
    """Which slot every node activated, once so many have."""
    deadline = time.monotonic() + 60
    while True:
        events = await f.events(f"fc.ev.version.activated.{model}")
        said = [e.payload for e in events if isinstance(e.payload, VersionActivated)]
        found = {p.node: p.slot for p in said if p.generation == generation}
        if len(found) >= count:
            assert sum(p.generation == generation for p in said) == count
            return found
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.05)


async def test_a_third_of_three_nodes_serves_the_canary_and_its_end_leaves_nothing(three: Fleet) -> None:
    slot, entry = await tried(three, "third")
    canary = share(three, slot, entry, 33)
    (chosen,) = canary.nodes
    slot = await order(three, slot, canary=canary)
    others = [n for n in three.nodes.values() if n.name != chosen]

    await until(three, lambda: three.current("third")[chosen] == "2")
    await until(three, lambda: all(pointer(n, "third", "canary") == "2" for n in others))
    assert {three.current("third")[n.name] for n in others} == {"1"}
    assert pointer(three.nodes[chosen], "third", "canary") is None
    flat = {n.name: (n.data / "models_essential/third.bin").read_bytes()[:1] for n in three.nodes.values()}
    assert flat == {n: b"2" if n == chosen else b"o" for n in three.nodes}
    await until(three, lambda: all(told(n, "third")["generation"] == slot.generation for n in three.nodes.values()))
    assert {n.name: told(n, "third")["current"] for n in three.nodes.values()} == {
        n: "canary" if n == chosen else "production" for n in three.nodes
    }
    said = await activations(three, "third", slot.generation, 3)
    assert said == {n: "canary" if n == chosen else "production" for n in three.nodes}

    await reported(three, "third", lambda m: all(s.generation == slot.generation for s in m.values()))
    fleet_now = FleetView.at(datetime.now(UTC), (await three.statuses()).values(), silent_after_seconds=15)
    count, share_of = fleet_now.production_count(slot), fleet_now.canary_count(slot)
    assert share_of is not None
    assert (len(count.serving), len(count.wanting), count.stragglers, count.strangers) == (2, 3, (), ())
    assert (share_of.serving, share_of.assigned) == ((chosen,), (chosen,))

    slot = await order(three, slot, canary=None)
    await until(three, lambda: set(three.current("third").values()) == {"1"})
    await until(three, lambda: all(pointer(n, "third", "canary") is None for n in three.nodes.values()))
    await until(three, lambda: all(told(n, "third")["canary_form"] is None for n in three.nodes.values()))


async def test_a_canary_that_is_promoted_is_production_everywhere(three: Fleet) -> None:
    slot, entry = await tried(three, "promoted")
    slot = await order(three, slot, canary=share(three, slot, entry, 50))
    await until(three, lambda: list(three.current("promoted").values()).count("2") == 2)
    slot = await order(three, slot, production=entry, previous=slot.production, canary=None)

    await until(three, lambda: set(three.current("promoted").values()) == {"2"})
    await until(three, lambda: all(pointer(n, "promoted", "canary") is None for n in three.nodes.values()))
    await until(three, lambda: all(pointer(n, "promoted", "previous") == "1" for n in three.nodes.values()))
    assert set((await activations(three, "promoted", slot.generation, 3)).values()) == {"production"}


async def test_a_canary_by_requests_stands_ready_everywhere_and_moves_no_current(three: Fleet) -> None:
    slot, entry = await tried(three, "requests")
    await order(three, slot, canary=CanaryEntry(**entry.model_dump(), percent=10, nodes=()))
    await until(three, lambda: all(pointer(n, "requests", "canary") == "2" for n in three.nodes.values()))
    await until(three, lambda: all(offered(n, "requests")["path"] for n in three.nodes.values()))
    assert set(three.current("requests").values()) == {"1"}
    for node in three.nodes.values():
        assert told(node, "requests")["canary_form"] == "requests"
        assert offered(node, "requests")["percent"] == 10
        assert (node.data / "models/requests" / offered(node, "requests")["path"]).read_bytes()[:1] == b"2"


async def test_a_heartbeat_follows_an_activation_well_within_200_ms(three: Fleet) -> None:
    slot, entry = await tried(three, "beat")
    await asyncio.sleep(0.5)  # let the heartbeats of what came before pass
    ordered = await order(three, slot, production=entry, previous=slot.production)
    delays: dict[str, float] = {}
    async with asyncio.timeout(60):
        async for heard in three.bus.watch("KV_fc_nodes", ("$KV.fc_nodes.*.distributor",)):
            if isinstance(heard, InSync):
                continue
            status = NodeStatus.model_validate_json(heard.data)
            if any(m.model == "beat" and m.generation == ordered.generation for m in status.models):
                changed = (three.nodes[status.node].data / "models/beat/.slot.json").stat().st_mtime
                delays.setdefault(status.node, heard.time.timestamp() - changed)
            if len(delays) == 3:
                break
    # On a quiet machine this is about 20 ms; the limit leaves room for other tests on the same two cores.
    assert sorted(delays.values())[1] < 1.0, delays


async def test_a_node_of_the_canary_that_was_away_serves_production_first_and_the_canary_once_it_has_it(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, nodes=2) as f:
        slot, _ = await tried(f, "away")
        node = f.nodes["node-2"]
        await until(f, (node.data / "models/away/2").exists)
        await asyncio.to_thread(node.stop)
        slot, entry = await registered(f, "away", "3")
        canary = CanaryEntry(**entry.model_dump(), percent=50, nodes=("node-2",))
        slot = await order(f, slot, canary=canary)
        await until(f, lambda: pointer(f.nodes["node-1"], "away", "canary") == "3")
        node.start()
        await f.until_ready("node-2")

        await until(f, lambda: f.current("away")["node-2"] == "3")
        said = (await reported(f, "away", lambda m: m["node-2"].follows == "canary"))["node-2"]
        assert (said.generation, said.current, said.canary, said.artifact) == (
            slot.generation,
            "3",
            "3",
            entry.artifact,
        )

        await asyncio.to_thread(node.kill)
        node.start()
        await f.until_ready("node-2")
        await reported(f, "away", lambda m: m["node-2"].follows == "canary" and m["node-2"].current == "3")
        assert f.current("away") == {"node-1": "1", "node-2": "3"}
