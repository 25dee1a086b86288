"""The example job, as a trainer starts it and as a person does."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fleetcast.client import lost, notices
from fleetcast.client.emit import _state
from fleetcast.client.spool import SpoolReader
from fleetcast.events.envelope import parse
from fleetcast.events.payloads import ExportCompleted, ModelPromoted
from fleetcast.events.runs import RunCheckpointSaved, RunEpochLogged, RunMetricsLogged, RunStarted
from fleetcast.examples.training.networks import NumpyNetwork, TorchNetwork, write_whole
from fleetcast.examples.training.samples import batches, load
from fleetcast.examples.training.train import main

LIBRARIES = [
    "numpy",
    pytest.param("torch", marks=pytest.mark.skipif(os.environ.get("NO_TORCH") == "1", reason="asked for")),
]
SAMPLES, BATCH, EPOCHS = 300, 50, 3
Job = Callable[..., dict[type[Any], list[Any]]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    boards = random.integers(0, 3, (SAMPLES, 4, 4), dtype=np.int8)
    outcomes = np.sign((boards == 1).sum((1, 2)) - (boards == 2).sum((1, 2))).astype(np.int8)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "games.npz", boards=boards, outcomes=outcomes)
    return tmp_path / "data"


@pytest.fixture
def job(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Runs the job under a claim and returns what it said, by kind."""

    def ran(claim: int, *words: str, folder: str = "run", resume: Path | None = None, stop: bool = False) -> Any:
        (tmp_path / folder).mkdir(exist_ok=True)
        given = {
            "RUN_ID": "hex8-0001",
            "CLAIM": str(claim),
            "LANE": "hex8",
            "MODEL": "hex8_2p",
            "DATA": str(data),
            "CHECKPOINT": str(resume or ""),
            "CHECKPOINT_DIR": str(tmp_path / folder / "checkpoints"),
            "DEVICE": "cpu",
            "STOP_FILE": str(data if stop else tmp_path / "nothing"),
            "SPOOL": str(tmp_path / folder / f"spool-{claim}"),
            "NODE_ID": "gpu-1",
        }
        for name in [name for name in os.environ if name.startswith(("FLEETCAST_", "RANK", "SLURM"))]:
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(f"FLEETCAST_{name}", value)
        notices.begin_anew()
        _state.clear()
        options = ("--epochs", str(EPOCHS), "--batch", str(BATCH), "--out", str(tmp_path / folder), *words)
        assert main(options) == 0
        _state.clear()
        assert lost() == 0
        found: dict[type[Any], list[Any]] = {}
        with SpoolReader(tmp_path / folder / f"spool-{claim}") as reader:
            for event in sorted((parse(record.data) for record in reader.pending()), key=lambda each: each.id):
                found.setdefault(type(event.payload), []).append(event.payload)
        return found

    return ran


@pytest.mark.parametrize("library", LIBRARIES)
def test_job_of_a_lane_trains_checkpoints_exports_and_promotes_under_its_claim(
    job: Job, tmp_path: Path, library: str
) -> None:
    if library == "torch":
        pytest.importorskip("torch")
    said = job(1, "--library", library, "--export-lane", "hex8_hard")
    # A machine that takes ten seconds for it is also told how it goes in between.
    assert said.keys() - {RunMetricsLogged} == {
        *(RunStarted, RunEpochLogged, RunCheckpointSaved, ExportCompleted, ModelPromoted)
    }
    assert {(each.run_id, each.claim) for kind in said.values() for each in kind} == {("hex8-0001", 1)}
    losses = [each.metrics["loss"] for each in said[RunEpochLogged]]
    assert losses[-1] < losses[0], "it learns"
    assert [each.step for each in said[RunEpochLogged]] == [6, 12, 18]
    (promoted,) = said[ModelPromoted]
    assert (promoted.model, promoted.version) == ("hex8_2p", "0001")
    assert load_file(promoted.path).keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    (exported,) = said[ExportCompleted]
    assert exported.lane == "hex8_hard"
    assert len(load([exported.path])) == exported.samples_new == 256


@pytest.mark.parametrize("library", LIBRARIES)
def test_run_that_goes_on_elsewhere_ends_as_if_it_had_never_stopped(job: Job, tmp_path: Path, library: str) -> None:
    if library == "torch":
        pytest.importorskip("torch")
    (whole,) = job(1, "--library", library, folder="whole")[ModelPromoted]
    first = job(1, "--library", library, folder="parts", stop=True)
    assert ModelPromoted not in first, "it was told to end: nothing is promoted"
    (saved,) = first[RunCheckpointSaved]
    assert saved.step == 1, "in the middle of an epoch"
    second = job(2, "--library", library, folder="parts", resume=Path(saved.path))
    assert [each.step for each in second[RunEpochLogged]] == [6, 12, 18], "the counter goes on"
    (again,) = second[ModelPromoted]
    assert again.claim == 2
    expected, found = load_file(whole.path), load_file(again.path)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_run_that_forgot_where_it_was_would_end_otherwise(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = job(1, "--library", "numpy", folder="whole")[ModelPromoted]
    (saved,) = job(1, "--library", "numpy", folder="parts", stop=True)[RunCheckpointSaved]
    restore = NumpyNetwork.restore
    monkeypatch.setattr(NumpyNetwork, "restore", lambda self, path: restore(self, path) | {"done": 0})
    (again,) = job(2, "--library", "numpy", folder="parts", resume=Path(saved.path))[ModelPromoted]
    assert not np.array_equal(load_file(whole.path)["0.weight"], load_file(again.path)["0.weight"])


def test_networks_of_both_libraries_say_the_same(data: Path) -> None:
    pytest.importorskip("torch")
    samples = load([str(data / "games.npz")])
    numpy = NumpyNetwork(samples.inputs, rate=0.05, seed=1)
    torch = TorchNetwork(samples.inputs, rate=0.05, seed=1, device="cpu")
    import torch as library

    torch._model.load_state_dict({name: library.from_numpy(each.copy()) for name, each in numpy.weights().items()})
    for _, boards, outcomes in batches(samples, BATCH, seed=1, epoch=0):
        assert numpy.step(boards, outcomes) == pytest.approx(torch.step(boards, outcomes), rel=1e-4)


def test_what_is_written_has_its_name_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "step-1.npz"
    write_whole(path, b"first")

    def killed(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fleetcast.examples.training.networks.os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"the second")
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize("words", [(), ("--data", "/nowhere/games.txt")])
def test_job_without_data_says_what_it_lacks(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETCAST_MODE", "disabled")
    monkeypatch.delenv("FLEETCAST_DATA", raising=False)
    _state.clear()
    with pytest.raises(SystemExit, match="no NPZ file"):
        main(["--lane", "hex8", *words])
    _state.clear()
