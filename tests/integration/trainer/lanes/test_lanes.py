"""From data to one queued run, over any number of trainers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.trainer.lanes.lane_rig import Rig, lane, lanes, rig, trainer, until

from fleetcast.bus import BatchMessage
from fleetcast.daemons.trainer.lanes import store as storing
from fleetcast.daemons.trainer.lanes.desk import LaneDesk
from fleetcast.daemons.trainer.lanes.store import LaneStore, Newest
from fleetcast.daemons.trainer.ledger import TrainingLedger, stored
from fleetcast.events.content import Kind, Value
from fleetcast.events.state import SlotState, slot_subject
from fleetcast.events.training import TrainingPhase
from fleetcast.transport import failpoints

pytestmark = pytest.mark.asyncio(loop_scope="module")
HEX8 = lane()
TRAINERS = ("n1", "n2", "n3")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig(tmp_path_factory.mktemp("lanes")) as there:
        yield there


async def test_of_three_trainers_one_queues_the_run_and_the_bucket_pays_once(made: Rig) -> None:
    known = lanes(lane("one"))
    async with AsyncExitStack() as stack:
        for node in TRAINERS:
            await stack.enter_async_context(trainer(made, known, node))
        artifact = await made.export("one", "d1", 250)
        run = await made.one_run("one")
        state = await made.ledger("one")
        assert state is not None
        assert (state.tokens, state.samples_spent, state.runs, state.run) == (50, 200, 1, run.run)
        assert (run.phase, run.data[0].artifact, run.claim) == (TrainingPhase.QUEUED, artifact, 0)
        assert [job["run"] for job in await made.jobs("one")] == [run.run]
        # What is told, is told once; and it follows from the export.
        await until("the facts", lambda: made.facts("fc.ev.lane.changed.one"))
        await until("the run's fact", lambda: made.facts(f"fc.ev.run.moved.{run.run}"))
        assert [each["what"] for each in await made.facts("fc.ev.lane.changed.one")] == ["samples", "run_queued"]
        assert run.cause.event == "export-one-d1"


async def test_the_same_bytes_again_start_nothing_and_count_nothing(made: Rig) -> None:
    async with trainer(made, lanes(lane("again"))):
        artifact = await made.export("again", "d1", 200)
        run = await made.one_run("again")
        await made.end(run.run)
        await until("the lane is free", lambda: _free(made, "again"))
        await made.order("again", "d1-renamed", artifact)
        await made.export("again", "d2", 150, 350)
        state = await until("150 samples", lambda: _with_samples(made, "again", 350))
        assert (state.tokens, len(await made.runs("again"))) == (150, 1)
        await made.export("again", "d3", 50, 400)
        assert (await made.one_run("again", 2)).data[0].version == "d3"


async def test_data_that_came_while_no_trainer_was_there_is_not_missed(made: Rig) -> None:
    for number in range(4):
        await made.export("late", f"d{number}", 60, 60 * (number + 1))
    async with trainer(made, lanes(lane("late"))):
        run = await made.one_run("late")
        assert run.data[0].version == "d3"
        state = await made.ledger("late")
        assert state is not None
        assert (state.samples_in, state.tokens, [each.version for each in state.exports]) == (
            240,
            40,
            ["d3", "d2", "d1", "d0"],
        )


async def test_a_data_set_that_a_later_one_overtook_counts_and_is_not_the_one_that_is_taken(made: Rig) -> None:
    early = await made.export("slow", "d1", 120, order=False)
    await made.export("slow", "d2", 120, 240)
    async with trainer(made, lanes(lane("slow"))):
        run = await made.one_run("slow")
        assert run.data[0].version == "d2"
        await made.order("slow", "d1", early)
        await made.end(run.run)
        await until("the lane is free", lambda: _free(made, "slow"))
        state = await made.ledger("slow")
        assert state is not None
        assert (state.samples_in, len(await made.runs("slow"))) == (240, 1)


async def test_a_lost_job_is_put_into_the_queue_again(made: Rig) -> None:
    async with trainer(made, lanes(lane("lost"))):
        await made.export("lost", "d1", 200)
        run = await made.one_run("lost")
        await made.take_job("lost")
        assert (await made.one_run("lost")).run == run.run


@pytest.mark.parametrize("point", ["lane.start.before", "lane.start.after"])
async def test_a_trainer_that_dies_while_it_queues_a_run_leaves_it_to_the_next_one(made: Rig, point: str) -> None:
    name = point.replace(".", "_")
    known = lanes(lane(name))
    async with trainer(made, known) as first:
        with failpoints.watched(_killer(point)):
            await made.export(name, "d1", 200)
            async with asyncio.timeout(30):
                await asyncio.wait(first.work, return_when=asyncio.FIRST_COMPLETED)
    assert len(await made.jobs(name)) == 0
    assert len(await made.runs(name)) == (point == "lane.start.after")
    async with trainer(made, known, "n2"):
        run = await made.one_run(name)
        state = await made.ledger(name)
        assert state is not None
        assert (state.samples_spent, state.run) == (200, run.run)


async def test_a_run_that_ended_lets_the_next_one_begin_whatever_its_end(made: Rig) -> None:
    async with trainer(made, lanes(lane("next"))):
        await made.export("next", "d1", 200)
        run = await made.one_run("next")
        await made.export("next", "d2", 200, 400)
        await until("400 samples", lambda: _with_samples(made, "next", 400))
        assert len(await made.runs("next")) == 1
        await made.take_job("next")
        await made.end(run.run, TrainingPhase.FAILED)
        assert (await made.one_run("next", 2)).data[0].version == "d2"


async def test_time_alone_starts_what_only_waited_for_quiet(made: Rig) -> None:
    async with trainer(made, lanes(lane("quiet", bucket={"quiet_seconds": 0.5}))) as alive:
        await made.export("quiet", "d1", 100)
        await made.export("quiet", "d2", 100, 200)
        view = await until("a wait for quiet", lambda: _waits(alive))
        assert view.due_at is not None
        run = await made.one_run("quiet")
        assert run.data[0].version == "d2"


async def _waits(alive: Any) -> Any:
    (view,) = (await alive.ask(ask="list")).lanes[-1:]
    view = next(each for each in (await alive.ask(ask="list")).lanes if each.lane == "quiet")
    return view if view.due_at is not None or view.run is not None else None


async def test_what_a_deaf_watch_missed_is_found_by_the_next_comparison_and_by_nothing_else(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(_desk: LaneDesk, known: asyncio.Event) -> None:
        known.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(LaneDesk, "_follow_data", deaf)
    async with trainer(made, lanes(lane("deaf")), reconcile_seconds=3600.0):
        await made.export("deaf", "d1", 200)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.one_run("deaf"), 0.5)
    async with trainer(made, lanes(lane("deaf"))):
        assert (await made.one_run("deaf")).data[0].version == "d1"


async def test_a_server_that_is_killed_while_data_comes_costs_no_sample_and_no_run(made: Rig) -> None:
    assert made.server is not None
    known = lanes(lane("hard", bucket={"required": 100, "cap": 1000}))
    async with trainer(made, known, "n1"), trainer(made, known, "n2"):
        for number in range(3):
            coming = asyncio.create_task(made.export("hard", f"d{number}", 100, 100 * (number + 1)))
            await made.server.kill_async()
            await made.server.start_async()
            await coming
            run = await made.one_run("hard", number + 1)
            await made.end(run.run)
            await until("the lane is free", lambda: _free(made, "hard"))
            await until("its job is gone", lambda: _taken(made, "hard"))
        state = await made.ledger("hard")
        assert state is not None
        assert (state.samples_in, state.samples_spent, state.tokens) == (300, 300, 0)


async def _taken(made: Rig, name: str) -> bool:
    await made.take_job(name)
    return not await made.jobs(name)


# -- two at once


async def test_eight_racers_spend_once_and_without_expected_sequences_they_do_not(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _spent_by_racers(made, "fenced") == 200

    def unfenced(subject: str, value: Value, _expected: int) -> BatchMessage:
        message = stored(subject, value, 0)
        return BatchMessage(message.subject, message.data, None, message.headers)

    monkeypatch.setattr(storing, "stored", unfenced)
    monkeypatch.setattr(TrainingLedger, "fact_message", _any_number_of_times)
    assert await _spent_by_racers(made, "unfenced") != 200


def _any_number_of_times(_ledger: TrainingLedger, fact: Any) -> BatchMessage:
    data, _ = fact.encode()
    return BatchMessage(f"fc.trn.fact.lane.changed.x.{fact.id}", data, None)


async def _spent_by_racers(made: Rig, name: str) -> int:
    """What the bucket paid for one run that eight trainers queue at the same moment, as their writes say."""
    definition = lane(name, bucket={"required": 200, "cap": 10_000})
    await made.export(name, "d1", 1000)
    entry = await made.bus.last("FC_REGISTRY", slot_subject(name, Kind.DATASET))
    assert entry is not None
    newest = Newest(SlotState.model_validate_json(entry.data), entry.sequence, entry.time)
    ledgers = [TrainingLedger(made.bus) for _ in range(8)]
    stores = [LaneStore(each, each.clock) for each in ledgers]
    await stores[0].count(definition, newest)
    queued = [run for run in await asyncio.gather(*(each.start(definition) for each in stores)) if run is not None]
    return 200 * len(queued)


async def _free(made: Rig, name: str) -> bool:
    state = await made.ledger(name)
    return state is not None and state.run is None


async def _with_samples(made: Rig, name: str, samples: int) -> Any:
    state = await made.ledger(name)
    return state if state is not None and state.samples_in == samples else None


def _killer(point: str) -> Any:
    def kill(name: str) -> None:
        if name == point:
            raise KeyboardKill

    return kill


class KeyboardKill(BaseException):
    """Ends a trainer's task at a failpoint, past every handler of errors."""
