"""Runs as tables: what is said about them, late or twice, and two of them beside each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetcast.events.event import new_event
from fleetcast.events.payloads import Payload
from fleetcast.events.runs import (
    RunCheckpointSaved,
    RunEpochLogged,
    RunFinished,
    RunMetricsLogged,
    RunOutcome,
    RunStarted,
)
from fleetcast.registry.readmodel import NothingFound
from fleetcast.registry.readmodel.aside import answer_of_events, run_subjects

BEGAN = datetime(2026, 11, 21, 10, tzinfo=UTC)


@dataclass
class Stored:
    """A stored message."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int
    time: datetime


@dataclass
class Log:
    """Events in the order in which the stream took them."""

    records: list[Stored] = field(default_factory=list)

    def say(self, payload: Payload, seconds: float) -> None:
        """*seconds*: after the beginning, by the job's clock."""
        event = new_event(payload, source="/fleet/n1/job", time=BEGAN + timedelta(seconds=seconds))
        data, headers = event.encode()
        self.records.append(Stored(event.subject, data, headers, len(self.records) + 1, event.time))

    def run(self, name: str, *, losses: tuple[float, ...], lr: float, **more: Any) -> None:
        """A whole run."""
        self.say(RunStarted(run_id=name, node="n1", lane="hex8_2p", config={"lr": lr, "net": {"width": 8}}), 0)
        for epoch, loss in enumerate(losses):
            cost = {"seconds": 10.0, "steps": 5, "step_seconds": 1.5, "data_wait_seconds": 2.0, **more}
            said = RunEpochLogged(run_id=name, node="n1", epoch=epoch, metrics={"loss": loss}, **cost)
            self.say(said, 10.0 * (epoch + 1))
        self.say(RunFinished(run_id=name, node="n1", outcome=RunOutcome.SUCCEEDED), 10.0 * len(losses) + 1)

    def ask(self, name: str, **args: Any) -> dict[str, Any]:
        return answer_of_events(self.records, name, args)


def test_runs_are_told_from_their_events_alone() -> None:
    log = Log()
    log.run("a", losses=(1.0, 0.5), lr=0.1)
    (row,) = log.ask("runs", lane="hex8_2p", state="succeeded")["runs"]
    assert (row["run_id"], row["epoch"], row["latest"]["metrics"]) == ("a", 1, {"loss": 0.5})
    assert log.ask("runs", lane="other")["runs"] == []
    shown = log.ask("run", run_id="a")
    assert [epoch["data_wait_seconds"] for epoch in shown["epochs"]] == [2.0, 2.0]
    assert shown["best"] == {"loss": {"lowest": 0.5, "highest": 1.0, "last": 0.5}}
    with pytest.raises(NothingFound):
        log.ask("run", run_id="b")


def test_everything_about_runs_is_read_in_either_spelling() -> None:
    assert {"fc.ev.run.metrics_logged.*", "fc.ev.RUN_METRICS_LOGGED.*", "fc.ev.run.started.*"} <= set(run_subjects())


def test_metrics_of_steps_that_come_late_do_not_turn_a_run_back() -> None:
    log = Log()
    log.say(RunStarted(run_id="a", node="n1", lane="hex8_2p"), 0)
    log.say(RunMetricsLogged(run_id="a", node="n1", step=10, metrics={"loss": 3.0}), 5)
    assert log.ask("runs")["runs"][0]["latest"]["step"] == 10
    log.say(RunEpochLogged(run_id="a", node="n1", epoch=0, step=20, metrics={"loss": 1.0}), 10)
    # Cheap events lie in another file of the spool, and may be sent later.
    log.say(RunMetricsLogged(run_id="a", node="n1", step=15, metrics={"loss": 2.0}), 7)
    latest = log.ask("runs")["runs"][0]["latest"]
    assert (latest["step"], latest["metrics"]) == (20, {"loss": 1.0})


def test_diverged_metric_is_shown_and_is_no_number() -> None:
    log = Log()
    log.say(RunEpochLogged(run_id="a", node="n1", epoch=0, metrics={"elo": 1.0}, nonfinite={"loss": "nan"}), 1)
    shown = log.ask("run", run_id="a")
    assert shown["epochs"][0]["nonfinite"] == {"loss": "nan"}
    assert set(shown["best"]) == {"elo"}


def test_run_that_goes_on_elsewhere_keeps_what_was_said_of_it_before() -> None:
    log = Log()
    log.say(RunStarted(run_id="a", node="n1", lane="hex8_2p", config={"lr": 1}, git_commit="0" * 40), 0)
    log.say(RunFinished(run_id="a", node="n1", outcome=RunOutcome.PREEMPTED), 5)
    log.say(RunStarted(run_id="a", node="n2", model="hex8_2p"), 60)
    (row,) = log.ask("runs")["runs"]
    assert (row["state"], row["node"], row["lane"], row["config"]) == ("running", "n2", "hex8_2p", {"lr": 1})
    assert row["git_commit"] == "0" * 40
    assert row["started_at"].startswith("2026-11-21T10:00:00")


def test_checkpoint_that_nobody_hashed_is_one() -> None:
    log = Log()
    log.say(RunCheckpointSaved(run_id="a", node="n1", epoch=3, step=70, path="/big", size=2**40), 0)
    (saved,) = log.ask("run", run_id="a")["checkpoints"]
    assert (saved["sha256"], saved["step"]) == (None, 70)


def test_two_runs_differ_in_their_settings_their_numbers_and_their_cost() -> None:
    log = Log()
    log.run("a", losses=(1.0, 0.5), lr=0.1, gpu_peak_bytes=100)
    log.run("b", losses=(0.9, 0.7, 0.3), lr=0.2, gpu_peak_bytes=300)
    found = log.ask("compare_runs", a="a", b="b")
    assert {row["field"]: (row["a"], row["b"], row["same"]) for row in found["config"]} == {
        "lr": (0.1, 0.2, False),
        "net.width": (8, 8, True),
    }
    assert all(row["same"] for row in found["fields"])
    (loss,) = found["metrics"]
    assert (loss["a"], loss["b"], loss["difference"], loss["lowest"]) == (0.5, 0.3, pytest.approx(-0.2), [0.5, 0.3])
    cost = {row["metric"]: (row["a"], row["b"]) for row in found["cost"]}
    assert cost["seconds"] == (21.0, 31.0)
    assert cost["epochs"] == (2.0, 3.0)
    assert cost["epoch_seconds"] == (10.0, 10.0)
    assert cost["data_wait_ratio"] == (0.2, 0.2)
    assert cost["gpu_peak_bytes"] == (100, 300)
    assert cost["host_peak_bytes"] == (None, None)
    with pytest.raises(NothingFound):
        log.ask("compare_runs", a="a", b="gone")


def test_run_that_said_nothing_can_be_compared() -> None:
    log = Log()
    log.say(RunStarted(run_id="a", node="n1", lane="hex8_2p"), 0)
    log.run("b", losses=(0.9,), lr=0.2)
    found = log.ask("compare_runs", a="a", b="b")
    assert {row["metric"]: row["difference"] for row in found["metrics"]} == {"loss": None}


def claimed(node: str, claim: int, **more: Any) -> RunStarted:
    return RunStarted(run_id="a", node=node, lane="hex8_2p", claim=claim, **more)


def test_beginning_that_comes_after_the_end_does_not_bring_a_lanes_run_back() -> None:
    log = Log()
    log.say(RunEpochLogged(run_id="a", node="n1", claim=2, epoch=0), 10)
    log.say(RunFinished(run_id="a", node="n1", claim=2, outcome=RunOutcome.SUCCEEDED), 20)
    log.say(claimed("n1", 2, git_commit="abcdef0"), 1)
    run = log.ask("run", run_id="a")
    assert (run["state"], run["outcome"], run["git_commit"]) == ("succeeded", "succeeded", "abcdef0")


def test_beginning_of_a_former_owner_does_not_bring_a_lanes_run_back_to_its_node() -> None:
    log = Log()
    log.say(claimed("n2", 2, device="cuda:0"), 10)
    log.say(claimed("n1", 1, device="cpu", config={"lr": 0.1}), 1)
    run = log.ask("run", run_id="a")
    assert (run["node"], run["device"], run["claim"], run["config"]) == ("n2", "cuda:0", 2, {"lr": 0.1})


def test_lanes_run_that_is_claimed_again_goes_on() -> None:
    log = Log()
    log.say(claimed("n1", 1), 1)
    log.say(RunFinished(run_id="a", node="n1", claim=1, outcome=RunOutcome.PREEMPTED), 20)
    log.say(claimed("n2", 2), 30)
    run = log.ask("run", run_id="a")
    assert (run["state"], run["node"], run["finished_at"]) == ("running", "n2", None)
