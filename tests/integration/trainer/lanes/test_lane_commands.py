"""The commands about lanes, against a trainer that is at work, and without one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.stand import Cli, Stand, commands_that_end, live_in, standing
from tests.integration.trainer.lanes.lane_rig import Rig, Trainer, begun, lane, lanes, until

from fleetcast.bus import Service
from fleetcast.cli.connection import quiet_logs
from fleetcast.daemons.runtime.requests import with_reading
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.answering import RunService
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.lanes.commands import READS
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.lifecycle import RolloutState, rollout_subject
from fleetcast.events.training import LANES_SUBJECT, RUNS_SUBJECT

NAMES = ("hex8_2p", "square8_3p", "byhand", "halted", "shared", "ended", "faulty")


class Lanes:
    """A stand with a trainer that can go home."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.rig = Rig(stand.url, stand.bus)
        self._trainer: Trainer | None = None
        self._service: Any = None

    async def begin(self) -> None:
        """Put a trainer to work."""
        self._trainer = await begun(self.stand.bus, lanes(*(lane(name) for name in NAMES)))
        store = RunStore(TrainingLedger(self.stand.bus), node="gpu-1")
        runs = RunService(store, now=self._trainer.desk.clock.now, is_silent=lambda _: False)
        endpoints = {
            **with_reading("lanes", LANES_SUBJECT, self._trainer.service.answer, READS),
            "runs": (RUNS_SUBJECT, runs.answer),
        }
        service = Service(name="fleetcast-trainer", version="0.1.0", description="a test", endpoints=endpoints)
        self._service = await self.stand.bus.serve(service)

    async def end(self) -> None:
        """Send it home."""
        if self._trainer is not None:
            await self._service.stop()
            await self._trainer.stop()
            self._trainer = None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    with standing(tmp_path_factory.mktemp("stand")) as stand:
        there = Lanes(stand)
        stand.do(there.begin())
        yield there
        stand.do(there.end())


@pytest.fixture(autouse=True)
def fleet(made: Lanes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(tmp_path, made.stand.url, monkeypatch)
    # The desk shares this process, whose stdout is the command's.
    quiet_logs()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return commands_that_end(capsys)


def test_lanes_are_listed_as_the_seeds_table_has_them_and_why_tells_the_ledger(made: Lanes, cli: Cli) -> None:
    made.stand.do(made.rig.export("hex8_2p", "d1", 295))
    made.stand.do(made.rig.export("square8_3p", "d1", 67))
    run = made.stand.do(made.rig.one_run("hex8_2p"))
    made.stand.do(until("67 samples", lambda: made.rig.ledger("square8_3p")))
    rows = {line.split()[0]: line.split()[1:4] for line in cli("lanes").out.splitlines()}
    assert rows["hex8_2p"] == ["295", "200", "ready"]
    assert rows["square8_3p"] == ["67", "200", "scaling"]
    told = cli("why", "hex8_2p").out
    for words in (
        "lane hex8_2p is ready: the newest data set has 295 of 200 samples",
        "295 samples in, 200 spent in 1 run; 95 of 200 in the bucket",
        f"run {run.run} is queued: waits for a node",
        "gpu-1 may take it, score 0.7",
        "gpu-2 may not: GPU 0: 3.1 GiB free, asked for: 20.0",
    ):
        assert words in told
    shown = cli("lane", "show", "hex8_2p").out
    for words in ("bucket.required", "train {data}", "samples spent", "d1"):
        assert words in shown
    (document,) = [each for each in cli("lanes", "--json").document["lanes"] if each["lane"] == "hex8_2p"]
    assert (document["standing"], document["run"]["run"], document["tokens"]) == ("ready", run.run, 95.0)


def test_a_lane_is_paused_resumed_triggered_and_its_data_withdrawn(made: Lanes, cli: Cli) -> None:
    assert "byhand is paused" in cli("pause", "byhand", "--reason", "wrong labels").out
    made.stand.do(made.rig.export("byhand", "d1", 300))
    made.stand.do(until("300 samples", lambda: _counted(made, "byhand", 300)))
    refused = cli("trigger", "byhand", "--reason", "now", code=4).err
    assert "fleetcast resume byhand" in refused
    assert "would be resumed" in cli("resume", "byhand", "--reason", "fixed", "--dry-run").out
    assert "byhand is resumed" in cli("resume", "byhand", "--reason", "fixed").out
    run = made.stand.do(made.rig.one_run("byhand"))
    assert f"begins when {run.run} has ended" in cli("trigger", "byhand", "--reason", "new loss").out
    assert f"{run.run} is cancelled" in cli("withdraw", "byhand", "d1", "--reason", "wrong labels after all").out
    assert "withdrawn" in cli("lane", "show", "byhand").out
    assert "there is no data set so far" in cli("lanes").out


def test_a_run_is_cancelled_with_a_reason_and_runs_and_why_tell_who_did_it(made: Lanes, cli: Cli) -> None:
    made.stand.do(made.rig.export("ended", "d1", 300))
    run = made.stand.do(made.rig.one_run("ended")).run
    made.stand.do(made.rig.claim(run))
    assert "a reason must be said" in cli("cancel", run, code=2).err
    assert f"{run} would be cancelled" in cli("cancel", run, "--reason", "wrong labels", "--dry-run").out
    document = cli("cancel", run, "--reason", "wrong labels", "--json").document
    assert (document["run"]["phase"], document["run"]["cancelled"]["reason"]) == ("cancelled", "wrong labels")
    assert "fleetcast trigger ended" in document["message"]
    assert "was cancelled before by" in cli("cancel", run, "--reason", "again", "--now").out
    made.stand.do(until("the lane is free", lambda: _free(made, "ended")))
    made.stand.do(until("it is told", lambda: made.rig.facts(f"fc.ev.run.finished.{run}")))
    assert f"the last run that ended, {run}, was cancelled" in (told := cli("why", "ended").out)
    assert "cancelled it: wrong labels" in told
    # What it was queued for stays spent, and nothing begins by itself over the same data.
    assert "200 spent in 1 run; 100 of 200 in the bucket" in told
    assert "there is no data set that the last run did not have" in told
    (listed,) = cli("runs", "--lane", "ended", "--state", "cancelled", "--json").document["runs"]
    assert listed["run_id"] == run
    assert "cancelled it: wrong labels" in cli("runs", "show", run).out


def test_a_run_that_has_ended_or_never_was_is_not_cancelled(made: Lanes, cli: Cli) -> None:
    assert "no lane started a run nobodys-1" in cli("cancel", "nobodys-1", "--reason", "x", code=3).err
    made.stand.do(made.rig.export("ended", "d2", 300))
    run = made.stand.do(made.rig.one_run("ended", 2)).run
    made.stand.do(made.rig.end(run))
    error = cli("cancel", run, "--reason", "x", "--json", code=1).document["error"]
    assert (error["code"], "it succeeded" in error["message"]) == ("ended", True)


def test_a_run_is_let_go_to_a_node_again_with_a_reason_and_why_tells_who_did_it(made: Lanes, cli: Cli) -> None:
    made.stand.do(made.rig.export("faulty", "d1", 300))
    run = made.stand.do(made.rig.one_run("faulty")).run
    made.stand.do(made.rig.claim(run))
    made.stand.do(_faulted(made, run))
    assert f"fleetcast runs allow {run} gpu-1 --reason TEXT" in cli("why", run).out
    assert "a reason must be said" in cli("runs", "allow", run, "gpu-1", code=2).err
    assert "dry run: " in cli("runs", "allow", run, "gpu-1", "--reason", "new cable", "--dry-run").out
    document = cli("runs", "allow", run, "gpu-1", "--reason", "new cable", "--json").document
    assert (document["run"]["excluded"], document["run"]["allowed"][0]["reason"]) == ({}, "new cable")
    assert f"nothing keeps {run} away from gpu-1" in cli("runs", "allow", run, "gpu-1", "--reason", "again").out
    assert "it may go to gpu-1 again" in (told := cli("why", run).out)
    assert f"lets run {run} go to gpu-1 again: new cable" in told
    made.stand.do(made.rig.end(run))
    assert "has ended before" in cli("runs", "allow", run, "gpu-1", "--reason", "x", code=1).err
    assert "no lane started a run nobodys-1" in cli("runs", "allow", "nobodys-1", "gpu-1", "--reason", "x", code=3).err


async def _faulted(made: Lanes, run: str) -> None:
    """Its node gives it back, and is not given it again for an hour."""
    store = RunStore(TrainingLedger(made.stand.bus), node="gpu-1")
    now = store.ledger.clock()
    again = rules.Again(away_from="gpu-1", away_until=now + timedelta(hours=1))
    await store.change(run, lambda there: rules.queued_again(there, rules.Ended("hardware"), again, now))


async def _free(made: Lanes, name: str) -> bool:
    state = await made.rig.ledger(name)
    return state is not None and state.run is None


async def _counted(made: Lanes, name: str, samples: int) -> bool:
    state = await made.rig.ledger(name)
    return state is not None and state.samples_in == samples


def test_what_cannot_be_is_refused_with_the_next_step(cli: Cli) -> None:
    assert "did you mean hex8_2p?" in cli("lane", "show", "hex8_2", code=3).err
    assert "a reason must be said" in cli("trigger", "hex8_2p", code=2).err
    assert "--abandon ends a rollout" in cli("resume", "hex8_2p", "--lane", "--abandon", code=2).err


def test_resume_asks_which_is_meant_where_a_paused_lane_and_a_halted_rollout_share_a_name(
    made: Lanes, cli: Cli
) -> None:
    cli("pause", "shared", "--reason", "wrong labels")
    made.stand.do(_halt(made, "shared"))
    said = cli("resume", "shared", "--reason", "fixed", code=2).err
    assert "a paused lane, and a model whose rollout halted" in said
    assert "shared is resumed" in cli("resume", "shared", "--lane", "--reason", "fixed").out


async def _halt(made: Lanes, model: str) -> None:
    halted = RolloutState.model_validate(
        {
            "rollout": "r-1",
            "model": model,
            "version": "43",
            "artifact": "a" * 64,
            "target": "production",
            "phase": "halted",
            "started_at": "2026-11-20T12:00:00Z",
            "since": "2026-11-20T12:00:00Z",
            "actor": "ann",
            "cause": {"event": "e", "sequence": 1, "by": "ann", "correlation": "e"},
        }
    )
    await made.stand.bus.publish_raw(rollout_subject(model), halted.model_dump_json(by_alias=True).encode())


def test_without_a_trainer_lanes_are_read_from_the_stream_and_nothing_is_changed(made: Lanes, cli: Cli) -> None:
    made.stand.do(made.rig.export("halted", "d1", 20))
    made.stand.do(until("20 samples", lambda: _counted(made, "halted", 20)))
    made.stand.do(made.end())
    try:
        assert "undefined" in cli("lanes").out
        assert "20 samples in" in cli("why", "halted").out
        assert cli("lane", "show", "halted", "--json").document["lane"]["state"]["samples_in"] == 20
        (missing,) = [cli("lane", "show", "nobodys", code=3).err]
        assert "there is no lane nobodys" in missing
    finally:
        made.stand.do(made.begin())
