"""`fleetcast emit run.…`: what a job or a person says about a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def emitted(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleetcast", "emit", *words, "--dry-run", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, "FLEETCAST_NODE_ID": "gpu-1", "NATS_URL": "nats://127.0.0.1:9"},
    )


def test_a_run_is_announced_with_its_lane_alone(tmp_path: Path) -> None:
    done = emitted(tmp_path, "run.started", "run_id=hex-42", "lane=hex8_2p", 'data=[{"data_set":"abc"}]')
    said = json.loads(done.stdout)
    assert said["subject"] == "fc.ev.run.started.hex-42"
    assert said["data"] == {"run_id": "hex-42", "node": "gpu-1", "lane": "hex8_2p", "data": [{"data_set": "abc"}]}


@pytest.mark.parametrize("spelling", ["run.epoch_logged", "run.epoch.logged", "RUN_EPOCH_LOGGED"])
def test_an_epoch_is_logged_in_any_spelling(tmp_path: Path, spelling: str) -> None:
    done = emitted(tmp_path, spelling, "run_id=hex-42", "epoch=0", "metrics.loss=1.5", "seconds=2")
    said = json.loads(done.stdout)
    assert said["subject"] == "fc.ev.run.epoch_logged.hex-42"
    said["data"].pop("nonfinite")
    assert said["data"] == {"run_id": "hex-42", "node": "gpu-1", "epoch": 0, "metrics": {"loss": 1.5}, "seconds": 2.0}


@pytest.mark.parametrize(
    ("words", "told"),
    [(("epoch=0", "metrics.loss=NaN"), "metrics.loss"), (("epoch=-1",), "epoch"), ((), "epoch is missing")],
)
def test_what_a_run_cannot_say_is_a_usage_error_with_the_field(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    done = emitted(tmp_path, "run.epoch_logged", "run_id=hex-42", *words)
    assert done.returncode == 2
    assert told in done.stdout + done.stderr
