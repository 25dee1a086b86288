"""A `Callback` of Lightning."""

import os

from fleetcast.client.adapters.hooks import base_of, quiet
from fleetcast.client.adapters.steering import steer, went_on
from fleetcast.client.runs import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def lightning(run: Run) -> "Any":
    """A callback for `Trainer(callbacks=[…])` that tells *run* of epochs, metrics and checkpoints."""
    base = base_of("callbacks.Callback", "lightning.pytorch", "pytorch_lightning")

    class FleetcastCallback(base):  # type: ignore[misc, valid-type]
        state_key = "fleetcast"

        def __init__(self) -> None:
            self._saved = ""

        @quiet
        def on_train_start(self, trainer: "Any", pl_module: "Any") -> None:
            went_on(run, trainer.current_epoch, trainer.global_step)

        @quiet
        def on_train_batch_start(self, trainer: "Any", pl_module: "Any", *_: "Any") -> None:
            run.step_began()

        @quiet
        def on_train_batch_end(self, trainer: "Any", pl_module: "Any", *_: "Any") -> None:
            run.step_ended()
            if run.metrics_due:
                run.log_metrics(trainer.callback_metrics, step=trainer.global_step)
            steer(run, trainer, lambda: self._save(trainer), trainer, "should_stop")

        def _save(self, trainer: "Any") -> None:
            path = os.path.join(run.checkpoint_dir, f"step-{trainer.global_step:08}.ckpt")
            trainer.save_checkpoint(f"{path}.tmp")
            os.replace(f"{path}.tmp", path)
            run.checkpoint(path, step=trainer.global_step)

        @quiet
        def on_train_epoch_end(self, trainer: "Any", pl_module: "Any") -> None:
            run.log_epoch(trainer.current_epoch, trainer.callback_metrics)

        # What writes checkpoints is called after all other callbacks.
        @quiet
        def on_train_epoch_start(self, trainer: "Any", pl_module: "Any") -> None:
            saver = trainer.checkpoint_callback
            path = getattr(saver, "last_model_path", "") or getattr(saver, "best_model_path", "")
            if path and path != self._saved:
                self._saved = path
                run.checkpoint(path)

        on_fit_end = on_train_epoch_start

    return FleetcastCallback()
