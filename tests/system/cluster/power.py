"""The power of all three machines is cut at once, under load."""

import asyncio
import contextlib
import random
import signal
from dataclasses import dataclass

from tests.system.cluster.disks import WRITEBACK_SECONDS
from tests.system.cluster.machines import Site
from tests.system.cluster.tally import Tally
from tests.system.cluster.traffic import count, publishing

from fleetcast.bus.errors import BusUnavailable

LONGEST_SECONDS = WRITEBACK_SECONDS / 2
"""Of load before a cut: what the kernel writes by itself would hide that nobody synced."""
GIVEN_UP_SECONDS = 10.0
FOUND_SECONDS = 60.0
NOTHING_COMES_SECONDS = 20.0
"""How long the control run, which is to lose events, is asked for them."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What is there after cuts."""

    tally: Tally
    cuts: int


async def power_cuts(made: Site, chance: random.Random, *, cuts: int, seconds: float, synced: bool = True) -> Cut:
    """Load, cut, start again, and so on; then count.

    Args:
        seconds: of load before each cut.
        synced: whether the servers sync before they acknowledge; those of the control run do not, and must lose events.
    """
    acknowledged: list[str] = []
    for _ in range(cuts):
        acknowledged += await _cut(made, chance.uniform(0.6, 1.0) * min(seconds, LONGEST_SECONDS), synced=synced)
    async with made.bus() as bus:
        patience = FOUND_SECONDS if synced else NOTHING_COMES_SECONDS
        found = await count(bus, acknowledged, effects=False, seconds=patience)
    return Cut(found, cuts)


async def _cut(made: Site, seconds: float, *, synced: bool) -> list[str]:
    settings = made.settings(publish_deadline_seconds=GIVEN_UP_SECONDS)
    async with publishing(settings, made.folder, job=False) as told:
        await asyncio.sleep(seconds)
        # Stopped, they neither acknowledge nor sync any more: this is the moment.
        for member in made.members:
            member.send_signal(signal.SIGSTOP)
        acknowledged = list(told.acknowledged)
        copies = [await asyncio.to_thread(disk.copied) for disk in made.disks]
        for member in made.members:
            await member.kill_async()
    for disk, copy in zip(made.disks, copies, strict=True):
        await asyncio.to_thread(disk.replace_by, copy)
    for member in made.members:
        await asyncio.to_thread(member.launch)
    # Servers that have lost their memory may never find together again.
    with contextlib.nullcontext() if synced else contextlib.suppress(BusUnavailable):
        await made.cluster.wait_ready(FOUND_SECONDS if synced else NOTHING_COMES_SECONDS)
    return acknowledged
