"""The example job as a process that dies: what it saved is whole, and another one goes on from it to the same end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fleetcast.client.spool import SpoolReader

WAIT_SECONDS = 60.0
EPOCHS = 3
EPOCH_STEPS = 40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    boards = np.random.default_rng(1).integers(0, 3, (2000, 4, 4), dtype=np.int8)
    outcomes = np.sign((boards == 1).sum((1, 2)) - (boards == 2).sum((1, 2))).astype(np.int8)
    np.savez(tmp_path / "games.npz", boards=boards, outcomes=outcomes)
    return tmp_path / "games.npz"


def start(folder: Path, data: Path, claim: int, *, resume: Path | None = None, wait: float = 0.0) -> Any:
    folder.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLEETCAST_", "RANK", "SLURM_"))}
    given = {
        "RUN_ID": "hex8-0001",
        "CLAIM": str(claim),
        "LANE": "hex8",
        "DATA": str(data),
        "CHECKPOINT": str(resume or ""),
        "CHECKPOINT_DIR": str(folder / "checkpoints"),
        "CADENCE_SECONDS": "0.05",
        "STOP_FILE": str(folder / "stop"),
        "SPOOL": str(folder / "spool"),
        "NODE_ID": "gpu-1",
        "DEVICE": "cpu",
    }
    words = ("--library", "numpy", "--epochs", str(EPOCHS), "--batch", "50", "--out", str(folder))
    return subprocess.Popen(
        [sys.executable, "-m", "fleetcast.examples.training.train", *words, "--step-seconds", str(wait)],
        env=kept | {f"FLEETCAST_{name}": value for name, value in given.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(job: Any, status: int = 0) -> str:
    out, err = job.communicate(timeout=WAIT_SECONDS)
    assert (job.returncode, err) == (status, ""), err
    return str(out)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    with SpoolReader(folder / "spool") as reader:
        found = sorted((json.loads(record.data) for record in reader.pending()), key=lambda event: str(event["id"]))
    return [event["data"] for event in found if event["type"] == f"{kind}.v1"]


def newest(folder: Path, at_least: int) -> Path:
    """The newest checkpoint in *folder*, once there are so many."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = sorted((folder / "checkpoints").glob("step-*.npz"))
        if len(found) >= at_least:
            return found[-1]
        time.sleep(0.01)
    raise AssertionError("no checkpoints")


def steps_learnt(folder: Path) -> int:
    return sum(epoch["steps"] for epoch in events(folder, "run.epoch.logged"))


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "hex8-0001.safetensors")


def killed(job: Any, folder: Path) -> None:
    newest(folder, 3)
    job.send_signal(signal.SIGKILL)
    job.communicate()


def told_by_file(job: Any, folder: Path) -> None:
    newest(folder, 2)
    (folder / "stop").touch()
    assert "told to end; saved at step" in ended(job)


def told_by_signal(job: Any, folder: Path) -> None:
    newest(folder, 2)
    job.send_signal(signal.SIGTERM)
    # Whoever sent it was not the trainer, which would take status 0 for the end of the run.
    assert "told to end; saved at step" in ended(job, 128 + signal.SIGTERM)


@pytest.mark.parametrize("end", [killed, told_by_file, told_by_signal])
def test_job_that_ends_in_the_middle_goes_on_elsewhere_to_the_same_model(
    tmp_path: Path, data: Path, end: Callable[[Any, Path], None]
) -> None:
    first, second, whole = (tmp_path / name for name in ("first", "second", "whole"))
    ended(start(whole, data, 1))
    job = start(first, data, 1, wait=0.02)
    end(job, first)
    assert not events(first, "model.promoted")
    saved = newest(first, 1)
    step = int(saved.stem.removeprefix("step-"))
    assert f"goes on at step {step} " in ended(start(second, data, 2, resume=saved))
    expected, found = weights(whole), weights(second)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    (promoted,) = events(second, "model.promoted")
    assert (promoted["run_id"], promoted["claim"]) == ("hex8-0001", 2)
    assert events(second, "run.epoch.logged")[-1]["step"] == EPOCHS * EPOCH_STEPS, "the counter went on"
    assert steps_learnt(second) == EPOCHS * EPOCH_STEPS - step


def test_job_that_would_begin_from_scratch_is_noticed(tmp_path: Path, data: Path) -> None:
    """The variant that the checks above are for: it comes to the same model, and learns everything twice."""
    first, second = tmp_path / "first", tmp_path / "second"
    told_by_file(start(first, data, 1, wait=0.02), first)
    step = int(newest(first, 1).stem.removeprefix("step-"))
    assert "goes on" not in ended(start(second, data, 2))
    assert steps_learnt(second) != EPOCHS * EPOCH_STEPS - step
