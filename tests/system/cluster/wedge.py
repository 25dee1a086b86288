"""Writes hang although the servers run, and say that they are well: who notices, and when."""

import asyncio
import contextlib
import random
import re
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.system.cluster.machines import COUNT, Site

from fleetcast.bus import Bus, BusState, connect
from fleetcast.config.local import loopback_settings
from fleetcast.config.settings import BusSettings
from fleetcast.daemons.testing import RegistryProcess

WITHIN_SECONDS = 60.0
"""How long a wedge lasts at most before this gives up; the promise is 30 s."""
LOOK_SECONDS = 0.1
READY = re.compile(r"^fleetcast_bus_ready(?:\{[^}]*\})? (\d)", re.MULTILINE)


def as_in_a_fleet(site: Site) -> BusSettings:
    """The settings that a node has whose owner changed nothing."""
    return BusSettings(url=site.cluster.url, replicas=COUNT)


@dataclass(frozen=True, slots=True)
class Wedged:
    """What was seen of one wedge.

    Attributes:
        how: `frozen disks` or `stopped servers`.
        bus_seconds: until a `Bus` said that it is degraded, by its canary.
        daemon_seconds: until a real daemon's metrics said so (the alert FleetcastBusAway).
        healed_seconds: from the end of the wedge until the bus was ready again.
        server_healthy: looks in which a server answered that it is healthy, of `looks`.
        client_connected: looks in which the client was connected.
    """

    how: str
    bus_seconds: float
    daemon_seconds: float
    healed_seconds: float
    looks: int
    server_healthy: int
    client_connected: int


async def wedge(site: Site, chance: random.Random, fleet: BusSettings, *, daemon: bool = True) -> Wedged:
    """Wedge two of three servers and wait until it is noticed by whoever has these settings.

    Args:
        daemon: whether a real daemon is watched as well as a bus of this process.
    """
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(fleet, node="watched", daemon="campaign"))
        await _until(lambda: bus.state is BusState.READY)
        url = await stack.enter_async_context(_daemon(site.folder, fleet)) if daemon else ""
        # Somewhere between two round trips, as a real one would be.
        await asyncio.sleep(chance.uniform(0, fleet.canary_interval_seconds))
        with _wedged(site, chance) as how:
            seen = await _watch(site, bus, url)
        began = time.monotonic()
        await _until(lambda: bus.state is BusState.READY, 2 * WITHIN_SECONDS)
        return Wedged(how, *seen[:2], time.monotonic() - began, *seen[2:])


@contextlib.contextmanager
def _wedged(site: Site, chance: random.Random) -> Iterator[str]:
    numbers = chance.sample(range(COUNT), 2)
    with contextlib.ExitStack() as stack:
        if site.disks:
            for number in numbers:
                stack.enter_context(site.disks[number].frozen())
            yield "frozen disks"
            return
        for number in numbers:
            member = site.members[number]
            stack.callback(member.send_signal, signal.SIGCONT)
            member.send_signal(signal.SIGSTOP)
        yield "stopped servers"


async def _watch(site: Site, bus: Bus, url: str) -> tuple[float, float, int, int, int]:
    began, found, looks, healthy, connected = time.monotonic(), [-1.0, -1.0], 0, 0, 0
    while min(found) < 0 and time.monotonic() - began < WITHIN_SECONDS:
        looks += 1
        connected += bus.wire.connected
        healths = await asyncio.gather(*(asyncio.to_thread(member.health) for member in site.members))
        healthy += any(health is None for health in healths)
        if found[0] < 0 and bus.state is BusState.DEGRADED:
            found[0] = time.monotonic() - began
        if found[1] < 0 and (not url or await asyncio.to_thread(_metric, url) == "0"):
            found[1] = time.monotonic() - began
        await asyncio.sleep(LOOK_SECONDS)
    # Unnoticed is as bad as the longest that was waited.
    bus_seconds, daemon_seconds = (each if each >= 0 else WITHIN_SECONDS for each in found)
    return bus_seconds, daemon_seconds, looks, healthy, connected


class Watched(RegistryProcess):
    """A registry daemon that ends with this process, however that does."""

    def command(self) -> list[str]:
        return ["setpriv", "--pdeathsig", "KILL", *super().command()]


@contextlib.asynccontextmanager
async def _daemon(folder: Path, bus: BusSettings) -> AsyncIterator[str]:
    """A registry daemon; where its metrics are."""
    home = folder / "watched"
    home.mkdir(parents=True, exist_ok=True)
    made = loopback_settings("watched", bus.url, data=home / "data", publish_roots=(), reserve_bytes=0)
    process = Watched("watched", home, made.model_copy(update={"bus": bus}))
    try:
        process.start()
        await process.until_ready(WITHIN_SECONDS)
        url = str(process.logged("metrics.served")[-1]["url"])
        await _until_metric(url, "1")
        yield url
    finally:
        process.kill()


def _metric(url: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        if found := READY.search(answer.read().decode()):
            return found[1]
    return ""


async def _until_metric(url: str, value: str) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while await asyncio.to_thread(_metric, url) != value:  # noqa: ASYNC110 - another process
            await asyncio.sleep(LOOK_SECONDS)


async def _until(holds: Callable[[], bool], seconds: float = WITHIN_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - a state that several things change
            await asyncio.sleep(LOOK_SECONDS)
