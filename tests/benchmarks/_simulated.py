"""A large fleet without its machines: a registry with models that are served, and the heartbeats of nodes that serve
them, told to a real server by one process."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from tests.benchmarks._registry import model_name, records

from fleetcast.bus import BatchMessage, Bus
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.daemons.testing import heartbeat
from fleetcast.events.payloads import Checks, Endpoints, Wants
from fleetcast.events.state import InstalledVersion, ModelStatus, NodeStatus

BATCH = 1000
CHECKS = Checks(size="ok", sha256="ok", format="ok")


async def fill_registry(bus: Bus, models: int, versions: int) -> None:
    """Models of which the newest version is in production, in FC_REGISTRY."""
    waiting: Iterable[BatchMessage] = await asyncio.to_thread(lambda: list(records(models, versions)))
    made = iter(waiting)
    while batch := list(islice(made, BATCH)):
        await bus.batch(batch)


def name_of(node: int) -> str:
    """`node-007`."""
    return f"node-{node:03d}"


@dataclass
class Nodes:
    """Nodes, in groups; those of a group say that they serve each model of the group.

    Attributes:
        count, models: how many there are.
        groups: 1 to 10.
        generation: of all slots; the version has the same number.
    """

    bus: Bus
    count: int
    models: int
    groups: int
    generation: int

    async def say(self, node: int, *, behind: int = 0) -> None:
        """One heartbeat of a node that does not serve the first *behind* of its models yet."""
        said = await asyncio.to_thread(lambda: self._status(node, behind).model_dump_json().encode())
        await self.bus.kv_put(NODES_BUCKET, f"{name_of(node)}.distributor", said)

    @contextlib.asynccontextmanager
    async def beating(self, seconds: float) -> AsyncIterator[None]:
        """All of them say what they serve every so many seconds, not all at once."""
        for node in range(self.count):
            await self.say(node)
        tasks = [asyncio.create_task(self._beat(node, seconds)) for node in range(self.count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self, node: int, seconds: float) -> None:
        await asyncio.sleep(random.uniform(0, seconds))
        while True:
            await self.say(node)
            await asyncio.sleep(seconds)

    def _status(self, node: int, behind: int) -> NodeStatus:
        now, group = datetime.now(UTC).isoformat(), node % self.groups
        mine = range(group, self.models, self.groups)
        return heartbeat(
            name_of(node),
            at=now,
            status=f"{len(mine)} versions of {len(mine)} models, no transfer",
            pid=node + 1,
            started_at="2026-01-01T00:00:00.000Z",
            endpoints=Endpoints(bt=f"10.0.0.{node}:6881", http=f"http://10.0.0.{node}:6880/c"),
            labels={"zone": f"z{node % 3}"},
            wants=Wants(models=tuple(f"*{last}" for last in range(group, 10, self.groups))),
            data="/var/lib/fleetcast",
            models=tuple(self._held(number, late=place < behind) for place, number in enumerate(mine)),
        )

    def _held(self, number: int, *, late: bool) -> ModelStatus:
        generation = self.generation - late
        version = str(generation)
        installed = InstalledVersion(
            version=version,
            artifact="0" * 64,
            bytes=2**20,
            checks=CHECKS,
            transport="bittorrent",
            seconds=1.0,
            installed_at="2026-01-01T00:00:00.000Z",
        )
        return ModelStatus(
            model=model_name(number),
            kind="model",
            generation=generation,
            current=version,
            path=f"/var/lib/fleetcast/models/{model_name(number)}",
            installed=(installed,),
        )
