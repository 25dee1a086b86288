"""The trainer daemon: starts what lanes ask for, once, on a node that can, and sees it to its end.

`lanes/` decides when a run is due, `claims/` which node does it, `supervision/` keeps its process, `faults/` judges how
it ended, `checkpoints/` what it goes on from, `gpus/` and `spot/` what becomes of the machine. `runner.py` does a
run, `daemon.py` connects them. Any number of trainers are equal: what is decided is decided by compare-and-swap.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The supervisor process of every run imports this package, and stays as small as the standard library.
    from fleetcast.config.settings import Settings

__all__ = ["main"]


def main(settings: "Settings") -> int:
    """Run the trainer until it is told to stop; returns the process's exit code."""
    # The command line reads what may be asked from this package, and needs no daemon for that.
    from fleetcast.daemons.trainer.daemon import main as run

    return run(settings)
