"""A run that is kept away from a node after a fault goes there again when somebody says so: real lives of a trainer, a
real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.trainer.runs.lives import a_run, ask, life, now, server, until

from fleetcast.bus import Bus
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.answering import RunService
from fleetcast.daemons.trainer.claims.commands import AllowNode, RunAnswer
from fleetcast.daemons.trainer.claims.rules import Again, Ended
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bus]:
    async with server(tmp_path_factory.mktemp("allowing")) as (_, made):
        yield made


async def allow(bus: Bus, run: str, node: str = "n1", **more: object) -> RunAnswer:
    """Ask the service of a trainer that is not the node's."""
    service = RunService(RunStore(TrainingLedger(bus), node="n7"), now=now, is_silent=lambda _: False)
    request = AllowNode.model_validate({"run": run, "node": node, "reason": "new riser cable", "by": "ann", **more})
    return RunAnswer.model_validate_json(await service.answer(request.model_dump_json().encode()))


async def kept_away(bus: Bus, number: str, script: str = "pass") -> RunStore:
    """A run that had a fault on n1, and waits for another node."""
    await ask(bus, a_run(number, script))
    store = RunStore(TrainingLedger(bus), node="n1")
    run = f"run-{number}"
    await store.change(run, lambda there: rules.claimed(there, node="n1", pid=1, device="cpu", now=now()))
    again = Again(away_from="n1", away_until=now() + timedelta(hours=1))
    await store.change(run, lambda there: rules.queued_again(there, Ended("hardware"), again, now()))
    return store


async def test_a_repaired_node_takes_the_run_once_it_is_told_so_and_not_before(bus: Bus, tmp_path: Path) -> None:
    await kept_away(bus, "away")
    async with life(bus, tmp_path):
        # Another run, queued later, is taken: the node looks for work.
        await ask(bus, a_run("other", "pass"))
        await until(bus, "run-other", lambda run: run.phase in TRAINING_ENDED)
        assert (await allow(bus, "run-away", dry_run=True)).message.startswith("dry run: ")
        waits = await until(bus, "run-away", lambda _: True)
        assert (waits.phase, waits.claim, set(waits.excluded)) == (TrainingPhase.QUEUED, 1, {"n1"})
        answer = await allow(bus, "run-away")
        run = await until(bus, "run-away", lambda run: run.phase in TRAINING_ENDED)
    assert "may go to n1 again" in answer.message
    assert (run.phase, run.claim, run.attempts[-1].node) == (TrainingPhase.SUCCEEDED, 2, "n1")
    assert [(each.node, each.by, each.reason) for each in run.allowed] == [("n1", "ann", "new riser cable")]
    (fact,) = [json.loads(e.data)["data"] async for e in bus.tail(EVENTS, ("fc.ev.run.node_allowed.run-away",))]
    assert (fact["node"], fact["claim"], fact["by"]) == ("n1", 1, "ann")


async def test_the_same_order_twice_is_one_and_a_run_that_has_ended_or_never_was_is_refused(bus: Bus) -> None:
    store = await kept_away(bus, "twice")
    first, second = [await allow(bus, "run-twice", request="q1") for _ in range(2)]
    assert first.message == second.message
    kept = await store.find("run-twice")
    assert kept is not None
    assert len(kept.run.allowed) == 1
    assert "kept away from no node" in (await allow(bus, "run-twice")).message
    over = Ended("code")
    await store.change("run-twice", lambda there: rules.finished(there, TrainingPhase.FAILED, over, now()))
    assert (await allow(bus, "run-twice")).outcome == "ended"
    assert (await allow(bus, "run-never")).outcome == "unknown"


async def test_an_order_beside_the_owner_s_own_changes_loses_nothing_of_either(bus: Bus) -> None:
    store = await kept_away(bus, "beside")
    owner = RunStore(TrainingLedger(bus), node="n2")
    await owner.change("run-beside", lambda there: rules.claimed(there, node="n2", pid=2, device="cpu", now=now()))

    async def progress() -> None:
        for _ in range(10):
            await owner.change_held("run-beside", 2, lambda run: run.model_copy(update={"step": (run.step or 0) + 1}))

    _, answer = await asyncio.gather(progress(), allow(bus, "run-beside"))
    assert "it is on n2, and stays there" in answer.message
    kept = await store.find("run-beside")
    assert kept is not None
    assert (kept.run.step, kept.run.owner, kept.run.claim) == (10, "n2", 2)
    assert (dict(kept.run.excluded), len(kept.run.allowed)) == ({}, 1)
