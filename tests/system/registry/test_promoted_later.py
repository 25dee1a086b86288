"""Real distributors and a registry: a version that was registered comes to every node, whatever is ordered meanwhile,
and one that is promoted is fetched by every node, whatever became of its offer."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.system.faults.variants import broken
from tests.system.registry.daemons import registries
from tests.system.registry.storm import Told, ask

from fleetcast.config.settings import BusSettings, Settings
from fleetcast.daemons.testing import Fleet, FleetProblem, NodeProcess, fleet
from fleetcast.registry.commands import Promote

pytestmark = pytest.mark.asyncio

MIB = 2**20
RATE = 4 * MIB
"""Bytes per second that the origin sends: the large version takes seconds, whatever the machine does."""
PATIENCE_SECONDS = 90.0


def slow_origin(name: str, settings: Settings) -> Settings:
    limits = settings.limits.model_copy(update={"upload_bytes_per_second": RATE if name == "node-1" else 0})
    return settings.model_copy(update={"limits": limits})


@contextlib.asynccontextmanager
async def kept_fleet(folder: Path, variant: str = "") -> AsyncIterator[Fleet]:
    """Three nodes, so that the origin alone is no quorum, and a registry daemon; *variant*: how nodes are broken."""
    names = ("node-1", "node-2", "node-3")
    environment = broken(variant, *names) if variant else {}
    async with (
        fleet(
            folder / "fleet",
            nodes=len(names),
            settings=slow_origin,
            process=lambda name, home, own: NodeProcess(name, home, own, environment.get(name, {})),
        ) as f,
        registries(folder / "kept", BusSettings(url=f.server.url), "registry"),
    ):
        yield f


async def submit(f: Fleet, what: str, version: str, size: int, **more: object) -> None:
    path = f.publish(f"{version}.bin", random.Random(int(version)).randbytes(size))
    await f.say(f"fc.ev.{what}.m", {"version": version, "path": str(path), "node": "node-1", **more})


async def until_held(f: Fleet, version: str, *nodes: str) -> None:
    folders = [f.nodes[name].data / "models/m" / version for name in nodes]
    await f.until(f"{version} is on {nodes}", lambda: all(p.is_dir() for p in folders), PATIENCE_SECONDS)


def begun(node: NodeProcess, version: str) -> bool:
    return any(e.get("version") == version for e in node.logged("transfer.first_piece"))


async def promote(f: Fleet, version: str) -> None:
    """Ask as a person does."""
    told = Told()
    await ask(f.bus, Promote(model="m", version=version), told)
    assert [a.accepted for a in told.answers.values()] == [True], told


async def registered_twice(f: Fleet) -> list[NodeProcess]:
    """Version 1 is on every node, 2 is on its way, and a person has 1 served; returns the receivers."""
    await submit(f, "model.registered", "1", MIB)
    await until_held(f, "1", *f.nodes)
    await submit(f, "model.registered", "2", 16 * MIB)
    receivers = [f.nodes["node-2"], f.nodes["node-3"]]
    await f.until("2 is under way", lambda: all(begun(n, "2") for n in receivers), PATIENCE_SECONDS)
    await promote(f, "1")
    await f.until_served("m", "1", seconds=PATIENCE_SECONDS)
    return receivers


async def promoted_without_offer(f: Fleet) -> None:
    """A version was brought to one node, which offers it to nobody, and a person promotes it. One node learns of that
    as it happens, another one at its start."""
    await submit(f, "distribution.requested", "1", MIB, to=["node-2"])
    await until_held(f, "1", "node-2")
    f.nodes["node-3"].kill()
    await promote(f, "1")
    f.nodes["node-3"].start()


async def test_a_registered_version_in_flight_stays_wanted_when_an_older_one_is_promoted(tmp_path: Path) -> None:
    async with kept_fleet(tmp_path) as f:
        receivers = await registered_twice(f)
        await until_held(f, "2", *f.nodes)
        assert not any(n.logged("transfer.superseded") for n in receivers)


async def test_a_promoted_version_is_fetched_by_nodes_that_know_no_offer_of_it(tmp_path: Path) -> None:
    async with kept_fleet(tmp_path) as f:
        await promoted_without_offer(f)
        await f.until_served("m", "1", seconds=PATIENCE_SECONDS)


@pytest.mark.soak
async def test_a_node_that_takes_every_order_for_news_would_be_caught_and_obeys_a_later_promotion(
    tmp_path: Path,
) -> None:
    """The broken variant: an order stops what was registered before it. A promotion brings it all the same."""
    async with kept_fleet(tmp_path, "holds every order for news") as f:
        receivers = await registered_twice(f)
        await f.until("it was stopped", lambda: all(n.logged("transfer.superseded") for n in receivers))
        await promote(f, "2")
        await f.until_served("m", "2", seconds=PATIENCE_SECONDS)


@pytest.mark.soak
async def test_a_node_that_hears_of_no_rollout_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: only slots and offers are goals."""
    async with kept_fleet(tmp_path, "hears no rollouts") as f:
        await promoted_without_offer(f)
        with pytest.raises(FleetProblem):
            await f.until_served("m", "1", seconds=20)
