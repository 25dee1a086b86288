"""Promotions that meet each other."""

from pathlib import Path

import pytest
from tests.system.faults.stage import MIB, stage, throttled
from tests.system.faults.variants import broken

from fleetcast.daemons.testing import FleetProblem

pytestmark = pytest.mark.asyncio


async def test_two_models_promoted_at_once_both_arrive(tmp_path: Path, bound: float) -> None:
    async with stage(tmp_path, nodes=3, settings=throttled(8 * MIB, "node-1", "node-2")) as s:
        await s.promote("m", "1", seed=1, size=16 * MIB)
        await s.promote("n", "1", seed=2, size=16 * MIB, node="node-2")
        await s.until_served()
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_a_node_that_brings_one_of_two_models_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: the second one takes the place of the first."""
    environment = broken("minds one thing", "node-3")
    changed = throttled(8 * MIB, "node-1", "node-2")
    async with stage(tmp_path, nodes=3, settings=changed, environment=environment) as s:
        await s.promote("m", "1", seed=1)
        await s.promote("n", "1", seed=2, node="node-2")
        await s.fleet.until_served("n", "1", nodes=("node-3",))
        with pytest.raises(FleetProblem, match="node-3"):
            await s.until_served("node-3", seconds=10)


async def test_a_version_promoted_while_the_last_one_is_in_flight_stops_it(tmp_path: Path, bound: float) -> None:
    async with stage(tmp_path, nodes=3) as s:
        await s.promote("m", "1", seed=1)
        await s.until_fetched(0.3)
        await s.promote("m", "2", seed=2, size=8 * MIB)
        await s.until_served()

        receivers = [s.node(name) for name in s.receivers]
        for node in receivers:
            assert node.logged("transfer.superseded")
            assert not (node.data / "models/m/1").exists(), "it was not stopped"
        # What a rollback needs follows, from where it was stopped.
        installed = [node.data / "models/m/1" for node in receivers]
        await s.fleet.until("version 1 follows", lambda: all(folder.is_dir() for folder in installed))
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_a_node_that_fetches_what_nobody_wants_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: a transfer that was superseded goes on."""
    async with stage(tmp_path, nodes=2, environment=broken("holds on", "node-2")) as s:
        await s.promote("m", "1", seed=1)
        await s.until_fetched(0.3)
        await s.promote("m", "2", seed=2, size=8 * MIB)
        await s.until_served()
        await s.fleet.until("it is fetched to its end", (s.node("node-2").data / "models/m/1").is_dir)
        assert not s.node("node-2").logged("transfer.superseded")
