"""The settings of [hooks]: how a serving process on this node learns what it shall serve."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from fleetcast.config.group import Group

SignalName = Literal["HUP", "USR1", "USR2", "INT", "TERM", "WINCH"]


class HookRule(Group):
    """What to do for some models: run a command, or signal a process."""

    models: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Shell patterns of the models that it is for. All of them."
    )
    command: tuple[str, ...] = Field(
        default=(),
        description="Program and arguments, run without a shell; what is served is in FLEETCAST_MODEL, _VERSION, "
        "_PATH, _GENERATION, _SLOT, _PREVIOUS, _DRAINED and _REASON.",
    )
    signal: SignalName | None = Field(
        default=None,
        examples=["HUP"],
        description="Signal for the process that pid_file or unit names. None: command is run instead.",
    )
    pid_file: Path | None = Field(
        default=None, examples=["/run/gunicorn/pid"], description="File with the number of the process to signal."
    )
    unit: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9:_.@\\-]{1,255}$",
        examples=["gunicorn.service"],
        description="systemd unit of which the main process is signalled.",
    )
    timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds after which a hook that has not ended is killed, with all that it started. 30: a server "
        "that loads for longer is told, and loads on its own.",
    )

    @field_validator("pid_file")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{path} is no absolute path")
        return path

    @model_validator(mode="after")
    def _says_one_thing(self) -> "HookRule":
        if bool(self.command) == (self.signal is not None):
            raise ValueError("needs either command, or signal with pid_file or unit")
        if self.signal is not None and (self.pid_file is None) == (self.unit is None):
            raise ValueError("signal needs either pid_file or unit")
        if self.signal is None and (self.pid_file or self.unit):
            raise ValueError("pid_file and unit need a signal")
        return self


class HookSettings(Group):
    """Hooks: what a node does after a model's `current` moved, or after it was taken out of service or back in, so that
    the process that serves loads it. None: servers watch the folder themselves."""

    rules: tuple[HookRule, ...] = Field(
        default=(),
        description='Tables [[hooks.rules]], the first one whose models match holds, such as models = ["hex8_*"] and '
        'command = ["/usr/local/bin/reload"], or signal = "HUP" and unit = "gunicorn.service" (docs/serving.md).',
    )
    retry: bool = Field(
        default=True,
        description="Whether a hook that failed is run again while the node still has to serve that version: a server "
        "that was just restarting is told a moment later.",
    )
    retry_base_seconds: float = Field(
        default=1.0, gt=0, description="Seconds before the second attempt; doubled each time, with jitter."
    )
    retry_cap_seconds: float = Field(
        default=60.0, gt=0, description="Longest delay between two attempts, in seconds: a node heals within a minute."
    )
    parallel: int = Field(
        default=16,
        ge=1,
        description="Hooks of different models that run at once; of one model it is one. 16: they mostly wait.",
    )

    def rule_for(self, model: str) -> HookRule | None:
        """The rule that holds for a model; None: there is none."""
        return next((r for r in self.rules if any(fnmatchcase(model, p) for p in r.models)), None)
