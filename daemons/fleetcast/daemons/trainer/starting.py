"""What a run is started with: its command, its environment, its folder. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetcast.config import environment
from fleetcast.daemons.trainer.claims.eligibility import SIMULATED
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.lanes.template import filled
from fleetcast.daemons.trainer.supervision.spec import RunSpec
from fleetcast.events.content import Kind
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import TrainingRunState
from fleetcast.transport.store import layout

RUNS = "runs"
"""Folder of the runs of a node, below its data: one folder each."""
STOP = "stop"
"""File by which a job is asked to save and end; it contains the deadline, where there is one."""
DONE = "done"
"""File by which a job says that it is done: what `finishing.Done` reads."""
GPUS = "FLEETCAST_GPUS"
"""Indices of the GPUs that a run was given; whoever adopts it reads them."""
CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is done.

    Attributes:
        data: `store.data` of the node.
        environment: of the daemon.
    """

    node: str
    data: Path
    environment: Mapping[str, str]

    @property
    def runs(self) -> Path:
        """Where the folders of runs lie."""
        return self.data / RUNS

    def folder(self, run: str) -> Path:
        """A run's folder."""
        return self.runs / run

    def stop_file(self, run: str) -> Path:
        """What exists when a run is asked to save and end."""
        return self.folder(run) / STOP

    def done_file(self, run: str) -> Path:
        """What a job writes once it is done."""
        return self.folder(run) / DONE


def device_of(run: TrainingRunState, gpus: Sequence[Gpu]) -> str:
    """What a run computes on. Only the GPUs it was given are visible to it, so the first of them is always number 0; a
    simulated one computes nothing."""
    if run.cpu or not gpus or gpus[0].vendor == SIMULATED:
        return CPU
    return "rocm:0" if gpus[0].vendor == "amd" else "cuda:0"


def gpus_in(environment: Mapping[str, str]) -> tuple[int, ...]:
    """The GPUs that a run was started with."""
    return tuple(int(each) for each in environment.get(GPUS, "").split(",") if each.isdecimal())


def data_of(place: Place, run: TrainingRunState) -> str:
    """The folders of a run's data sets, separated by `:`."""
    versions = (layout.version(Kind.DATASET, each.lane, each.version) for each in run.data)
    return ":".join(str(layout.absolute(place.data, names)) for names in versions)


def spec_of(
    place: Place,
    run: TrainingRunState,
    lane: LaneDefinition,
    *,
    checkpoints: Path,
    resume: Path | None,
    cadence_seconds: float,
    log_bytes: int,
    gpus: Sequence[int] = (),
) -> RunSpec:
    """What is started for a claim of a run."""
    values = {
        "run": run.run,
        "claim": run.claim,
        "lane": run.lane,
        "model": run.model,
        "version": run.data[0].version if run.data else "",
        "data": data_of(place, run),
        "checkpoint": str(resume) if resume is not None else "",
        "checkpoint_dir": str(checkpoints),
        "device": run.device or CPU,
        "node": place.node,
        "cadence_seconds": f"{cadence_seconds:g}",
    }
    return RunSpec(
        run=run.run,
        claim=run.claim,
        command=filled(lane.command, values),
        cwd=str(place.data / lane.cwd) if lane.cwd else "",
        env=_environment(place, run, lane, values, gpus),
        folder=str(place.folder(run.run)),
        grace_seconds=lane.grace_seconds,
        time_limit_seconds=lane.time_limit_seconds,
        log_bytes=log_bytes,
    )


def _environment(
    place: Place, run: TrainingRunState, lane: LaneDefinition, values: Mapping[str, object], gpus: Sequence[int]
) -> dict[str, str]:
    said = {
        "RUN_ID": values["run"],
        "CLAIM": values["claim"],
        "LANE": values["lane"],
        "MODEL": values["model"],
        "DATA": values["data"],
        "CHECKPOINT": values["checkpoint"],
        "CHECKPOINT_DIR": values["checkpoint_dir"],
        "DEVICE": values["device"],
        "CADENCE_SECONDS": values["cadence_seconds"],
        "STOP_FILE": place.stop_file(run.run),
        "DONE_FILE": place.done_file(run.run),
        "NODE_ID": place.node,
        "STORE_DATA": place.data,
        "GPUS": ",".join(map(str, gpus)),
    }
    ours = {f"FLEETCAST_{name}": str(value) for name, value in said.items() if str(value)}
    return {
        **environment.for_job(place.environment),
        "PYTHONUNBUFFERED": "1",
        **_visible(run.device, gpus),
        **lane.env,
        **ours,
    }


def _visible(device: str, gpus: Sequence[int]) -> dict[str, str]:
    """The variables that choose GPUs. AMD advises ROCR_VISIBLE_DEVICES on Linux; on the CPU none is visible."""
    chosen = ",".join(map(str, gpus))
    if device.startswith("cuda"):
        return {"CUDA_VISIBLE_DEVICES": chosen}
    if device.startswith("rocm"):
        return {"ROCR_VISIBLE_DEVICES": chosen}
    return {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}
