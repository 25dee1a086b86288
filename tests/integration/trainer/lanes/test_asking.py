"""What people ask of lanes, by service, by event and on the command line."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.trainer.lanes.lane_rig import Rig, lane, lanes, rig, trainer, until

from fleetcast.client.folders import spool_folder
from fleetcast.config.settings import NodeSettings, Settings, StoreSettings
from fleetcast.daemons.trainer.lanes.exporting import Exporter
from fleetcast.events.training import TrainingPhase

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig(tmp_path_factory.mktemp("asking")) as there:
        yield there


async def test_a_person_has_a_run_started_and_the_same_request_starts_one(made: Rig) -> None:
    async with trainer(made, lanes(lane("hand"))) as alive:
        refused = await alive.ask(ask="trigger", lane="hand")
        assert (refused.outcome, "no data set" in refused.message) == ("refused", True)
        await made.export("hand", "d1", 10)
        await until("the data", lambda: made.ledger("hand"))
        tried = await alive.ask(ask="trigger", lane="hand", dry_run=True)
        assert (tried.outcome, len(await made.runs("hand"))) == ("done", 0)
        first = await alive.ask(ask="trigger", lane="hand", request="q1")
        run = await made.one_run("hand")
        assert run.run in first.message
        await made.end(run.run)
        await alive.ask(ask="trigger", lane="hand", request="q1")
        assert len(await made.runs("hand")) == 1
        # Another request over the same data is another run: who asks by hand knows why.
        await alive.ask(ask="trigger", lane="hand", request="q2")
        assert len(await made.runs("hand")) == 2
        state = await made.ledger("hand")
        assert state is not None
        assert state.tokens == -300


async def test_a_request_while_a_run_is_under_way_waits_for_its_end(made: Rig) -> None:
    async with trainer(made, lanes(lane("busy"))) as alive:
        await made.export("busy", "d1", 200)
        run = await made.one_run("busy")
        answer = await alive.ask(ask="trigger", lane="busy")
        assert f"begins when {run.run} has ended" in answer.message
        await made.end(run.run)
        await made.one_run("busy", 2)


async def test_an_event_typed_by_hand_starts_a_run_and_one_for_no_lane_is_refused(made: Rig) -> None:
    async with trainer(made, lanes(lane("typed"))):
        await made.export("typed", "d1", 10)
        await until("the data", lambda: made.ledger("typed"))
        await made.bus.publish_raw("fc.ev.lane.triggered.typed", b'{"reason": "new loss"}')
        run = await made.one_run("typed")
        assert run.lane == "typed"
        await made.bus.publish_raw("fc.ev.lane.triggered.nobodys", b'{"reason": "x"}')
        (rejected,) = await until("a refusal", lambda: made.facts("fc.ev.event.rejected.nobodys"))
        assert "knows a lane nobodys" in rejected["reason"]


async def test_a_trainer_that_has_no_lanes_refuses_nothing_that_another_one_knows(made: Rig) -> None:
    async with trainer(made, lanes(), "n1"), trainer(made, lanes(), "n2"), trainer(made, lanes(lane("mine")), "n3"):
        await made.export("mine", "d1", 10)
        await until("the data", lambda: made.ledger("mine"))
        for number in range(8):
            await made.bus.publish_raw("fc.ev.lane.triggered.mine", f'{{"reason": "try {number}"}}'.encode())
        await made.one_run("mine")
        await made.bus.publish_raw("fc.ev.lane.triggered.unheard", b'{"reason": "x"}')
        await until("a refusal", lambda: made.facts("fc.ev.event.rejected.unheard"))
        assert await made.facts("fc.ev.event.rejected.mine") == []


async def test_a_paused_lane_starts_when_it_is_resumed_and_not_before(made: Rig) -> None:
    async with trainer(made, lanes(lane("calm"))) as alive:
        await alive.ask(ask="pause", lane="calm", reason="wrong labels")
        await made.export("calm", "d1", 300)
        await until("the data", lambda: _with(made, "calm", 300))
        refused = await alive.ask(ask="trigger", lane="calm")
        assert refused.outcome == "refused"
        assert refused.next_step.startswith("fleetcast resume calm")
        (view,) = (await alive.ask(ask="show", lane="calm")).lanes
        assert "wrong labels" in view.reasons[0]
        assert await made.runs("calm") == []
        await alive.ask(ask="resume", lane="calm")
        await made.one_run("calm")


async def test_a_withdrawn_data_set_cancels_the_run_that_reads_it_and_is_not_counted_again(made: Rig) -> None:
    async with trainer(made, lanes(lane("bad"))) as alive:
        artifact = await made.export("bad", "d1", 200)
        run = await made.one_run("bad")
        await made.claim(run.run)
        answer = await alive.ask(ask="withdraw", lane="bad", version="d1", reason="labels are swapped")
        assert f"{run.run} is cancelled" in answer.message
        (after,) = await made.runs("bad")
        assert after.phase is TrainingPhase.CANCELLED
        assert "labels are swapped" in after.phase_detail
        (told,) = await until("its end", lambda: made.facts(f"fc.ev.run.finished.{run.run}"))
        assert (told["outcome"], told["claim"], told["node"]) == ("cancelled", 1, "gpu-1")
        await made.order("bad", "d1-again", artifact)
        await made.export("bad", "d2", 10)
        state = await until("ten samples", lambda: _with(made, "bad", 10))
        # The run that was cancelled gets back what it paid: nothing came of it.
        assert (state.tokens, state.samples_spent, state.latest.version) == (10, 0, "d2")
        unknown = await alive.ask(ask="withdraw", lane="bad", version="d7")
        assert unknown.outcome == "refused"


async def test_a_lane_that_nobody_defines_is_unknown_and_says_what_there_is(made: Rig) -> None:
    async with trainer(made, lanes(lane("hex8"))) as alive:
        answer = await alive.ask(ask="pause", lane="hexx8")
        assert (answer.outcome, "did you mean hex8?" in answer.next_step) == ("unknown", True)


WRITES = """
import sys, numpy
numpy.savez(sys.argv[1], states=numpy.zeros((int(sys.argv[2]), 3), dtype="float32"))
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (WRITES, ""),
        ("raise SystemExit('disk is gone')", "disk is gone"),
        ("import sys; open(sys.argv[1], 'w').write('junk')", "no loadable export"),
    ],
)
async def test_an_export_command_writes_the_data_set_on_one_node_and_what_is_wrong_is_announced_by_nobody(
    made: Rig, tmp_path: Path, script: str, said: str
) -> None:
    name = f"export{['', 'disk is gone', 'no loadable export'].index(said)}"
    command = [sys.executable, "-c", script, "{path}", "240"]
    known = lanes(lane(name, export={"command": command, "labels": {"export": "y*"}}))
    async with trainer(made, known, "n1") as one, trainer(made, known, "n2") as two:
        exporters = []
        for alive in (one, two):
            settings = Settings(
                node=NodeSettings(labels={"export": "yes"}), store=StoreSettings(publish_roots=(tmp_path,))
            )
            exporters.append(Exporter(alive.bus, alive.desk.store, settings))
            alive.desk.export = exporters[-1].begin
        work = [asyncio.create_task(each.run()) for each in exporters]
        try:
            await until("it was begun", lambda: made.facts(f"fc.ev.lane.changed.{name}"))
            if said:
                await until("it has ended", lambda: _idle(exporters))
                assert await made.facts(f"fc.ev.export.completed.{name}") == []
                assert list(tmp_path.iterdir()) == []
            else:
                (event,) = await until("the export", lambda: made.facts(f"fc.ev.export.completed.{name}"))
                assert (event["samples_new"], event["samples_total"]) == (240, 240)
                assert event["path"] == str(tmp_path / f"{name}.npz")
            begun = [each for each in await made.facts(f"fc.ev.lane.changed.{name}") if each["what"] == "export_begun"]
            assert len(begun) == 1
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


LOOKS = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ))); raise SystemExit('done')"


async def test_an_export_command_has_the_environment_of_a_job_and_finds_the_spool(
    made: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NATS_PASSWORD", "FLEETCAST_BUS_TOKEN", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "CUDA_HOME"):
        monkeypatch.setenv(name, "the daemon's")
    told = tmp_path / "environment.json"
    export = {"command": [sys.executable, "-c", LOOKS, str(told)]}
    known = lane("looks", export=export, env={"BOARD": "hex8"})
    async with trainer(made, lanes(known)) as alive:
        settings = Settings(store=StoreSettings(data=tmp_path, publish_roots=(tmp_path,)))
        exporter = Exporter(alive.bus, alive.desk.store, settings)
        alive.desk.export = exporter.begin
        work = asyncio.create_task(exporter.run())
        try:
            await until("it was begun", lambda: made.facts("fc.ev.lane.changed.looks"))
            await until("it has ended", lambda: _idle([exporter]))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    seen = json.loads(await asyncio.to_thread(told.read_text))
    assert [name for name, value in seen.items() if value == "the daemon's"] == ["CUDA_HOME"]
    assert (seen["BOARD"], seen["FLEETCAST_LANE"]) == ("hex8", "looks")
    assert await asyncio.to_thread(spool_folder, seen) == str(tmp_path / "spool")


async def _idle(exporters: list[Exporter]) -> bool:
    return not any(each.under_way for each in exporters)


async def _with(made: Rig, name: str, samples: int) -> object:
    state = await made.ledger(name)
    return state if state is not None and state.samples_in == samples else None
