"""The disk of one server is full: the others go on, nobody is lied to, somebody is told, and room heals it."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from tests.system.cluster.machines import Site
from tests.system.cluster.tally import Tally
from tests.system.cluster.traffic import REST_SECONDS, count, publishing

from fleetcast.bus import Bus, BusError
from fleetcast.daemons.metrics.streams import look_at

LEAVE_BYTES = 128 * 1024
MEANWHILE = 60
"""Events that are acknowledged once the disk is full."""
BY_ITSELF_SECONDS = 10.0
NOTICED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Filled:
    """What a full disk left.

    Attributes:
        noticed_seconds: until the metric of the alert FleetcastReplicasMissing showed it; None: it did not.
        server_said: what the server says of itself then.
        restarted: whether the server had to be started again once there was room.
    """

    tally: Tally
    noticed_seconds: float | None
    server_said: str
    restarted: bool
    longest_seconds: float


async def full_disk(site: Site, number: int, *, by_itself_seconds: float = BY_ITSELF_SECONDS) -> Filled:
    """Fill the disk of machine *number*, make room again, and count.

    Args:
        by_itself_seconds: how long the server may take to come back without a restart.
    """
    full, member = site.disks[number], site.members[number]
    async with site.bus() as bus:
        async with publishing(site.settings(), site.folder) as told:
            await told.more(MEANWHILE)
            await asyncio.to_thread(full.fill, LEAVE_BYTES)
            began = time.monotonic()
            try:
                noticed = await _noticed(bus)
                seconds = time.monotonic() - began if noticed else None
                await told.more(MEANWHILE)
                said = await asyncio.to_thread(member.health) or "ok"
            finally:
                await asyncio.to_thread(full.make_room)
            restarted = not await _whole(site, bus, by_itself_seconds)
            if restarted:
                await member.stop_async()
                await member.start_async()
                await site.wait_whole(bus)
            await told.more(MEANWHILE)
        found = await count(bus, told.acknowledged, effects=False, seconds=REST_SECONDS)
    return Filled(found, seconds, said, restarted, told.longest_seconds)


async def _noticed(bus: Bus) -> bool:
    """Whether a daemon's metrics show that copies are missing."""
    deadline = time.monotonic() + NOTICED_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BusError):
            look = await look_at(bus, ())
            if any(1 + sum(c.current and not c.offline for c in s.others) < s.copies for s in look.streams):
                return True
        await asyncio.sleep(0.5)
    return False


async def _whole(site: Site, bus: Bus, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await site.wait_whole(bus)
    except TimeoutError:
        return False
    return True
