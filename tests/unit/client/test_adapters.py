"""Callbacks for trainers of other libraries, driven through the hooks in the order that their documents give. The
libraries themselves are not there: what stands for a trainer has as much of it as hooks are given."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetcast.client import adapters, lost, run
from fleetcast.client.adapters import hugging_face, lightning
from fleetcast.events.envelope import Event
from fleetcast.events.runs import RunCheckpointSaved, RunEpochLogged, RunFinished

Said = Callable[[], list[Event]]
FOLDER = Path(adapters.__path__[0])


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event.payload for event in events if isinstance(event.payload, kind)]


class HuggingFaceTrainer:
    """Calls a `TrainerCallback` as `transformers.Trainer` does: what is logged, evaluated and saved for an epoch comes
    after `on_epoch_end`."""

    def __init__(self, folder: Path, callback: Any) -> None:
        self.callback = callback
        self.args = types.SimpleNamespace(output_dir=str(folder))
        self.state = types.SimpleNamespace(epoch=0.0, global_step=0)

    def call(self, event: str, **more: Any) -> None:
        control = types.SimpleNamespace()
        assert getattr(self.callback, event)(self.args, self.state, control, model=None, **more) is None

    def train(self, epochs: int, steps: int) -> None:
        self.call("on_init_end")
        self.call("on_train_begin")
        for epoch in range(epochs):
            self.call("on_epoch_begin")
            for step in range(steps):
                self.call("on_step_begin")
                self.call("on_substep_end")
                self.call("on_pre_optimizer_step")
                self.call("on_optimizer_step")
                self.state.global_step += 1
                self.state.epoch = epoch + (step + 1) / steps
                self.call("on_step_end")
            self.call("on_epoch_end")
            self.call("on_log", logs={"loss": 1.0 / (epoch + 1), "learning_rate": 0.1, "epoch": self.state.epoch})
            self.call("on_evaluate", metrics={"eval_loss": 2.0 / (epoch + 1)})
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"weights")
            self.call("on_save")
        self.call("on_train_end")


def test_hugging_face_epochs_have_the_metrics_that_were_evaluated_after_them(said: Said, tmp_path: Path) -> None:
    with run("hex8_2p") as r:
        HuggingFaceTrainer(tmp_path, hugging_face(r)).train(epochs=2, steps=3)
    first, second = of(said(), RunEpochLogged)
    assert (first.epoch, first.metrics["loss"], first.metrics["eval_loss"]) == (0, 1.0, 2.0)
    assert (second.epoch, second.metrics["loss"], second.metrics["eval_loss"]) == (1, 0.5, 1.0)
    assert (first.steps, second.steps, second.step) == (3, 3, 6)
    assert [Path(saved.path).name for saved in of(said(), RunCheckpointSaved)] == ["checkpoint-3", "checkpoint-6"]
    assert [ended.outcome for ended in of(said(), RunFinished)] == ["succeeded"]
    assert lost() == 0


class LightningTrainer:
    """Calls a `Callback` as `lightning.pytorch.Trainer` does: validation lies within the epoch, and what writes
    checkpoints comes after the other callbacks."""

    def __init__(self, folder: Path, callback: Any) -> None:
        self.folder, self.callback = folder, callback
        self.current_epoch = self.global_step = 0
        self.callback_metrics: dict[str, float] = {}
        self.checkpoint_callback = types.SimpleNamespace(last_model_path="", best_model_path="")

    def call(self, hook: str, *more: Any) -> None:
        assert getattr(self.callback, hook)(self, None, *more) is None

    def fit(self, epochs: int, steps: int) -> None:
        assert isinstance(self.callback.state_key, str)
        self.call("setup", "fit")
        for hook in ("on_fit_start", "on_sanity_check_start", "on_sanity_check_end", "on_train_start"):
            self.call(hook)
        for epoch in range(epochs):
            self.current_epoch = epoch
            self.call("on_train_epoch_start")
            for step in range(steps):
                self.call("on_train_batch_start", "batch", step)
                self.call("on_before_backward", "loss")
                self.global_step += 1
                self.callback_metrics = {"train_loss": 1.0 / self.global_step}
                self.call("on_train_batch_end", "outputs", "batch", step)
            self.call("on_validation_epoch_end")
            self.callback_metrics["val_loss"] = 2.0 / (epoch + 1)
            self.call("on_train_epoch_end")
            path = self.folder / f"epoch={epoch}.ckpt"
            path.write_bytes(b"weights")
            self.checkpoint_callback.best_model_path = str(path)
        for hook in ("on_train_end", "on_fit_end"):
            self.call(hook)
        self.call("teardown", "fit")


def test_lightning_epochs_steps_and_checkpoints_are_told(said: Said, tmp_path: Path) -> None:
    with run("hex8_2p") as r:
        LightningTrainer(tmp_path, lightning(r)).fit(epochs=2, steps=3)
    first, second = of(said(), RunEpochLogged)
    assert (first.epoch, first.metrics) == (0, {"train_loss": pytest.approx(1 / 3), "val_loss": 2.0})
    assert (second.epoch, second.steps, second.step) == (1, 3, 6)
    assert [Path(saved.path).name for saved in of(said(), RunCheckpointSaved)] == ["epoch=0.ckpt", "epoch=1.ckpt"]
    assert lost() == 0


@pytest.fixture
def asked_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a lane, whose trainer wants the job to end."""
    (tmp_path / "stop").touch()
    given = {"RUN_ID": "hex8-0001", "CLAIM": "2", "LANE": "hex8_2p", "CHECKPOINT_DIR": str(tmp_path)}
    for name, value in (given | {"STOP_FILE": str(tmp_path / "stop")}).items():
        monkeypatch.setenv(f"FLEETCAST_{name}", value)


@pytest.mark.parametrize("processes", [1, 2])
def test_hugging_face_saves_and_stops_when_the_lanes_job_is_to_end(
    said: Said, tmp_path: Path, asked_to_end: None, processes: int
) -> None:
    args = types.SimpleNamespace(output_dir=str(tmp_path), world_size=processes)
    state = types.SimpleNamespace(epoch=2.5, global_step=500)
    control = types.SimpleNamespace(should_save=False, should_training_stop=False)
    with run() as r:
        callback = hugging_face(r)
        callback.on_train_begin(args, state, control)
        assert r.epoch == 1, "two epochs had ended"
        state.global_step = 501
        callback.on_step_end(args, state, control)
        # Ranks that decide each for itself would wait for each other.
        assert (control.should_save, control.should_training_stop) == (processes == 1, processes == 1)
        (tmp_path / "checkpoint-501").mkdir()
        (tmp_path / "checkpoint-501" / "model.safetensors").write_bytes(b"weights")
        callback.on_save(args, state, control)
    (saved,) = of(said(), RunCheckpointSaved)
    assert (saved.step, saved.claim) == (501, 2)
    assert lost() == 0


@pytest.mark.parametrize("processes", [1, 2])
def test_lightning_saves_and_stops_when_the_lanes_job_is_to_end(
    said: Said, tmp_path: Path, asked_to_end: None, processes: int
) -> None:
    with run() as r:
        trainer: Any = LightningTrainer(tmp_path, lightning(r))
        trainer.world_size, trainer.should_stop = processes, False
        trainer.save_checkpoint = lambda path: Path(path).write_bytes(b"whole")
        trainer.current_epoch, trainer.global_step = 2, 500
        trainer.call("on_train_start")
        assert r.epoch == 1
        trainer.global_step = 501
        trainer.call("on_train_batch_end", "outputs", "batch", 0)
        assert trainer.should_stop is (processes == 1)
    found = [(saved.path, saved.step) for saved in of(said(), RunCheckpointSaved)]
    assert found == ([(str(tmp_path / "step-00000501.ckpt"), 501)] if processes == 1 else [])
    assert not list(tmp_path.glob("*.tmp"))
    assert lost() == 0


@pytest.mark.parametrize("module", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_callback_derives_from_the_class_that_the_job_has_loaded(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    base: Any = type("Callback", (), {"on_load_checkpoint": lambda *_: "lightning's own"})
    loaded = types.SimpleNamespace(callbacks=types.SimpleNamespace(Callback=base))
    monkeypatch.setitem(sys.modules, module, loaded)
    callback = lightning(run("hex8_2p"))
    assert isinstance(callback, base)
    assert callback.on_load_checkpoint() == "lightning's own"


def test_hugging_face_callback_derives_from_the_class_that_the_job_has_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    base = type("TrainerCallback", (), {})
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(TrainerCallback=base))
    assert isinstance(hugging_face(run("hex8_2p")), base)


@pytest.mark.parametrize("adapter", [hugging_face, lightning])
def test_trainer_that_looks_otherwise_is_not_disturbed(adapter: Callable[..., Any]) -> None:
    hooks = ["on_log", "on_epoch_end", "on_save", "on_train_epoch_end", "on_train_epoch_start", "on_new_hook"]
    with run("hex8_2p") as r:
        callback = adapter(r)
        for hook in hooks:
            assert getattr(callback, hook)(object(), object(), object()) is None
        with pytest.raises(AttributeError):
            callback.something_else  # noqa: B018 -- what is no hook is not made up
    assert lost() > 0


@pytest.mark.parametrize("module", ["hooks", "huggingface", "lightning"])
def test_adapters_stay_small_enough_to_be_read(module: str) -> None:
    assert len((FOLDER / f"{module}.py").read_text().splitlines()) <= 60
