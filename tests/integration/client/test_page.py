"""The examples of docs/training-client.md, as a reader would run them."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.test_adapters import HuggingFaceTrainer, LightningTrainer

from fleetcast.client.spool import SpoolReader

PAGE = Path(__file__).parents[3] / "docs" / "training-client.md"
LOOP, HUGGING_FACE, LIGHTNING, SERVING = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def said(spool: Path) -> list[dict[str, Any]]:
    with SpoolReader(spool) as reader:
        return sorted((json.loads(record.data) for record in reader.pending()), key=lambda event: str(event["id"]))


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEETCAST_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("FLEETCAST_NODE_ID", "gpu-1")
    for name in ("RANK", "FLEETCAST_MODE", "FLEETCAST_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "spool"


def ran(script: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_plain_loop_trains_with_torch_and_tells_all_of_it(spool: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    ran(LOOP, tmp_path)
    events = said(spool)
    assert Counter(event["type"] for event in events) == {
        "run.started.v1": 1,
        "run.epoch.logged.v1": 3,
        "run.checkpoint.saved.v1": 3,
        "model.promoted.v1": 1,
        "run.finished.v1": 1,
    }
    epochs = [event["data"] for event in events if event["type"] == "run.epoch.logged.v1"]
    assert [(each["epoch"], each["steps"], each["step"]) for each in epochs] == [(0, 10, 10), (1, 10, 20), (2, 10, 30)]
    assert all(0 < each["step_seconds"] < each["seconds"] and each["metrics"]["loss"] > 0 for each in epochs)
    (promoted,) = (event["data"] for event in events if event["type"] == "model.promoted.v1")
    assert promoted["path"] == str(tmp_path / "model.pt")
    assert Path(promoted["path"]).exists()


class Saving:
    """What the examples do with a trainer after training."""

    folder: Path

    def save_model(self, name: str) -> None:
        (self.folder / name).mkdir()

    def save_checkpoint(self, name: str) -> None:
        (self.folder / name).write_bytes(b"weights")


@pytest.mark.parametrize(("example", "epochs"), [(HUGGING_FACE, 2), (LIGHTNING, 3)], ids=["hugging face", "lightning"])
def test_examples_for_other_trainers_run_with_what_stands_for_them(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: str, epochs: int
) -> None:
    class HuggingFace(Saving):
        folder = tmp_path

        def __init__(self, callbacks: list[Any], **_: Any) -> None:
            self.stand_in = HuggingFaceTrainer(tmp_path, callbacks[0])

        def train(self) -> None:
            self.stand_in.train(epochs, 3)

    class Lightning(Saving):
        folder = tmp_path

        def __init__(self, callbacks: list[Any], max_epochs: int) -> None:
            self.stand_in, self.epochs = LightningTrainer(tmp_path, callbacks[0]), max_epochs

        def fit(self, *_: Any) -> None:
            self.stand_in.fit(self.epochs, 3)

    monkeypatch.chdir(tmp_path)
    names = {"model": None, "arguments": None, "data": None, "loader": None}
    trainer = HuggingFace if example is HUGGING_FACE else Lightning
    from fleetcast.client.emit import _state

    _state.clear()
    exec(example, {**names, "Trainer": trainer})
    _state.clear()
    kinds = Counter(event["type"] for event in said(spool))
    assert (kinds["run.epoch.logged.v1"], kinds["run.checkpoint.saved.v1"]) == (epochs, epochs)
    assert kinds["model.promoted.v1"] == kinds["run.finished.v1"] == 1


def test_snapshot_of_serving_code_is_spooled(spool: Path, tmp_path: Path) -> None:
    ran(SERVING, tmp_path)
    (event,) = said(spool)
    assert event["data"]["num_requests"] == 1200
