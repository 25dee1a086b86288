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
from fleetcast.events.training import RunFellBack, RunMoved, RunReturned, TrainingPhase
from fleetcast.registry.readmodel import ReadModel, answer, training
from fleetcast.registry.readmodel.asked import document

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


def test_a_run_that_was_cancelled_before_any_node_had_it_is_known(tmp_path: Path) -> None:
    writer = r.Writer()
    said = {"lane": "hex8_2p", "model": "hex8_2p"}
    writer.say(RunMoved(**RUN, **said, phase=TrainingPhase.QUEUED), moment=1)
    over = RunMoved(**RUN, **said, phase=TrainingPhase.CANCELLED, detail="ann cancelled it: wrong labels")
    writer.say(over, moment=2)
    begun = {**RUN, "run_id": "run-2"}
    writer.say(RunStarted(**begun, lane="hex8_2p", claim=1), moment=3)
    writer.say(over.model_copy(update={**begun, "claim": 1}), moment=4)
    writer.say(RunFinished(**begun, claim=1, outcome=RunOutcome.CANCELLED, reason="why"), moment=4)
    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        found = ask(model, "runs", lane="hex8_2p", state="cancelled")["runs"]
        never = ask(model, "run", run_id="run-1")
    assert [each["run_id"] for each in found] == ["run-2", "run-1"]
    assert (never["model"], never["reason"]) == ("hex8_2p", "ann cancelled it: wrong labels")
    assert found[0]["started_at"] == r.at(3)


def test_a_run_that_goes_on_elsewhere_keeps_its_beginning_and_runs_again(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.say(RunStarted(**RUN, lane="hex8_2p"), moment=1)
    writer.say(RunFinished(**RUN, outcome=RunOutcome.PREEMPTED, reason="spot notice"), moment=2)
    writer.say(RunStarted(run_id="run-1", node="gpu-2", lane="hex8_2p"), moment=3)

    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        run = ask(model, "run", run_id="run-1")

    assert (run["state"], run["node"], run["started_at"], run["finished_at"]) == ("running", "gpu-2", r.at(1), None)


def moved(phase: str, detail: str = "") -> RunMoved:
    return RunMoved(**RUN, lane="hex8_2p", model="hex8", phase=TrainingPhase(phase), detail=detail)


def test_a_run_of_a_lane_is_queued_until_a_node_begins_it_and_again_between_two_claims(tmp_path: Path) -> None:
    writer = r.Writer()
    writer.say(moved("queued", "waits for a node"), moment=1)
    with r.made_of(tmp_path / "waits.sqlite", writer) as model:
        (waits,) = ask(model, "runs", state="queued")["runs"]
    writer.say(RunStarted(**RUN, lane="hex8_2p", claim=1), moment=2)
    with r.made_of(tmp_path / "runs.sqlite", writer) as model:
        runs = ask(model, "run", run_id="run-1")
    writer.say(moved("queued", "exit 1: tried again"), moment=3)
    # What the job said of its beginning came late, from its spool.
    writer.say(RunStarted(**RUN, lane="hex8_2p", claim=1, config={"lr": 0.1}), moment=4)
    with r.made_of(tmp_path / "again.sqlite", writer) as model:
        again = ask(model, "run", run_id="run-1")

    assert (waits["lane"], waits["model"], waits["reason"], waits.get("node")) == (
        *("hex8_2p", "hex8", "waits for a node"),
        None,
    )
    assert (runs["state"], runs["reason"], runs["node"]) == ("running", None, "gpu-1")
    assert (again["state"], again["reason"], again["config"]) == ("queued", "exit 1: tried again", {"lr": 0.1})


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


def fell(claim: int, moment: int) -> RunFellBack:
    said = {"lane": "hex8_2p", "timestamp": r.at(moment), "reason": "aperture violation", "remedial_action": "CPU"}
    return RunFellBack(**RUN, **said, claim=claim, from_device="rocm:0", to_device="cpu")


def took(number: int, claim: int, **seconds: float) -> RunEpochLogged:
    return RunEpochLogged(**RUN, epoch=number, claim=claim, **seconds)


def test_a_fallback_says_how_much_longer_a_step_takes_also_when_a_late_word_of_the_gpu_comes_after_it(
    tmp_path: Path,
) -> None:
    writer = r.Writer()
    writer.say(took(0, 1, seconds=9.0, step_seconds=0.4), moment=1)
    writer.say(fell(1, 2), moment=2)
    writer.say(took(1, 1, seconds=9.0, step_seconds=0.2), moment=3)
    with r.made_of(tmp_path / "unknown.sqlite", writer) as model:
        (unknown,) = ask(model, "run", run_id="run-1")["fallbacks"]
    for number in (2, 3):
        writer.say(took(number, 2, seconds=300.0, step_seconds=9.0), moment=2 + number)
    writer.say(RunReturned(**RUN, lane="h", from_device="cpu", to_device="rocm:0", degraded_seconds=60), moment=9)
    writer.say(took(4, 3, seconds=9.0, step_seconds=0.3), moment=10)
    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        (known,) = ask(model, "run", run_id="run-1")["fallbacks"]

    assert unknown["slowdown"] is None
    found = known["slowdown"]
    assert (found["of"], found["from_seconds"], found["to_seconds"]) == ("step", pytest.approx(0.3), 9.0)
    assert found["said"] == "a step took 9 s on cpu and 0.3 s on rocm:0: 30 times as long"


def test_a_job_that_counts_no_steps_is_compared_by_its_epochs_and_one_that_says_no_times_not_at_all(
    tmp_path: Path,
) -> None:
    writer = r.Writer()
    for number, claim, seconds in ((0, 1, 10.0), (1, 2, 25.0)):
        writer.say(took(number, claim, seconds=seconds), moment=2 * number + 1)
    writer.say(fell(1, 2), moment=4)
    silent = r.Writer()
    silent.say(took(0, 1), moment=1)
    silent.say(fell(1, 2), moment=2)
    silent.say(took(1, 2), moment=3)
    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        (told,) = ask(model, "run", run_id="run-1")["fallbacks"]
    with r.made_of(tmp_path / "silent.sqlite", silent) as model:
        (nothing,) = ask(model, "run", run_id="run-1")["fallbacks"]

    assert told["slowdown"]["said"] == "an epoch took 25 s on cpu and 10 s on rocm:0: 2.5 times as long"
    assert nothing["slowdown"] is None


def test_of_epochs_that_are_not_shown_nothing_but_their_times_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = r.Writer()
    for number in range(40):
        writer.say(took(number, 1 + number // 20, seconds=9.0, step_seconds=0.2), moment=1 + number)
    writer.say(fell(1, 50), moment=50)
    read: list[str | None] = []

    def reads(text: str | None) -> Any:
        read.append(text)
        return document(text)

    monkeypatch.setattr(training, "document", reads)
    with r.made_of(tmp_path / "r.sqlite", writer) as model:
        (told,) = ask(model, "run", run_id="run-1", epochs=1)["fallbacks"]
    assert told["slowdown"]["ratio"] == 1.0
    # The run, its newest epoch, its fallback.
    assert len(read) == 3


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
