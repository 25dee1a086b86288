"""A run that a newer fleetcast queued, whose lane this one cannot read, keeps no other run waiting."""

import asyncio
import functools
from typing import Any

import pytest
from tests.unit.trainer.claims.values import NOW, run

from fleetcast.bus import Bus
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.cancelling import Cancelling
from fleetcast.daemons.trainer.claims.commands import CancelRun
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.takeover import Takeover
from fleetcast.daemons.trainer.claims.watching import NodeWatch, RunWatch
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.daemons.trainer.moving import node_gone
from fleetcast.events.training import TrainingPhase, TrainingRunState

pytestmark = pytest.mark.asyncio

UNREADABLE: dict[str, Any] = {"name": "hex8", "command": "not a list"}


async def claimed(store: RunStore, name: str, node: str, **changes: Any) -> TrainingRunState:
    kept = await store.save(None, run().model_copy(update={"run": name, **changes}))
    return (await store.save(kept, rules.claimed(kept.run, node=node, pid=1, device="cpu", now=NOW))).run


async def test_a_node_that_is_gone_loses_its_other_runs_all_the_same(bus: Bus) -> None:
    store, watch = RunStore(TrainingLedger(bus), node="n1"), RunWatch(bus)
    for each in (
        await claimed(store, "a-unreadable", "gone", definition=UNREADABLE),
        await claimed(store, "b-readable", "gone"),
    ):
        watch.take(each)
    queued: list[str] = []

    async def queue(there: TrainingRunState) -> None:
        queued.append(there.run)

    takeover = Takeover(
        bus,
        store,
        watch,
        is_silent=lambda _node: True,
        lost=functools.partial(node_gone, NodeWatch(bus, silent_after_seconds=1.0)),
        now=lambda: NOW,
        grace_seconds=0.0,
        look_seconds=1.0,
        queue=queue,
    )
    await takeover.look()
    assert queued == ["b-readable"]


async def test_a_trainer_takes_up_its_other_runs_and_a_person_can_end_the_unreadable_one(bus: Bus) -> None:
    store, watch = RunStore(TrainingLedger(bus), node=bus.node), RunWatch(bus)
    for each in (
        await claimed(store, "a-unreadable", bus.node, definition=UNREADABLE),
        await claimed(store, "b-readable", bus.node),
    ):
        watch.take(each)
    carried: asyncio.Queue[str] = asyncio.Queue()

    async def carry(owned: Any, _adopted: bool) -> None:
        carried.put_nowait(owned.id)
        await asyncio.Event().wait()

    keeper = Keeper(bus, store, watch, pid=2, now=lambda: NOW, lease_seconds=30.0, carry=carry)
    watch.known.set()
    work = asyncio.create_task(keeper.run())
    try:
        assert await asyncio.wait_for(carried.get(), 60) == "b-readable"
        assert not keeper.settled
        asked = CancelRun(run="a-unreadable", reason="nobody can read it", by="ann")
        service = Cancelling(store, now=lambda: NOW, is_silent=lambda _node: False)
        assert "a-unreadable is cancelled" in (await service.cancel(asked)).message
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    found = await store.find("a-unreadable")
    assert found is not None
    assert found.run.phase is TrainingPhase.CANCELLED
