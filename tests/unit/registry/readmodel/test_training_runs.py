"""What is known of training runs, from what was said about them."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.registry.readmodel import records as r

from fleetcast.events.runs import (
    FaultClass,
    RunCheckpointSaved,
    RunDegraded,
    RunEpochLogged,
    RunFaultRecorded,
    RunFinished,
    RunOutcome,
    RunStarted,
)
from fleetcast.events.training import RunFellBack, RunReturned
from fleetcast.registry.readmodel import ReadModel, answer

RUN = {"run_id": "run-1", "node": "gpu-1"}


def ask(model: ReadModel, query: str, /, **arguments: Any) -> dict[str, Any]:
    with model.reader() as db:
        return answer(db, query, arguments)


def epoch(number: int, loss: float) -> RunEpochLogged:
    return RunEpochLogged(**RUN, epoch=number, metrics={"loss": loss})


def test_a_run_is_told_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.say(RunStarted(**RUN, lane="hex8_2p", git_commit="abcdef1", config={"lr": 0.1}), moment=1)
    writer.say(epoch(0, 0.9), moment=2)
    writer.say(epoch(1, 0.5), moment=3)
    writer.say(RunCheckpointSaved(**RUN, epoch=1, path="/ckpt/1.pt", sha256="0" * 64, size=10), moment=4)
    writer.say(RunDegraded(**RUN, reason="ROCm fault", since_epoch=2, device="cpu"), moment=5)
    fault = RunFaultRecorded(**RUN, fault_class=FaultClass.OOM, signature="CUDA OOM", reason="too large", at=r.at(4))
    writer.say(fault, moment=6)
    writer.say(epoch(2, 0.7), moment=7)
    writer.say(RunFinished(**RUN, outcome=RunOutcome.SUCCEEDED, metrics={"loss": 0.4}), moment=8)
    writer.register("hex8_2p", "7", run_id="run-1")

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        run = ask(model, "run", run_id="run-1")

    assert (run["state"], run["started_at"], run["finished_at"]) == ("succeeded", r.at(1), r.at(8))
    assert (run["git_commit"], run["config"], run["final_metrics"]) == ("abcdef1", {"lr": 0.1}, {"loss": 0.4})
    assert [e["metrics"]["loss"] for e in run["epochs"]] == [0.9, 0.5, 0.7]
    assert run["best"] == {"loss": {"lowest": 0.5, "highest": 0.9, "last": 0.7}}
    assert (run["degraded"]["reason"], run["degraded"]["device"]) == ("ROCm fault", "cpu")
    assert [(f["fault_class"], f["at"]) for f in run["faults"]] == [("oom", r.at(4))]
    assert [c["path"] for c in run["checkpoints"]] == ["/ckpt/1.pt"]
    assert [f"{v['model']}@{v['version']}" for v in run["versions"]] == ["hex8_2p@7"]


def test_a_run_that_goes_on_elsewhere_keeps_its_beginning_and_runs_again(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.say(RunStarted(**RUN, lane="hex8_2p"), moment=1)
    writer.say(RunFinished(**RUN, outcome=RunOutcome.PREEMPTED, reason="spot notice"), moment=2)
    writer.say(RunStarted(run_id="run-1", node="gpu-2", lane="hex8_2p"), moment=3)

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        run = ask(model, "run", run_id="run-1")

    assert (run["state"], run["node"], run["started_at"], run["finished_at"]) == ("running", "gpu-2", r.at(1), None)


def test_a_fallback_is_kept_with_its_reason_and_what_was_done_and_is_over_when_the_run_returns(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.say(epoch(3, 0.5), moment=1)
    said = {"lane": "hex8_2p", "timestamp": r.at(2), "reason": "aperture violation", "remedial_action": "on the CPU"}
    writer.say(RunFellBack(**RUN, **said, from_device="rocm:0", to_device="cpu"), moment=2)
    with r.made_of(tmp_path / "fallen.sqlite", writer) as model:
        fallen = ask(model, "run", run_id="run-1")
        listed = ask(model, "runs", degraded=True)["runs"]
    writer.say(RunReturned(**RUN, lane="hex8_2p", from_device="cpu", to_device="rocm:0", degraded_seconds=60), moment=9)
    with r.made_of(tmp_path / "back.sqlite", writer) as model:
        back = ask(model, "run", run_id="run-1")

    assert (fallen["degraded"]["since_epoch"], fallen["degraded"]["device"]) == (4, "cpu")
    assert [run["run_id"] for run in listed] == ["run-1"]
    (kept,) = fallen["fallbacks"]
    assert (kept["at"], kept["reason"], kept["remedial_action"]) == (r.at(2), "aperture violation", "on the CPU")
    assert back["degraded"] is None
    assert (back["fallbacks"][0]["returned_at"], back["fallbacks"][0]["returned_to"]) == (r.at(9), "rocm:0")


def test_an_epoch_that_is_trained_again_counts_with_its_last_numbers_only(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.say(RunEpochLogged(**RUN, epoch=3, metrics={"loss": 0.1, "accuracy": 0.9}), moment=1)
    writer.say(epoch(3, 0.5), moment=2)

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        run = ask(model, "run", run_id="run-1")

    assert [e["metrics"] for e in run["epochs"]] == [{"loss": 0.5}]
    assert set(run["best"]) == {"loss"}


def test_a_run_whose_beginning_is_older_than_the_stream_is_still_a_run(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.say(epoch(40, 0.5), moment=9)

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        [run] = ask(model, "runs")["runs"]

    assert (run["run_id"], run["state"], run["epoch"]) == ("run-1", "running", 40)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["run-3", "run-2", "run-1"]),
        ({"lane": "hex8_2p"}, ["run-3", "run-1"]),
        ({"model": "square8"}, ["run-2"]),
        ({"state": "failed"}, ["run-1"]),
        ({"degraded": True}, ["run-2"]),
        ({"degraded": False, "lane": "hex8_2p"}, ["run-3", "run-1"]),
    ],
)
def test_runs_are_found_by_what_they_are_for_and_how_they_are(
    tmp_path: Path, asked: dict[str, Any], expected: list[str]
) -> None:
    writer = r.Writer()
    writer.say(RunStarted(run_id="run-1", node="n1", lane="hex8_2p"), moment=1)
    writer.say(RunStarted(run_id="run-2", node="n1", model="square8"), moment=2)
    writer.say(RunStarted(run_id="run-3", node="n1", lane="hex8_2p"), moment=3)
    writer.say(RunFinished(run_id="run-1", node="n1", outcome=RunOutcome.FAILED, reason="code"), moment=4)
    writer.say(RunDegraded(run_id="run-2", node="n1", reason="slow", since_epoch=1), moment=5)

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        found = [run["run_id"] for run in ask(model, "runs", **asked)["runs"]]
        first = ask(model, "runs", **asked, limit=1)
        following = ask(model, "runs", **asked, after=first["next"])["runs"] if first["next"] else []

    assert found == expected
    assert [run["run_id"] for run in (*first["runs"], *following)] == expected
