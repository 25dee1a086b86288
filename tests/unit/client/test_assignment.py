"""A job that a lane started: what it is given, what it says, and what it never says."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetcast.client import Run, emit, lost, run
from fleetcast.client.assignment import CADENCE_SECONDS, Assignment, Cadence
from fleetcast.client.names import is_of_a_run
from fleetcast.events.envelope import Event
from fleetcast.events.names import CATALOGUE
from fleetcast.events.payloads import ExportCompleted, ModelPromoted
from fleetcast.events.runs import RunCheckpointSaved, RunEpochLogged, RunStarted

Said = Callable[[], list[Event]]
GIVEN = {
    "FLEETCAST_RUN_ID": "hex8_2p-0a1b2c",
    "FLEETCAST_CLAIM": "3",
    "FLEETCAST_LANE": "hex8_2p",
    "FLEETCAST_MODEL": "hex8",
    "FLEETCAST_DEVICE": "rocm:0",
    "FLEETCAST_CHECKPOINT": "/runs/1/checkpoints/2.npz",
    "FLEETCAST_CHECKPOINT_DIR": "/runs/2/checkpoints",
    "FLEETCAST_CADENCE_SECONDS": "90.5",
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("fleetcast.client.assignment.time.monotonic", clock)
    return clock


def payloads(events: list[Event]) -> list[Any]:
    return [event.payload for event in events]


# -- what it says


def test_everything_that_a_lanes_job_says_carries_its_run_and_claim(said: Said, given: None, tmp_path: Path) -> None:
    file = tmp_path / "m.npz"
    file.write_bytes(b"weights")
    with run() as r:
        r.log_epoch(0, loss=1)
        r.checkpoint(file)
        r.export(file, samples_new=1)
        r.promote(file, "7")
        emit("model.registered", model="hex8", version="8", path=str(file))
        emit("run.degraded", reason="slow", since_epoch=1, device="cpu")
    found = payloads(said())
    assert {(each.run_id, each.claim) for each in found} == {("hex8_2p-0a1b2c", 3)}
    assert len(found) == 7


def test_variant_without_claims_would_be_noticed(said: Said, given: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fleetcast.client.emit"], "is_of_a_run", lambda name: False)
    with run() as r:
        r.promote("/m.npz", "7")
    assert {each.claim for each in payloads(said())} == {None}


def test_it_tells_what_only_the_job_knows_and_never_that_it_ended(said: Said, given: None) -> None:
    with run("called_otherwise_by_hand", config={"lr": 0.1}, git_commit="abcdef0") as r:
        assert r.finish("succeeded") is None
    (began,) = payloads(said())
    assert isinstance(began, RunStarted)
    assert (began.run_id, began.claim, began.lane, began.model) == ("hex8_2p-0a1b2c", 3, "hex8_2p", "hex8")
    assert (began.device, began.git_commit, began.config) == ("rocm:0", "abcdef0", {"lr": 0.1})


def test_what_the_job_makes_is_of_the_lanes_model_unless_it_says_another(said: Said, given: None) -> None:
    with run() as r:
        r.promote("/m.npz", "7")
        r.promote("/m.npz", "7", model="hex8_small")
        r.export("/d.npz", samples_new=1)
    _, first, second, exported = payloads(said())
    assert isinstance(first, ModelPromoted)
    assert (first.model, second.model) == ("hex8", "hex8_small")
    assert isinstance(exported, ExportCompleted)
    assert exported.lane == "hex8_2p"
    assert run("a", model="b").model == "b"


def test_run_of_the_jobs_own_is_not_the_lanes(said: Said, given: None) -> None:
    with run("probe", run_id="probe-1") as r:
        r.promote("/m.npz", "7")
    events = said()
    assert {(each.run_id, each.claim) for each in payloads(events)} == {("probe-1", None)}
    assert [event.type.name for event in events] == ["run.started", "model.promoted", "run.finished"]


@pytest.mark.parametrize("claim", ["0", "-1", "two", "1.5", "9" * 5000, "²"])
def test_claim_that_is_no_number_is_said_and_harms_nothing(
    said: Said, given: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, claim: str
) -> None:
    monkeypatch.setenv("FLEETCAST_CLAIM", claim)
    with run() as r:
        r.log_epoch(0, loss=1)
    assert "is no number from 1" in caplog.text
    assert [type(each) for each in payloads(said())] == [RunEpochLogged]


def test_claim_without_a_run_is_nobodys(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETCAST_CLAIM", "3")
    with run("hex8_2p"):
        emit("model.promoted", model="hex8", version="8", path="/m.pt")
    assert {each.claim for each in payloads(said())} == {None}


def test_events_that_know_of_claims_are_those_of_the_catalogue() -> None:
    known = {each.name for each in CATALOGUE if {"run_id", "claim"} <= each.payload.model_fields.keys()}
    assert known == {each.name for each in CATALOGUE if is_of_a_run(each.name)}


# -- what it is given


def test_job_reads_what_its_trainer_gave(given: None) -> None:
    r = run()
    assert (r.id, r.claim, r.resume_from) == ("hex8_2p-0a1b2c", 3, "/runs/1/checkpoints/2.npz")
    assert (r.device, r.torch_device) == ("rocm:0", "cuda:0")
    assert (r.checkpoint_dir, r.cadence_seconds) == ("/runs/2/checkpoints", 90.5)


def test_same_script_runs_by_hand() -> None:
    r = run("hex8_2p")
    assert (r.claim, r.resume_from, r.device, r.torch_device, r.data) == (None, None, None, None, ())
    assert (r.checkpoint_dir, r.cadence_seconds) == ("checkpoints", CADENCE_SECONDS)
    assert (r.stop_requested, r.seconds_left, r.should_checkpoint()) == (False, None, False)


def test_data_is_the_files_of_the_sets_folder_or_those_that_are_named(tmp_path: Path) -> None:
    for name in ("b.npz", "a/c.npz", "a/.hidden", ".part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    given = Assignment({"FLEETCAST_DATA": f"{tmp_path}:/elsewhere/d.npz:"})
    assert given.data == (f"{tmp_path}/b.npz", f"{tmp_path}/a/c.npz", "/elsewhere/d.npz")


@pytest.mark.parametrize("text", ["", "often", "0", "-3", "nan", "inf"])
def test_cadence_that_is_none_is_ten_minutes(text: str) -> None:
    assert Assignment({"FLEETCAST_CADENCE_SECONDS": text}).cadence_seconds == CADENCE_SECONDS


# -- when to save, and when to end


def test_checkpoint_is_due_once_per_cadence_also_where_nobody_saves(clock: Clock) -> None:
    cadence = Cadence(60)
    told = []
    for _ in range(200):
        clock.now += 1
        told.append(cadence.due(ending=False))
    assert [at for at, due in enumerate(told, 1) if due] == [60, 120, 180]


def test_save_is_timed_and_the_next_is_counted_from_its_end(clock: Clock) -> None:
    cadence = Cadence(60)
    clock.now += 60
    assert cadence.due(ending=False)
    clock.now += 7
    assert cadence.saved() == 7
    clock.now += 59
    assert not cadence.due(ending=False)
    assert cadence.saved() is None, "one that was not asked for has no known cost"
    clock.now += 60
    assert cadence.due(ending=False)


def test_job_that_is_asked_to_end_saves_once_more(clock: Clock) -> None:
    cadence = Cadence(60)
    assert [cadence.due(ending=True) for _ in range(3)] == [True, False, False]


def test_checkpoint_tells_its_metrics_and_what_the_save_took(
    said: Said, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.npz"
    file.write_bytes(b"state")
    with run("hex8_2p") as r:
        r.log_epoch(0, loss=0.5)
        clock.now += CADENCE_SECONDS
        assert r.should_checkpoint()
        clock.now += 2.5
        r.checkpoint(file)
        r.checkpoint(file)
    first, second = (each for each in payloads(said()) if isinstance(each, RunCheckpointSaved))
    assert (first.metrics, first.save_seconds) == ({"loss": 0.5}, 2.5)
    assert second.save_seconds is None


def test_job_that_knows_better_says_at_which_step_it_saved_and_how_long_it_took(said: Said, tmp_path: Path) -> None:
    file = tmp_path / "c.npz"
    file.write_bytes(b"state")
    with run("hex8_2p") as r:
        for _ in r.steps(range(3)):
            # The third step is not over while its batch is in hand.
            r.checkpoint(file, step=3, seconds=1.5)
            break
    (saved,) = (each for each in payloads(said()) if isinstance(each, RunCheckpointSaved))
    assert (saved.step, saved.save_seconds) == (3, 1.5)


def test_trainer_asks_for_the_end_by_a_file_that_says_until_when(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tmp_path / "stop"
    monkeypatch.setenv("FLEETCAST_STOP_FILE", str(stop))
    r = run("hex8_2p")
    assert not r.stop_requested
    until = datetime.now(UTC) + timedelta(seconds=100)
    stop.write_text(f"{until.isoformat().replace('+00:00', 'Z')}\n")
    assert not r.stop_requested, "it is looked for twice a second, however often the job asks"
    clock.now += 1
    assert r.stop_requested
    left = r.seconds_left
    assert left is not None
    assert 0 < left <= 100
    assert r.should_checkpoint()
    stop.unlink()
    clock.now += 1
    assert r.stop_requested, "what was asked is not taken back"


@pytest.mark.parametrize(("text", "left"), [("", None), ("soon", None), ("2020-01-01T00:00:00Z", 0.0)])
def test_deadline_that_is_none_or_over_is_no_error(tmp_path: Path, text: str, left: float | None) -> None:
    (tmp_path / "stop").write_text(text)
    assert Assignment({"FLEETCAST_STOP_FILE": str(tmp_path / "stop")}).seconds_left == left


def test_asking_whether_to_end_costs_a_step_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETCAST_STOP_FILE", str(tmp_path / "stop"))
    r = run("hex8_2p")
    looks: list[object] = []
    monkeypatch.setattr("fleetcast.client.assignment.os.path.exists", looks.append)
    began = time.monotonic()
    for _ in range(10_000):
        assert not r.stop_requested
    assert len(looks) <= 1 + (time.monotonic() - began) / 0.5


def test_other_ranks_are_given_the_same(given: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("FLEETCAST_STOP_FILE", str(tmp_path))
    with run() as r:
        assert (r.id, r.stop_requested, r.resume_from) == ("hex8_2p-0a1b2c", True, "/runs/1/checkpoints/2.npz")
    assert not (tmp_path / "spool").exists()


# -- going on


def test_counters_go_on_from_the_checkpoint(said: Said, given: None) -> None:
    with run() as r:
        r.resumed(epoch=4, step=500)
        for _ in r.steps(range(100)):
            pass
        r.log_epoch(loss=1)
    (epoch,) = (each for each in payloads(said()) if isinstance(each, RunEpochLogged))
    assert (epoch.epoch, epoch.step, epoch.steps) == (5, 600, 100)


@pytest.mark.parametrize("wrong", ["last", object(), [1]])
def test_going_on_from_no_number_is_harmless(said: Said, wrong: Any) -> None:
    with run("hex8_2p") as r:
        r.resumed(epoch=wrong, step=wrong)
        r.log_epoch(loss=1)
    assert lost() == 0


def test_run_without_a_lane_says_nothing_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with run() as r:
        assert isinstance(r, Run)
    assert "no lane started it" in capsys.readouterr().err
