"""A `TrainerCallback` of Hugging Face's transformers."""

import os

from fleetcast.client.adapters.hooks import base_of, quiet
from fleetcast.client.adapters.steering import steer, went_on
from fleetcast.client.runs import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def hugging_face(run: Run) -> "Any":
    """A callback for `Trainer(callbacks=[…])` that tells *run* of epochs, metrics and checkpoints."""
    base = base_of("TrainerCallback", "transformers")

    class FleetcastCallback(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self._ended, self._metrics = -1, dict[str, object]()

        @quiet
        def on_train_begin(self, args: "Any", state: "Any", control: "Any", **_: "Any") -> None:
            went_on(run, state.epoch or 0, state.global_step)

        @quiet
        def on_step_begin(self, args: "Any", state: "Any", control: "Any", **_: "Any") -> None:
            run.step_began()

        @quiet
        def on_step_end(self, args: "Any", state: "Any", control: "Any", **_: "Any") -> None:
            run.step_ended()
            steer(run, args, lambda: setattr(control, "should_save", True), control, "should_training_stop")

        @quiet
        def on_log(self, args: "Any", state: "Any", control: "Any", logs: "Any" = None, **_: "Any") -> None:
            run.log_metrics(logs, step=state.global_step)

        @quiet
        def on_evaluate(self, args: "Any", state: "Any", control: "Any", metrics: "Any" = None, **_: "Any") -> None:
            self._metrics.update(metrics or {})

        @quiet
        def on_save(self, args: "Any", state: "Any", control: "Any", **_: "Any") -> None:
            run.checkpoint(os.path.join(args.output_dir, f"checkpoint-{state.global_step}"), step=state.global_step)

        @quiet
        def on_epoch_end(self, args: "Any", state: "Any", control: "Any", **_: "Any") -> None:
            self._ended = max(0, round(state.epoch) - 1)

        # The trainer logs and evaluates an epoch after it has said that it ended.
        @quiet
        def on_epoch_begin(self, args: "Any", state: "Any", control: "Any", **_: "Any") -> None:
            if self._ended >= 0:
                run.log_epoch(self._ended, self._metrics)
            self._ended, self._metrics = -1, {}

        on_train_end = on_epoch_begin

    return FleetcastCallback()
