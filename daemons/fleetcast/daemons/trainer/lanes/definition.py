"""What a lane is: the types of its tables in TOML. Every description says meaning and unit."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from fleetcast.config.group import Group
from fleetcast.daemons.trainer.lanes.template import EXPORT_NAMES, RUN_NAMES, names_in
from fleetcast.events.ids import Name, canonical_json
from fleetcast.events.lifecycle import Text
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import WorkClass

DAY_SECONDS: Final = 86400.0
LONGEST_SECONDS: Final = 30 * DAY_SECONDS
GIB: Final = 2**30

Seconds = Annotated[float, Field(ge=0, le=LONGEST_SECONDS, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=2**50)]
Word = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
"""What a process can be given: the byte 0 ends an argument."""
Words = Annotated[tuple[Word, ...], Field(min_length=1, max_length=200)]
Folder = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f]+$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


def _absolute(folder: str) -> str:
    if not Path(folder).is_absolute():
        raise ValueError(f"is {folder!r}: an absolute path is needed, for it is announced to the fleet")
    return folder


RETRIES: Final[Mapping[FaultClass, int]] = {
    FaultClass.PREEMPTED: 1000,
    FaultClass.HARDWARE: 3,
    FaultClass.OOM: 1,
    FaultClass.DATA: 0,
    FaultClass.CODE: 0,
    FaultClass.CONTROL_PLANE: 10,
    FaultClass.UNKNOWN: 2,
}
"""Tries after the first one, by fault class: a machine that was taken away is nobody's fault; bad data and bad code are
the same on every node."""


class Bucket(Group):
    """When a run is due: a token bucket over new samples, and times."""

    required: int = Field(
        default=200, ge=1, le=2**53, description="New samples that a run needs and spends. 200: the seed's games."
    )
    volume: int | None = Field(
        default=None,
        ge=0,
        le=2**53,
        description="Samples that the newest data set needs in all before the lane is `ready`; below, it is "
        "`scaling` and starts nothing. Left out: as `required`.",
    )
    ratio: float = Field(
        default=1.0, gt=0, le=1000, allow_inf_nan=False, description="What one new sample adds to the bucket."
    )
    cap: int | None = Field(
        default=None,
        ge=1,
        le=2**53,
        description="Most that the bucket holds; more is not carried over. Left out: one and a half times `required`, "
        "so that after a flood of data the next run still waits for half of what it needs.",
    )
    min_interval_seconds: Seconds = Field(
        default=0.0, description="Seconds from the start of one run to that of the next, at least."
    )
    max_interval_seconds: PositiveSeconds | None = Field(
        default=None,
        description="Seconds after which any new sample is enough; what is missing is carried as debt. Left out: "
        "never.",
    )
    quiet_seconds: Seconds = Field(
        default=0.0, description="Seconds without a new data set before a run starts, so that it takes all of a burst."
    )

    @model_validator(mode="after")
    def _is_possible(self) -> "Bucket":
        if self.cap is not None and self.cap < self.required:
            raise ValueError(f"has cap {self.cap} below required {self.required}: no run would ever be due")
        if self.max_interval_seconds is not None and self.max_interval_seconds < self.min_interval_seconds:
            raise ValueError("has max_interval_seconds below min_interval_seconds")
        return self

    @property
    def most(self) -> float:
        """The cap in force."""
        return self.cap if self.cap is not None else self.required * 1.5

    @property
    def least_volume(self) -> int:
        """The volume in force."""
        return self.required if self.volume is None else self.volume


class Resources(Group):
    """What a node must have to take a run."""

    vendor: Literal["nvidia", "amd", "intel"] | None = Field(
        default=None, description="Vendor of the GPU: nvidia, amd or intel. Left out: any."
    )
    gpus: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="GPUs that it computes on; 0: none. Left out: 1 in class gpu, 0 in the others.",
    )
    memory_free_bytes: Bytes = Field(default=0, description="GPU memory in bytes that is free when it starts, per GPU.")
    driver_min: Text | None = Field(default=None, description="Oldest driver, compared number by number: 550.54.")
    arch: tuple[Text, ...] = Field(
        default=(), max_length=50, description="Architectures that will do: gfx90a, sm_90. None: any."
    )
    labels: dict[str, str] = Field(
        default={}, max_length=50, description="Labels that the node must have, with shell patterns for values."
    )
    disk_bytes: Bytes = Field(default=GIB, description="Bytes free in store.data. 1 GiB: a checkpoint and its logs.")


class KeepBest(Group):
    """By which metric the best checkpoint is known."""

    metric: Text = Field(description="Name of the metric, as the run logs it.")
    mode: Literal["min", "max"] = Field(default="min", description='Whether the lowest ("min") or highest is best.')


class Checkpoints(Group):
    """Where a run's checkpoints are, how often they are advised, and which are kept."""

    folder: Folder | None = Field(
        default=None,
        description="Folder that runs write to, absolute or below store.data (checkpoints/challenge2_r1r2). Left out: "
        "one of each run's own.",
    )
    keep_last: int = Field(default=3, ge=1, le=1000, description="The newest so many are kept.")
    keep_best: KeepBest | None = Field(default=None, description="The best by a metric is kept: metric, mode.")
    keep_every_seconds: PositiveSeconds | None = Field(
        default=43200.0, description="One per so many seconds is kept. 43200: twelve hours."
    )
    quota_bytes: Bytes | None = Field(
        default=None, description="Bytes that all checkpoints of the lane may take on a node. Left out: no limit."
    )
    copies: int = Field(
        default=1,
        ge=0,
        le=16,
        description="Other trainers' nodes that the newest checkpoint is brought to at once, so that it outlives its "
        "node. 0: only on request.",
    )
    max_lost_work_seconds: PositiveSeconds = Field(
        default=600.0, description="Work in seconds that may be lost with a node; saves are advised by it."
    )


class Export(Group):
    """A command that produces the lane's data set, now and then, on one node at a time."""

    command: Words = Field(description="Program and arguments; no shell reads them. {path} is where to write to.")
    every_seconds: float = Field(
        default=3600.0,
        ge=1,
        le=LONGEST_SECONDS,
        allow_inf_nan=False,
        description="Seconds from one start to the next, at least 1.",
    )
    time_limit_seconds: PositiveSeconds = Field(default=1800.0, description="Seconds that it may take.")
    cwd: Folder | None = Field(default=None, description="Folder that it runs in. Left out: that of the lane.")
    folder: Annotated[Folder, AfterValidator(_absolute)] | None = Field(
        default=None,
        description="Folder that {path} is in, absolute; it lies in a publish root. Left out: the node's first one.",
    )
    labels: dict[str, str] = Field(
        default={}, max_length=50, description="Labels that the node must have, with shell patterns for values."
    )

    @model_validator(mode="after")
    def _ends_before_the_next(self) -> "Export":
        if self.time_limit_seconds > self.every_seconds:
            raise ValueError("has time_limit_seconds above every_seconds: two would write at once")
        return self


def _over_defaults(given: dict[FaultClass, int]) -> dict[FaultClass, int]:
    return {**RETRIES, **given}


class LaneDefinition(Group):
    """A lane."""

    name: Name = Field(description="Its id: that of the data sets, 1 to 48 of a-z 0-9 _ -.")
    model: Name = Field(
        default_factory=lambda said: said.get("name", ""), description="The model that it makes. Left out: as the lane."
    )
    work_class: WorkClass = Field(
        default=WorkClass.GPU, description='Queue that its jobs are put in: "gpu", "cpu" or "control".'
    )
    bucket: Bucket = Field(default=Bucket(), description="When a run is due.")
    command: Words = Field(description="Program and arguments, with {names}; no shell reads them.")
    cwd: Folder | None = Field(default=None, description="Folder that it runs in. Left out: that of the run.")
    env: dict[EnvironmentName, Word] = Field(default={}, max_length=200, description="Further environment of the run.")
    code: str = Field(
        default="",
        max_length=200,
        description="What tells one state of the code from another, such as a Git commit: data that was trained on is "
        "trained on again when it changes.",
    )
    resources: Resources = Field(default=Resources(), description="What a node must have.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Greater ones are taken first. -1000 to 1000.")
    time_limit_seconds: PositiveSeconds = Field(
        default=DAY_SECONDS, description="Seconds that one attempt may take; then it is stopped."
    )
    grace_seconds: Seconds = Field(
        default=60.0, description="Seconds from the request to stop to the kill: long enough to save."
    )
    checkpoints: Checkpoints = Field(default=Checkpoints(), description="Where they are, and which are kept.")
    retries: Annotated[dict[FaultClass, Annotated[int, Field(ge=0, le=10000)]], AfterValidator(_over_defaults)] = Field(
        default=dict(RETRIES),
        description="Tries after the first one, by fault class: preempted, hardware, oom, data, code, "
        "control_plane, unknown.",
    )
    cpu_fallback: bool = Field(
        default=False, description="Whether a run may go on on the CPU, degraded, when no GPU will do."
    )
    export: Export | None = Field(default=None, description="Command that produces the lane's data set.")

    @model_validator(mode="after")
    def _names_are_known(self) -> "LaneDefinition":
        _check_names("command", self.command, RUN_NAMES)
        if self.export is not None:
            _check_names("export.command", self.export.command, EXPORT_NAMES)
        if self.work_class is not WorkClass.GPU and (self.resources.gpus or self.resources.vendor):
            raise ValueError(f"asks for a GPU in class {self.work_class.value}; its class is gpu")
        return self

    @property
    def gpus(self) -> int:
        """GPUs that a run computes on."""
        if self.resources.gpus is not None:
            return self.resources.gpus
        return 1 if self.work_class is WorkClass.GPU else 0

    @property
    def fingerprint(self) -> str:
        """What makes a run another run over the same data: SHA-256 over command, environment, code and model. When
        and where it runs does not."""
        says = {
            "model": self.model,
            "command": list(self.command),
            "cwd": self.cwd,
            "env": dict(self.env),
            "code": self.code,
        }
        return hashlib.sha256(canonical_json(says)).hexdigest()

    @property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 over all of it: trainers with another one have another file."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()[:16]

    def kept(self) -> dict[str, Any]:
        """As a run's record keeps it."""
        return self.model_dump(mode="json")

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "LaneDefinition":
        """From a run's record; what a newer fleetcast added to it is left out.

        Raises:
            ValidationError: it is none.
        """
        known = _known(cls, kept)
        if isinstance(tries := known.get("retries"), Mapping):
            known["retries"] = {fault: count for fault, count in tries.items() if fault in set(FaultClass)}
        return cls.model_validate(known)


def _known(kind: type[Group], kept: Mapping[str, Any]) -> dict[str, Any]:
    """*kept* without the keys that *kind* does not have, in the groups inside it too."""
    groups: Mapping[str, type[Group]] = {
        "bucket": Bucket,
        "resources": Resources,
        "checkpoints": Checkpoints,
        "keep_best": KeepBest,
        "export": Export,
    }
    return {
        key: _known(groups[key], value) if key in groups and isinstance(value, Mapping) else value
        for key, value in kept.items()
        if key in kind.model_fields
    }


def _check_names(field: str, words: tuple[str, ...], known: Mapping[str, str]) -> None:
    unknown = sorted({name for name in names_in(words) if name not in known})
    if unknown:
        raise ValueError(f"says {{{unknown[0]}}} in {field}; known: {', '.join(known)}")
    if not words[0].strip():
        raise ValueError(f"has no program in {field}")
