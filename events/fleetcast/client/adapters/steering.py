"""What trainers of other libraries do in a job that a lane started: go on, save, and end."""

from fleetcast.client.runs import Run

TYPE_CHECKING = False  # as in typing, whose import a training job need not pay
if TYPE_CHECKING:
    from collections.abc import Callable


def went_on(run: Run, epochs: float, step: int) -> None:
    """A trainer begins that has done so many *epochs* and steps already."""
    if step:
        run.resumed(epoch=int(epochs) - 1 if epochs >= 1 else None, step=step)


def steer(run: Run, trainer: object, save: "Callable[[], None]", target: object, flag: str) -> None:
    """Have the *trainer* of a lane's job save when it is time to, and end, by a *flag* of *target*, when it is asked
    to. One of several processes is left alone: ranks that decide each for itself would wait for each other."""
    if run.claim and getattr(trainer, "world_size", None) == 1:
        if run.should_checkpoint():
            save()
        if run.stop_requested:
            setattr(target, flag, True)
