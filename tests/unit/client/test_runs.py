"""`run`: what a training job tells of itself, and that it never pays for it."""

import contextlib
import hashlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetcast.client import Run, lost, run, runs
from fleetcast.events.envelope import Event
from fleetcast.events.payloads import ExportCompleted, ModelPromoted
from fleetcast.events.runs import RunCheckpointSaved, RunEpochLogged, RunFinished, RunMetricsLogged, RunStarted

Said = Callable[[], list[Event]]


def names(events: list[Event]) -> list[str]:
    return [event.type.name for event in events]


def payload(events: list[Event], kind: type[Any]) -> Any:
    (found,) = (event.payload for event in events if isinstance(event.payload, kind))
    return found


def test_run_is_registered_on_entry_and_its_end_told_on_exit(said: Said) -> None:
    with run("hex8_2p", model="hex8", config={"lr": 0.1}, data=[{"data_set": "abc", "samples": 7}], device="cpu") as r:
        began = payload(said(), RunStarted)
        assert (began.run_id, began.node, began.lane, began.model) == (r.id, "gpu-1", "hex8_2p", "hex8")
        assert began.config == {"lr": 0.1}
        assert began.data[0].samples == 7
        assert began.device == "cpu"
        assert began.host == os.uname().nodename
    assert names(said()) == ["run.started", "run.finished"]
    assert payload(said(), RunFinished).outcome == "succeeded"
    assert r.id.startswith("hex8_2p-")


def test_what_a_run_makes_carries_its_name_and_its_epoch(said: Said, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    with run("hex8_2p") as r:
        r.log_epoch(4, {"val": {"loss": 0.5}}, samples=100, elo=1700)
        r.checkpoint(model)
        r.export(model, samples_new=10)
        r.promote(model, 43)
    events = said()
    epoch = payload(events, RunEpochLogged)
    assert (epoch.epoch, epoch.samples, epoch.metrics) == (4, 100, {"val/loss": 0.5, "elo": 1700.0})
    saved = payload(events, RunCheckpointSaved)
    assert (saved.epoch, saved.path, saved.size) == (4, str(model), 7)
    assert saved.sha256 == hashlib.sha256(b"weights").hexdigest()
    exported = payload(events, ExportCompleted)
    assert (exported.lane, exported.samples_new, exported.samples_total, exported.run_id) == ("hex8_2p", 10, 10, r.id)
    promoted = payload(events, ModelPromoted)
    assert (promoted.model, promoted.version, promoted.run_id, promoted.epoch) == ("hex8_2p", "43", r.id, 4)
    assert promoted.metrics == {"val/loss": 0.5, "elo": 1700.0}
    assert payload(events, RunFinished).metrics == {"val/loss": 0.5, "elo": 1700.0}


def test_epochs_count_from_0_where_nobody_numbers_them(said: Said) -> None:
    with run("hex8_2p") as r:
        r.log_epoch(loss=1)
        r.log_epoch(loss=0.5)
    found = [event.payload for event in said() if isinstance(event.payload, RunEpochLogged)]
    assert [(each.epoch, each.metrics) for each in found] == [(0, {"loss": 1.0}), (1, {"loss": 0.5})]


def test_diverged_metric_is_shown_and_no_gate_can_compare_with_it(said: Said) -> None:
    with run("hex8_2p") as r:
        r.log_epoch(0, loss=math.nan, worst=math.inf, best=-math.inf, elo=1500)
    epoch = payload(said(), RunEpochLogged)
    assert epoch.metrics == {"elo": 1500.0}
    assert epoch.nonfinite == {"loss": "nan", "worst": "inf", "best": "-inf"}
    assert payload(said(), RunFinished).nonfinite == epoch.nonfinite


class JobError(Exception):
    """Of a job's own."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (JobError("out of data"), "failed", "JobError: out of data"),
        (MemoryError(), "failed", "MemoryError: MemoryError"),
        (Unspeakable(), "failed", "Unspeakable: Unspeakable"),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (SystemExit(0), "succeeded", None),
        (SystemExit(None), "succeeded", None),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt"),
        (JobError("x" * 5000), "failed", "JobError: " + "x" * 1990),
    ],
)
def test_what_the_job_raises_goes_on_after_it_was_told(
    said: Said, error: BaseException, outcome: str, reason: str | None
) -> None:
    with pytest.raises(type(error)) as raised, run("hex8_2p"):
        raise error
    assert raised.value is error
    ended = payload(said(), RunFinished)
    assert (ended.outcome, ended.reason) == (outcome, reason)


def test_end_that_the_job_states_itself_is_the_one_that_counts(said: Said) -> None:
    with contextlib.suppress(JobError), run("hex8_2p") as r:
        r.finish("preempted", "the machine is taken away", loss=0.5)
        raise JobError
    ended = payload(said(), RunFinished)
    assert (ended.outcome, ended.reason, ended.metrics) == ("preempted", "the machine is taken away", {"loss": 0.5})


class Hostile:
    """A value whose every use is an error."""

    def _fail(self, *_: object) -> Any:
        raise JobError

    __str__ = __repr__ = __fspath__ = __float__ = __int__ = __len__ = _fail


ABUSES: dict[str, Callable[[Any], object]] = {
    "epoch that is none": lambda r: r.log_epoch("first"),
    "metrics that are no map": lambda r: r.log_epoch(0, [1, 2]),
    "too many arguments": lambda r: r.log_epoch(0, {}, 1, 2, 3),
    "missing argument": lambda r: r.promote("m.pt"),
    "unknown argument": lambda r: r.checkpoint("m.pt", now=True),
    "path that fails": lambda r: r.promote(Hostile(), 1),
    "version that fails": lambda r: r.promote("m.pt", Hostile()),
    "step that fails": lambda r: r.log_metrics(step=Hostile()),
    "checkpoint that is not there": lambda r: r.checkpoint("/nowhere/m.pt"),
    "checkpoint that is empty": lambda r: r.checkpoint("/dev/null"),
    "export without samples": lambda r: r.export("m.npz"),
}


@pytest.mark.parametrize("abuse", ABUSES.values(), ids=ABUSES.keys())
def test_nothing_is_ever_raised_into_the_job(
    said: Said, capsys: pytest.CaptureFixture[str], abuse: Callable[[Any], object]
) -> None:
    with run("hex8_2p") as r:
        assert abuse(r) is None
    assert "an event was lost" in capsys.readouterr().err
    assert lost() == 1
    assert names(said()) == ["run.started", "run.finished"]


@pytest.mark.parametrize("wrong", [(), ("a", "b"), (Hostile(),)])
def test_run_that_cannot_be_made_is_a_run_that_says_nothing(said: Said, wrong: tuple[Any, ...]) -> None:
    with run(*wrong) as r:
        r.log_epoch(0, loss=1)
    assert lost() >= 1


def test_lane_that_is_no_name_is_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with run("Hex8 2p"):
        assert "'Hex8 2p' cannot be a lane" in caplog.text


def test_metric_that_is_no_number_is_left_out_and_the_epoch_told(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    with run("hex8_2p") as r:
        r.log_epoch(0, {"note": "good", "flag": True, "loss": 0.5, "odd": Hostile(), "line\nbreak": 1, "none": None})
    assert payload(said(), RunEpochLogged).metrics == {"loss": 0.5, "line_break": 1.0}
    assert "left out: note, flag, odd" in caplog.text


def test_metrics_of_every_step_cost_one_event_in_ten_seconds(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("fleetcast.client.runs.time.monotonic", lambda: now)
    with run("hex8_2p") as r:
        for step in range(100):
            r.log_metrics(step=step, loss=1 / (step + 1))
        assert "run.metrics.logged" not in names(said())
        now += runs.METRICS_SECONDS
        r.log_metrics(step=100, loss=0.01, rate=3)
        for step in range(100):
            r.log_metrics(step=101 + step, loss=0.001)
        r.log_epoch(0, elo=1)
    events = said()
    sent = payload(events, RunMetricsLogged)
    assert (sent.step, sent.metrics) == (100, {"loss": 0.01, "rate": 3.0})
    assert payload(events, RunEpochLogged).metrics == {"loss": 0.001, "elo": 1.0}


class Tensor:
    """What torch gives for one number on a GPU: asking for it waits for the GPU."""

    def __init__(self, value: float) -> None:
        self.value, self.asked, self.detached = value, 0, False

    def detach(self) -> "Tensor":
        self.detached = True
        return self

    def item(self) -> float:
        self.asked += 1
        return self.value


def test_tensor_of_a_step_is_not_waited_for(said: Said) -> None:
    tensors = [Tensor(n) for n in range(5)]
    with run("hex8_2p") as r:
        for each in tensors:
            r.log_metrics(loss=each)
        assert [each.asked for each in tensors] == [0] * 5
        r.log_epoch(0)
    assert [each.asked for each in tensors] == [0, 0, 0, 0, 1]
    assert all(each.detached for each in tensors), "the graph behind a loss would stay in memory"
    assert payload(said(), RunEpochLogged).metrics == {"loss": 4.0}


@pytest.mark.parametrize("environment", [{"RANK": "1"}, {"FLEETCAST_MODE": "disabled"}, {"LOCAL_RANK": "1"}], ids=str)
def test_silent_process_waits_for_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tensor = Tensor(1)
    with run("hex8_2p") as r:
        assert list(r.steps([1, 2])) == [1, 2]
        r.log_metrics(loss=tensor)
        r.log_epoch(0, loss=tensor)
        r.promote("m.pt", 1)
    assert not tensor.asked
    assert not (tmp_path / "spool").exists()
    assert lost() == 0


def test_run_that_somebody_else_registered_is_neither_registered_nor_ended_again(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_RUN_ID", "hex8-0042")
    with run("hex8_2p") as r:
        r.log_epoch(0, loss=1)
    (event,) = said()
    assert isinstance(event.payload, RunEpochLogged)
    assert event.payload.run_id == r.id == "hex8-0042"


def test_forked_worker_says_nothing_of_its_parents_run(said: Said) -> None:
    script = """
import os
from fleetcast.client import run
with run("hex8_2p") as r:
    child = os.fork()
    if not child:
        r.log_epoch(7, loss=1)
        raise SystemExit  # leaves the block as its parent will, and must not end the run
    assert os.waitpid(child, 0)[1] == 0
    r.log_epoch(0, loss=1)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert names(said()) == ["run.started", "run.epoch.logged", "run.finished"]


def test_eight_threads_may_speak_of_one_run(said: Said) -> None:
    with run("hex8_2p") as r:

        def work(number: int) -> None:
            for step in range(50):
                r.log_metrics({f"loss{number}": step}, step=step)
                r.log_epoch(number * 50 + step, loss=step)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    found = [event.payload.epoch for event in said() if isinstance(event.payload, RunEpochLogged)]
    assert sorted(found) == list(range(400))
    assert lost() == 0


def test_use_without_with_is_said_and_harmless(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    r = Run("hex8_2p")
    assert r.log_epoch(0, loss=1) is None
    assert "has not begun" in caplog.text
    r.start()
    assert r.log_epoch(0, loss=1)
    r.finish()
    assert names(said()) == ["run.started", "run.epoch.logged", "run.finished"]


def test_job_that_dies_with_its_interpreter_has_said_what_it_said(said: Said, tmp_path: Path) -> None:
    script = (
        "from fleetcast.client import run\nwith run('m') as r:\n    r.log_epoch(0, loss=1)\n    raise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    assert names(said()) == ["run.started", "run.epoch.logged", "run.finished"]
