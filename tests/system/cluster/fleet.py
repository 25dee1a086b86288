"""A large fleet's control traffic on one real server: what it costs the server."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tests.system.cluster.crowd import artifact
from tests.system.cluster.machines import child

from fleetcast.bus import BatchMessage, Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import nats_server
from fleetcast.config.settings import BusSettings, DistributorSettings
from fleetcast.events.state import Cause, SlotEntry, SlotState, slot_subject

CROWDS = 6
"""Processes that the nodes are shared among."""
START_SECONDS = 300.0
SETTLE_SECONDS = 10.0
SLOT_SECONDS = 2.0
"""Distance of slot orders while a rollout runs."""
BEATS = "KV_fc_nodes"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a window of the fleet's life cost.

    Attributes:
        cores: processor time of the server over wall time.
        said_ratio: heartbeats and progress messages that the server got, over what the nodes are to send: below 0.9
            the machine had no time for the nodes, and the figure says little.
        out_per_second: messages that the server sent.
    """

    cores: float
    said_ratio: float
    in_per_second: float
    out_per_second: float
    out_mb_per_second: float
    rss_mib: float


@dataclass(frozen=True, slots=True)
class FleetCost:
    """At rest, and in a rollout to every node."""

    nodes: int
    rest: Cost
    rollout: Cost
    not_ready: int
    ended: tuple[str, ...]

    @property
    def cores(self) -> float:
        return max(self.rest.cores, self.rollout.cores)

    @property
    def said_ratio(self) -> float:
        return min(self.rest.said_ratio, self.rollout.said_ratio)


async def fleet_cost(folder: Path, *, nodes: int, seconds: float) -> FleetCost:
    """Start so many nodes, and measure the server for so long at rest, and as long in a rollout."""
    moving = folder / "moving"
    async with (
        nats_server(folder / "nats") as server,
        connect(BusSettings(url=server.url), node="viewer", daemon="campaign") as bus,
    ):
        await declare(bus, 1)
        heard = [0]

        def hear(_message: object) -> None:
            heard[0] += 1

        await bus.listen("fc.progress.*", hear)
        async with _crowds(server, nodes, moving) as crowds:
            await asyncio.sleep(SETTLE_SECONDS)
            rest = await _measure(server, bus, nodes, seconds, heard, progress=False)
            moving.touch()
            ordering = asyncio.create_task(_order(bus))
            await asyncio.sleep(1.0)
            rollout = await _measure(server, bus, nodes, seconds, heard, progress=True)
            ordering.cancel()
            await asyncio.gather(ordering, return_exceptions=True)
            said = [await _goodbye(crowd) for crowd in crowds]
    ended = tuple(str(reason) for each in said for reason in each["ended"])
    return FleetCost(nodes, rest, rollout, sum(int(each["not_ready"]) for each in said), ended)


async def _measure(
    server: LocalServer, bus: Bus, nodes: int, seconds: float, heard: list[int], *, progress: bool
) -> Cost:
    settings, process = DistributorSettings(), psutil.Process(server.pid)
    beats, said = await bus.last_sequence(BEATS), heard[0]
    before, counted, began = process.cpu_times(), server.monitor("/varz"), time.monotonic()
    await asyncio.sleep(seconds)
    wall = time.monotonic() - began
    after, now = process.cpu_times(), server.monitor("/varz")
    expected = nodes * wall / settings.heartbeat_seconds
    got = await bus.last_sequence(BEATS) - beats
    ratio = got / expected
    if progress:
        ratio = min(ratio, (heard[0] - said) / (nodes * wall / settings.progress_interval_seconds))
    return Cost(
        cores=(after.user + after.system - before.user - before.system) / wall,
        said_ratio=ratio,
        in_per_second=(now["in_msgs"] - counted["in_msgs"]) / wall,
        out_per_second=(now["out_msgs"] - counted["out_msgs"]) / wall,
        out_mb_per_second=(now["out_bytes"] - counted["out_bytes"]) / wall / 1e6,
        rss_mib=process.memory_info().rss / 2**20,
    )


async def _order(bus: Bus) -> None:
    """Slot orders, as a registry daemon stores them."""
    generation = 0
    while True:
        generation += 1
        entry = SlotEntry(version=str(generation), artifact=artifact(generation))
        state = SlotState(
            model="model_0",
            generation=generation,
            production=entry,
            cause=Cause(event="e", sequence=0, by="/campaign", correlation="c"),
            at="2026-01-01T00:00:00.000Z",
        )
        await bus.batch([BatchMessage(slot_subject("model_0"), state.model_dump_json(by_alias=True).encode())])
        await asyncio.sleep(SLOT_SECONDS)


@contextlib.asynccontextmanager
async def _crowds(server: LocalServer, nodes: int, moving: Path) -> "AsyncIterator[list[asyncio.subprocess.Process]]":
    shares = [len(range(n, nodes, CROWDS)) for n in range(CROWDS)]
    crowds: list[asyncio.subprocess.Process] = []
    try:
        first = 0
        for share in shares:
            words = child("tests.system.cluster.crowd", server.url, str(first), str(share), str(moving))
            crowds.append(
                await asyncio.create_subprocess_exec(
                    *("setpriv", "--pdeathsig", "KILL", *words),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
            )
            first += share
        async with asyncio.timeout(START_SECONDS):
            for crowd in crowds:
                assert crowd.stdout is not None
                if not await crowd.stdout.readline():
                    raise RuntimeError("a crowd of simulated nodes ended before it was connected")
        yield crowds
    finally:
        for crowd in crowds:
            with contextlib.suppress(ProcessLookupError):
                crowd.kill()
            await crowd.wait()


async def _goodbye(crowd: asyncio.subprocess.Process) -> dict[str, Any]:
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    crowd.stdin.close()
    async with asyncio.timeout(START_SECONDS):
        return dict(json.loads(await crowd.stdout.readline()))
