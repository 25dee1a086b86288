"""Facts of the run registry: what a training run is made from, how it goes, what went wrong, and how it ended.

Emitted by jobs, or typed by hand; the key of all of them is the run."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from fleetcast.events.content import Value
from fleetcast.events.ids import FilePath, Name, Sha256
from fleetcast.events.lifecycle import Count, Facts, Number, Text, Words
from fleetcast.events.payloads import Moment, Payload


def _no_truth_value(value: object) -> object:
    # Python takes true for 1, and a metric that is true measures nothing.
    if isinstance(value, bool):
        raise ValueError("is a truth value, not a number")  # noqa: TRY004  # pydantic takes no TypeError for a fault
    return value


MetricName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Metric = Annotated[Number, BeforeValidator(_no_truth_value)]
Metrics = Annotated[dict[MetricName, Metric], Field(max_length=200)]
"""Numbers by name: finite, because a gate that compares with NaN says yes to everything or to nothing."""
Epoch = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=0, le=2**53)]
"""Epochs count from 0."""
NonFinite = Annotated[dict[MetricName, Literal["nan", "inf", "-inf"]], Field(max_length=200)]
"""Metrics that are no numbers one can compute with, by name. They stand beside `metrics` and never in it: that a run
diverged is worth knowing, and no gate meets a NaN."""
Seconds = Annotated[float, BeforeValidator(_no_truth_value), Field(ge=0, allow_inf_nan=False)]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Claim = Annotated[int, BeforeValidator(_no_truth_value), Field(ge=1, le=2**53)]
"""Number of the claim under which a node acts for a run that a lane started; counts from 1 for each run."""


class FaultClass(StrEnum):
    """What kind of thing ended or hurt a run; it decides what is done about it."""

    PREEMPTED = "preempted"
    HARDWARE = "hardware"
    OOM = "oom"
    DATA = "data"
    CODE = "code"
    CONTROL_PLANE = "control_plane"
    UNKNOWN = "unknown"


class RunOutcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"


class DataSlice(Value):
    """Where the samples of a run come from: enough to take the same ones again.

    Attributes:
        data_set: the artifact of a data set that fleetcast distributes, or any other digest of the data.
        filter: which of its samples, in the words of the job; None: all.
        range: from which to which, e.g. of games, dates or rows, in the words of the job; None: the whole.
        samples: how many that are.
    """

    data_set: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    filter: Words | None = None
    range: Text | None = None
    samples: Count | None = None


class RunFact(Payload):
    """Fields shared by everything that is said about a run.

    Attributes:
        run_id: the run.
        node: where it runs.
        claim: under which claim this is said; None: no lane started the run.
    """

    run_id: Name
    node: Name
    claim: Claim | None = None


class RunStarted(RunFact):
    """A training run began; said again, it goes on elsewhere, and what is said last holds.

    Attributes:
        lane: the line of data that it consumes.
        model: the line of versions that it makes, where that is not the lane.
        experiment_id: what it is part of.
        git_commit: of the code, 7 to 64 hexadecimal digits.
        environment: digest of the environment that the code runs in: an image, a lock file.
        reproducibility_hash: over code, configuration, data and seed.
        data: provenance of the samples.
        config: hyperparameters and whatever else the job was started with.
        host: name of the machine, where the node's name does not tell it.
        device: what it computes on: `cuda:0`, `rocm`, `cpu`.
    """

    lane: Name | None = None
    model: Name | None = None
    experiment_id: Identifier | None = None
    git_commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    environment: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    reproducibility_hash: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    data: Annotated[tuple[DataSlice, ...], Field(max_length=64)] = ()
    config: dict[str, Any] | None = None
    host: Text | None = None
    device: Text | None = None

    @model_validator(mode="after")
    def _is_about_something(self) -> "RunStarted":
        if self.lane is None and self.model is None:
            raise ValueError("neither lane nor model is there: one of them says what the run is for")
        return self

    @property
    def facts(self) -> Facts:
        """What a version inherits from the run that made it."""
        return Facts(
            run_id=self.run_id,
            experiment_id=self.experiment_id,
            git_commit=self.git_commit,
            environment=self.environment,
            reproducibility_hash=self.reproducibility_hash,
        )


class RunEpochLogged(RunFact):
    """An epoch of a run ended.

    Attributes:
        epoch: counts from 0.
        metrics: by name; finite numbers.
        nonfinite: metrics that were `nan`, `inf` or `-inf`.
        seconds: that it took.
        samples: that it consumed.
        step: steps since the run began.
        steps: of this epoch.
        step_seconds: mean time of one step of this epoch, without waiting for data.
        data_wait_seconds: that the epoch waited for data.
        gpu_peak_bytes: most memory that the job had on one GPU at once since it began.
        host_peak_bytes: most memory that its process had at once since it began.
    """

    epoch: Epoch
    metrics: Metrics = {}
    nonfinite: NonFinite = {}
    seconds: Seconds | None = None
    samples: Count | None = None
    step: Count | None = None
    steps: Count | None = None
    step_seconds: Seconds | None = None
    data_wait_seconds: Seconds | None = None
    gpu_peak_bytes: Count | None = None
    host_peak_bytes: Count | None = None


class RunMetricsLogged(RunFact):
    """How a run goes within an epoch; what is said last holds, and what an epoch says counts.

    Attributes:
        step: steps since the run began.
        epoch: the last one that ended.
        metrics: by name; finite numbers.
        nonfinite: metrics that were `nan`, `inf` or `-inf`.
    """

    step: Count
    epoch: Epoch | None = None
    metrics: Metrics = {}
    nonfinite: NonFinite = {}


class RunCheckpointSaved(RunFact):
    """A run can go on from here.

    Attributes:
        epoch: that the checkpoint is taken after.
        step: steps since the run began.
        path: of the file or folder on `node`, absolute.
        sha256: of the file; None: it was too large to hold the job for, or is a folder.
        size: bytes.
        metrics: of the last epoch, by name; the best checkpoint is kept by one of them.
        save_seconds: that the save took.
    """

    epoch: Epoch
    step: Count | None = None
    path: FilePath
    sha256: Sha256 | None = None
    size: int = Field(ge=1, le=2**53)
    metrics: Metrics = {}
    save_seconds: Seconds | None = None


class RunDegraded(RunFact):
    """A run goes on, with less than it was started with: e.g. on the CPU after a ROCm fault.

    Attributes:
        reason: why.
        since_epoch: the first epoch that ran so.
        device: what it computes on now.
    """

    reason: Words
    since_epoch: Epoch
    device: Text | None = None


class RunFaultRecorded(RunFact):
    """Something broke a run, or nearly; recorded so that faults of one kind can be counted by machine.

    Attributes:
        fault_class: what kind of fault.
        signature: what it is recognised by: `HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION`, `Xid 79`.
        at: when it happened; None: when this was said.
        reason: what happened, for a person.
        action: what was done about it.
        epoch: that it happened in.
        evidence: exit status, signal, line that was recognised, last lines of stderr.
        remedy: `here`, `elsewhere`, `cpu` or `never`; None: nobody decided about it.
        spent: with it the run has used up its tries for faults of this class.
        guidance: what to look at, with the values found on the node.
    """

    fault_class: FaultClass
    signature: Text
    at: Moment | None = None
    reason: Words
    action: Words | None = None
    epoch: Epoch | None = None
    evidence: dict[str, Any] = {}
    remedy: Text | None = None
    spent: bool = False
    guidance: str = ""


class RunFinished(RunFact):
    """A run ended.

    Attributes:
        outcome: how.
        metrics: final ones, by name; finite numbers.
        nonfinite: final metrics that were `nan`, `inf` or `-inf`.
        reason: why, where it did not succeed.
    """

    outcome: RunOutcome
    metrics: Metrics = {}
    nonfinite: NonFinite = {}
    reason: Words | None = None
