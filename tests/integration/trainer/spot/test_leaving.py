"""A node whose machine is taken away: the cloud says so, the fleet is told once, and the runs there leave in time."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.trainer.checkpoints.rig import until

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.streams import EVENTS
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.daemons.trainer.spot.aws import Aws
from fleetcast.daemons.trainer.spot.leaving import Leaving
from fleetcast.daemons.trainer.spot.notices import Adapter
from fleetcast.daemons.trainer.spot.rules import Leave, RunHere
from fleetcast.daemons.trainer.spot.testing import aws_metadata
from fleetcast.registry.commands import stamp

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Runs:
    """Runs of a node, as the trainer has them in hand."""

    present: tuple[RunHere, ...] = (RunHere("r1", 1.0, 60.0), RunHere("r2", 500.0, 10.0))
    left: list[Leave] = field(default_factory=list)

    def here(self) -> Sequence[RunHere]:
        return self.present

    async def leave(self, leave: Leave, deadline: datetime) -> bool:
        assert leave.by < deadline
        self.left.append(leave)
        return leave.save


@dataclass
class Life:
    """One life of what watches for notices."""

    leaving: Leaving
    runs: Runs
    counted: list[tuple[str, bool]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    async with (
        nats_server(tmp_path_factory.mktemp("nats")) as server,
        connect(fast_settings(server.url), node="t", daemon="t") as connected,
    ):
        await declare(connected, 1)
        yield connected


@asynccontextmanager
async def life(bus: Bus, node: str, adapter: Adapter | None = None) -> AsyncIterator[Life]:
    runs, counted = Runs(), []

    async def count(run: str, saved: bool) -> None:
        counted.append((run, saved))

    leaving = Leaving(
        bus, runs, node=node, now=lambda: datetime.now(UTC), adapter=adapter, poll_seconds=0.02, counted=count
    )
    task = asyncio.create_task(leaving.run())
    try:
        yield Life(leaving, runs, counted)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def told(bus: Bus, node: str) -> list[dict[str, Any]]:
    subject = f"fc.ev.node.reclaim_notice.{node}"
    return [json.loads(entry.data) async for entry in bus.tail(EVENTS, (subject,))]


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def by_hand(bus: Bus, node: str, deadline: datetime, **more: Any) -> None:
    body = {"deadline": stamp(deadline), "source": "ada", **more}
    await bus.publish_raw(f"fc.ev.node.reclaim_notice.{node}", json.dumps(body).encode())


async def test_notice_of_the_cloud_is_told_once_and_every_run_leaves_once(bus: Bus) -> None:
    async with aws_metadata() as cloud, life(bus, "n1", Aws(cloud.url)) as here:
        assert here.leaving.deadline is None
        cloud.interrupt("terminate", soon(120))
        await until("both left", lambda: _many(here.counted, 2))
        asked = len(cloud.asked)
        await until("it was asked again", lambda: _many(cloud.asked, asked + 12))
        assert sorted(here.counted) == [("r1", True), ("r2", False)]
        assert (here.leaving.notices, here.leaving.saves) == (2, 1)
        assert here.leaving.deadline is not None
    (event,) = await told(bus, "n1")
    assert (event["data"]["source"], event["data"]["certain"]) == ("aws.spot", True)


async def test_notice_that_somebody_types_is_as_good(bus: Bus) -> None:
    async with life(bus, "n2") as here:
        await by_hand(bus, "n2", soon(60))
        await until("both left", lambda: _many(here.counted, 2))


async def test_recommendation_stops_no_run_and_keeps_new_ones_away(bus: Bus) -> None:
    async with aws_metadata() as cloud, life(bus, "n3", Aws(cloud.url)) as here:
        cloud.rebalance(datetime.now(UTC))
        await until("it is known", lambda: _stands(here.leaving))
        assert here.runs.left == []


async def test_maintenance_of_next_week_changes_nothing_yet(bus: Bus) -> None:
    async with aws_metadata() as cloud, life(bus, "n6", Aws(cloud.url)) as here:
        cloud.maintain("instance-retirement", soon(7 * 86400))
        await until("it is told", lambda: told(bus, "n6"))
        assert here.leaving.deadline is None
        assert here.runs.left == []


async def test_run_that_was_being_claimed_when_the_notice_came_leaves_too(bus: Bus) -> None:
    async with life(bus, "n7") as here:
        await by_hand(bus, "n7", soon(60))
        await until("both left", lambda: _many(here.counted, 2))
        here.runs.present = (*here.runs.present, RunHere("r3", 1.0, 0.0))
        await until("the third left", lambda: _many(here.counted, 3))
        assert [leave.run for leave in here.runs.left] == ["r1", "r2", "r3"]


async def test_daemon_that_is_started_anew_heeds_what_still_stands_and_not_what_is_over(bus: Bus) -> None:
    await by_hand(bus, "n4", soon(-300), detail="over")
    async with life(bus, "n4") as first:
        await by_hand(bus, "n4", soon(300), detail="stands")
        await until("both left", lambda: _many(first.counted, 2))
    async with life(bus, "n4") as second:
        await until("both left again", lambda: _many(second.counted, 2))
        assert len(second.runs.left) == 2
    assert len(first.runs.left) == 2


async def test_runs_leave_though_the_bus_is_gone(tmp_path: Path) -> None:
    async with aws_metadata() as cloud:
        async with nats_server(tmp_path) as server:
            context = connect(fast_settings(server.url), node="n5", daemon="trainer")
            alone = await context.__aenter__()
            await declare(alone, 1)
        try:
            async with life(alone, "n5", Aws(cloud.url)) as here:
                cloud.interrupt("stop", soon(120))
                await until("both left", lambda: _many(here.counted, 2))
        finally:
            await context.__aexit__(None, None, None)


async def _many(found: Sequence[object], count: int) -> bool:
    return len(found) >= count


async def _stands(leaving: Leaving) -> bool:
    return leaving.deadline is not None
