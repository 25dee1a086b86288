"""Where checkpoints lie on a node: pure, names only."""

import hashlib
from pathlib import Path
from typing import Final

from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.content import Kind
from fleetcast.transport.store import layout

RUNS: Final = "runs"
LINES: Final = "ckpt-"
"""How the lines begin that checkpoints are distributed in."""
LONGEST_LINE: Final = 48


def line_of(run: str) -> str:
    """The line of data sets that a run's checkpoints are versions of, where other nodes are to have them."""
    name = f"{LINES}{run}"
    return name if len(name) <= LONGEST_LINE else f"{LINES}{hashlib.sha256(run.encode()).hexdigest()[:32]}"


def run_folder(data: Path, run: str) -> Path:
    """A run's folder."""
    return data / RUNS / run


def checkpoint_folder(data: Path, run: str, definition: LaneDefinition) -> Path:
    """Where a run writes its checkpoints: the lane's folder, absolute or below *data*, or one of its own."""
    folder = definition.checkpoints.folder
    return run_folder(data, run) / "checkpoints" if folder is None else data / folder


def brought_folder(data: Path, run: str) -> Path:
    """Where checkpoints that came from other nodes are unpacked."""
    return run_folder(data, run) / "brought"


def parcels_folder(data: Path) -> Path:
    """Where checkpoints lie packed until the distributor has taken them."""
    return data / layout.PARCELS


def arrival(data: Path, run: str, version: str) -> Path:
    """Where a parcel of a run is installed once it has come; by rename, so that what is there is whole and proven."""
    return layout.absolute(data, layout.version(Kind.DATASET, line_of(run), version)) / f"{version}.checkpoint"
