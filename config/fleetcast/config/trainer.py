"""The trainer daemon's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from fleetcast.config.group import Group


class TrainerSettings(Group):
    """The trainer daemon: the lanes that it knows, and how many runs of each class it takes at once."""

    lanes: Path | None = Field(
        default=None,
        examples=["/etc/fleetcast/lanes.toml"],
        description="File with lanes, or a folder of such files (config/lanes.toml is one, with comments; "
        "docs/training.md). None: it starts nothing by itself, and still takes runs that others queued.",
    )
    look_seconds: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="Seconds between looks at what time alone brings about: quiet periods and intervals that end. 1: a "
        "person who watches does not notice it.",
    )
    reconcile_seconds: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        description="Seconds between comparisons of the lanes with the data sets and jobs that there are, so that what "
        "was missed starts late and not never. 15: one small question per lane.",
    )
    gpu_runs: int | None = Field(
        default=None,
        ge=0,
        le=64,
        examples=[2],
        description="Runs of class gpu on this node at once. None: one for each GPU, one where none was found.",
    )
    cpu_runs: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Runs of class cpu on this node at once. 1: two that share the cores are both slower.",
    )
    control_runs: int = Field(
        default=4,
        ge=0,
        le=256,
        description="Jobs of class control on this node at once: short ones, which never wait for a run.",
    )
    supervision: Literal["auto", "systemd", "process"] = Field(
        default="auto",
        description="What a run's command is kept by: a transient systemd unit, or a small process of its own. auto: a "
        "unit where systemd runs and the daemon is root, which alone may make one without asking (docs/training.md).",
    )
    run_log_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes that are kept of a run's standard output, and as many of its standard error: their "
        "beginning and their end. 64 MiB: days of ordinary talk, and a run that prints without end fills no disk.",
    )
    reclaim_notices: Literal["none", "aws", "gcp"] = Field(
        default="none",
        description="Whose metadata service is asked whether this machine is about to be taken away: aws or gcp. none: "
        "nobody's; a notice may still be sent as an event.",
    )
    metadata_address: str = Field(
        default="",
        pattern=r"^(http://[A-Za-z0-9.:\[\]-]+)?$",
        description="Where that service answers. Empty: where the cloud has it, http://169.254.169.254 on AWS and "
        "http://metadata.google.internal on GCP.",
    )
    gcp_notice_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds from the notice to the end of a machine on GCP, which does not say: 30, unless it was "
        "made with a longer notice.",
    )
    probe_python: Path | None = Field(
        default=None,
        examples=["/opt/training/bin/python"],
        description="Python interpreter that has the torch of the jobs: GPUs are probed with it, and what they must be "
        "built for is asked of it. None: the one that runs fleetcast; without torch only the driver is asked.",
    )
    claim_delay_seconds: float = Field(
        default=0.2,
        ge=0,
        le=10,
        description="Seconds that a node which suits a run badly lets others claim it first, at most. 0.2: a claim "
        "takes a tenth of that, and nobody waits for it.",
    )
    takeover_grace_seconds: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="Seconds from when a node's lease has run out and its heartbeat has stopped until its run is given "
        "to another. 5: a server that elects a leader makes both late by less.",
    )
    keep_runs_seconds: float = Field(
        default=2_592_000.0,
        ge=0,
        description="Seconds from the end of a run for which a node keeps its folder: logs, and checkpoints in it that "
        "nobody pinned. 2592000, thirty days: longer than it takes to wonder about a run.",
    )
    keep_runs_bytes: int | None = Field(
        default=20 * 1024**3,
        ge=0,
        examples=[100 * 1024**3],
        description="Bytes that folders of ended runs may take on a node; those that ended first go first. 20 GiB: "
        "hundreds of runs whose checkpoints are small, and a disk that runs do not fill. None: no limit.",
    )
