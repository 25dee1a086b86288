"""SIGKILL of servers and workers in turn, while events are published and handled."""

import asyncio
import random
import time
from dataclasses import dataclass

from tests.system.cluster.machines import Site
from tests.system.cluster.tally import Tally
from tests.system.cluster.traffic import REST_SECONDS, count, publishing, working

ACKNOWLEDGED_BETWEEN = 30
"""Events that are acknowledged with a server missing before it comes back, and again before the next kill."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What the kills left."""

    tally: Tally
    kills: int
    workers_killed: int
    refused: int
    longest_seconds: float


async def kill_loop(
    site: Site,
    chance: random.Random,
    seconds: float,
    *,
    least: int = 2,
    leader_share: float = 0.5,
    how: str = "rightly",
    trusting: bool = False,
    rest_seconds: float = REST_SECONDS,
) -> Killed:
    """Kill for so long; then count.

    Args:
        least: kills at least.
        leader_share: of the kills that are to hit the leader, whose loss is the hardest; the others hit another server.
        how: as `worker` (`hastily` is a broken variant).
        trusting: as `publishing` (a broken variant).
        rest_seconds: how long to wait for what is missing.
    """
    kills, until = 0, time.monotonic() + seconds
    async with site.bus() as bus, working(site.cluster.url, how=how) as workers:
        async with publishing(site.settings(), site.folder, trusting=trusting) as told:
            await told.more(ACKNOWLEDGED_BETWEEN)
            while time.monotonic() < until or kills < least:
                led = await site.leader(bus, "FC_EVENTS")
                others = [member for member in site.members if member is not led]
                victim = led if chance.random() < leader_share else chance.choice(others)
                await victim.kill_async()
                await workers.kill(chance.randrange(8))
                kills += 1
                await told.more(ACKNOWLEDGED_BETWEEN)
                await asyncio.gather(victim.start_async(), workers.start())
                await site.cluster.wait_ready(REST_SECONDS)
                await told.more(ACKNOWLEDGED_BETWEEN)
                await site.wait_whole(bus)
        found = await count(bus, told.acknowledged, effects=True, seconds=rest_seconds)
    return Killed(found, kills, kills, told.refused, told.longest_seconds)
