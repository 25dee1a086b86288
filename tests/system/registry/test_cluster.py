"""Servers of a cluster are killed one after the other during a storm of promotions."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from tests.system.registry.checker import in_order, problems, read_streams
from tests.system.registry.daemons import registries
from tests.system.registry.storm import Told, reserve, storm

from fleetcast.bus import connect
from fleetcast.bus.testing import Cluster, fast_settings, nats_cluster
from fleetcast.registry import Registry

pytestmark = pytest.mark.asyncio

APART_SECONDS = 1.0
"""How long all three servers are there between two kills."""


async def kill_one_after_the_other(cluster: Cluster, kills: int, told: Told) -> None:
    """Kill and start servers, one at a time."""
    for number in range(kills):
        member = cluster.members[number % len(cluster.members)]
        await member.kill_async()
        # Two servers are a majority: decisions go on while the third is away.
        await told.more(1)
        await member.start_async()
        await cluster.wait_ready(60)
        await asyncio.sleep(APART_SECONDS)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(1, marks=pytest.mark.timeout(300)),
        pytest.param(15, marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
    ],
)
async def test_servers_that_die_during_a_promotion_storm_lose_and_double_nothing(tmp_path: Path, kills: int) -> None:
    told = Told()
    async with nats_cluster(tmp_path / "nats") as cluster:
        settings = fast_settings(cluster.url, replicas=3)
        async with (
            registries(tmp_path, settings, "reg-1", "reg-2") as daemons,
            connect(settings, node="t", daemon="test") as bus,
        ):
            await reserve(bus, told)
            async with storm(settings, told):
                await kill_one_after_the_other(cluster, kills, told)
            await cluster.wait_ready(60)
            streams = await read_streams(bus)

            assert problems(streams, told) == []
            assert in_order(streams)
            # Each server, asked by itself, goes on from the same record.
            for member in cluster.members:
                own = fast_settings(member.url, replicas=3)
                async with connect(own, node=member.name.partition("-")[0], daemon="test") as alone:
                    for model in ("m1", "m2"):
                        assert await Registry(alone).broken_links(model) == []
            for each in daemons:
                assert not each.ended, f"{each.name} did not outlive the servers\n{each.tail()}"
        # Whoever had no answer was told so; whoever had one can rely on it, which `problems` has looked at.
        assert all("no registry daemon answered" in why for why in told.unanswered.values())
        assert len(told.accepted) > 5 * kills, Counter(a.outcome for a in told.answers.values())
