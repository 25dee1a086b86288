"""A server is cut off from the others, and still takes connections: it may not say yes, the others go on."""

import asyncio
import random
import time
from dataclasses import dataclass

from tests.system.cluster.machines import Site
from tests.system.cluster.tally import Tally
from tests.system.cluster.traffic import REST_SECONDS, Told, count, promoted, publishing

from fleetcast.bus import Bus, connect
from fleetcast.bus.errors import TransportFailed
from fleetcast.bus.server import LocalServer

ACKNOWLEDGED_MEANWHILE = 40
ATTEMPT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Parted:
    """What partitions left.

    Attributes:
        minority_said_yes: publishers that were told by the server that was cut off that their event is stored.
        minority_refused: those that were not.
        longest_seconds: the longest that a publisher among the majority waited.
    """

    tally: Tally
    cuts: int
    minority_said_yes: int
    minority_refused: int
    longest_seconds: float


async def partitions(
    site: Site,
    chance: random.Random,
    *,
    cuts: int,
    cut_seconds: float,
    trusting: bool = False,
    rest_seconds: float = REST_SECONDS,
) -> Parted:
    """Cut servers off one after the other, the leader first; then count."""
    yes = no = 0
    async with site.bus() as bus:
        async with publishing(site.settings(), site.folder, trusting=trusting) as told:
            for number in range(cuts):
                led = await site.leader(bus, "FC_EVENTS")
                victim = led if number % 2 == 0 else chance.choice(site.members)
                accepted, refused = await _cut(site, victim, told, cut_seconds)
                yes, no = yes + accepted, no + refused
                await site.wait_whole(bus)
                await told.more(ACKNOWLEDGED_MEANWHILE)
        found = await count(bus, told.acknowledged, effects=False, seconds=rest_seconds)
    return Parted(found, cuts, yes, no, told.longest_seconds)


async def _cut(site: Site, victim: LocalServer, told: Told, seconds: float) -> tuple[int, int]:
    cable = site.cables[site.index(victim)]
    # Without *wait* nobody looks for a better server: this client stays where it is.
    settings = site.settings(url=victim.url)
    async with connect(settings, node="minority", daemon="campaign", wait=False) as stuck:
        cable.pull()
        try:
            until = time.monotonic() + seconds
            trying = asyncio.create_task(_insist(stuck, victim, until))
            await told.more(ACKNOWLEDGED_MEANWHILE)
            return await trying
        finally:
            cable.plug()


async def _insist(stuck: Bus, victim: LocalServer, until: float) -> tuple[int, int]:
    """Publish through one server again and again: (acknowledged, not)."""
    yes = no = 0
    while time.monotonic() < until:
        try:
            await stuck.publish(promoted("minority", yes + no), deadline_seconds=ATTEMPT_SECONDS)
            yes += stuck.wire.link.server == victim.url
        except TransportFailed:
            no += 1
    return yes, no
