"""Trainers with other lane files are named by whichever trainer is asked, from the heartbeats of all of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.trainer.lanes.lane_rig import Rig, lane, lanes, rig, trainer, until

from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.daemons.testing import heartbeat
from fleetcast.daemons.trainer.claims.watching import NodeWatch
from fleetcast.daemons.trainer.lanes.answering import LaneService
from fleetcast.daemons.trainer.lanes.commands import LaneAnswer
from fleetcast.events.payloads import DaemonState, Wants
from fleetcast.registry.commands import stamp
from fleetcast.registry.picture.agreement import LaneCopies

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def made(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as there:
        yield there


async def beat(
    made: Rig, node: str, known: Mapping[str, str], state: DaemonState = DaemonState.READY, number: int = 1
) -> None:
    """A trainer's heartbeat."""
    at = stamp(datetime.now(UTC))
    nothing = Wants(models=(), lanes=())
    status = heartbeat(node, at=at, daemon="trainer", state=state, pid=number, wants=nothing, lanes=dict(known))
    await made.bus.kv_put(NODES_BUCKET, f"{node}.trainer", status.model_dump_json().encode())


async def test_a_trainer_that_is_asked_names_those_that_have_another_definition_until_they_have_the_same(
    made: Rig,
) -> None:
    own, changed = lane("hex8"), lane("hex8", grace_seconds=61.0)
    known = lanes(own, lane("square8"))
    async with trainer(made, known) as alive:
        nodes = NodeWatch(made.bus, silent_after_seconds=600.0)
        watching = asyncio.create_task(nodes.run())
        service = LaneService(alive.bus, alive.desk, others=nodes.lanes)

        async def copies(lane: str) -> LaneCopies | None:
            said = await service.answer(json.dumps({"ask": "list"}).encode())
            return {each.lane: each.copies for each in LaneAnswer.model_validate_json(said).lanes}[lane]

        assert await copies("hex8") is None
        await beat(made, "n2", {"hex8": changed.digest, "square8": lane("square8").digest})
        await beat(made, "n3", {"hex8": own.digest})
        await beat(made, "n4", {})
        await until("four nodes", lambda: _count(nodes, 3))
        assert await copies("hex8") == LaneCopies(digests={own.digest: ("n1", "n3"), changed.digest: ("n2",)})
        assert await copies("square8") == LaneCopies(digests={lane("square8").digest: ("n1", "n2")}, unknown_to=("n3",))
        shown = LaneAnswer.model_validate_json(await service.answer(b'{"ask": "show", "lane": "hex8"}'))
        assert shown.lanes[0].copies is not None
        await beat(made, "n3", {"hex8": own.digest, "only": "1" * 16}, number=3)
        await until("the lane of n3", lambda: _knows(nodes, "n3", "only"))
        assert await copies("only") == LaneCopies(digests={"1" * 16: ("n3",)}, unknown_to=("n1", "n2"))
        absent = LaneAnswer.model_validate_json(await service.answer(b'{"ask": "show", "lane": "only"}'))
        assert (absent.outcome, absent.message) == (
            "unknown",
            "n1 answered, which has no lane only; its lanes differ from those of n3",
        )
        await beat(made, "n2", known.digests, number=2)
        await beat(made, "n3", {"hex8": "0" * 16}, DaemonState.STOPPED, number=4)

        async def agree() -> bool:
            return await copies("hex8") is None and await copies("square8") is None

        await until("that they are one", agree)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _knows(nodes: NodeWatch, node: str, lane: str) -> bool:
    return lane in nodes.lanes()[node]


async def _count(nodes: NodeWatch, count: int) -> bool:
    return len(nodes.lanes()) == count
