"""What is asked of a version before it comes to a stage: the types of `gates.toml`.

Every description says meaning and unit; the file itself says why a number is what it is. A gate that is not named is
not asked for.
"""

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from fleetcast.config.group import Group
from fleetcast.config.hours import ZonedHours
from fleetcast.events.ids import canonical_json
from fleetcast.events.lifecycle import Count, FlagName, Number, Ratio, StageName, Text

UPWARD: Final = (StageName.SANDBOX, StageName.STAGING, StageName.CANARY, StageName.PRODUCTION)
"""Stages that have gates; a version that leaves the pipeline, or begins it, needs none."""
ALL_STAGES: Final = (StageName.DEVELOPMENT, *UPWARD)

Step = Annotated[int, Field(ge=1, le=99)]
Seconds = Annotated[float, Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
WinRate = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Pattern = Annotated[str, Field(min_length=1, max_length=100)]


class Approvals(Group):
    """How many people must agree, and how long that holds."""

    count: Annotated[int, Field(ge=0, le=20)] = Field(
        default=0, description="Different people who must have approved; whoever asks for the promotion is not counted."
    )
    expires_seconds: Seconds = Field(
        default=7 * 86400.0, description="Age at which an approval no longer counts, in seconds; it may end sooner."
    )


class Range(Group):
    """Limits of a metric; the limits themselves are allowed."""

    min: Number | None = Field(default=None, description="Least value.")
    max: Number | None = Field(default=None, description="Greatest value.")

    @model_validator(mode="after")
    def _limits_something(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("has no limit: set min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"allows nothing: min {self.min:g} is above max {self.max:g}")
        return self


class StageGates(Group):
    """What a version needs to come to one stage."""

    min_games: Count = Field(default=0, description="Games played at least, against all opponents together.")
    min_elo: Number | None = Field(
        default=None, description="Elo that the lower bound of the rating must reach, in points."
    )
    elo_delta_above: Number | None = Field(
        default=None, description="Elo that the lower bound of the lead over production must exceed, in points."
    )
    win_rates: dict[Text, WinRate] = Field(
        default={},
        description="Win rate that the lower bound must reach, 0 to below 1, by opponent; draws count half. Opponents "
        "are named freely, upper and lower case alike.",
    )
    flags: tuple[FlagName, ...] = Field(
        default=(), description="Governance flags that somebody must have set to true, by name."
    )
    evidence: tuple[FlagName, ...] = Field(
        default=(), description="Outside evidence that must have been reported as true, by name."
    )
    max_calibration_error: Ratio | None = Field(
        default=None, description="Greatest expected calibration error, 0 to 1, as stated by the producer."
    )
    reproducibility_hash: bool = Field(default=False, description="Whether a reproducibility hash must be there.")
    latency_objective: bool = Field(default=False, description="Whether expected_latency_p95_ms must be stated.")
    metrics: dict[Text, Range] = Field(
        default={}, description="Limits {min, max} of evaluation metrics, by name, as stated by the producer."
    )
    min_trust: Ratio = Field(
        default=0.0,
        description="Least share of the model's earlier promotions that were kept, as the lower end of its 95 % "
        "interval, 0 to 1 (docs/playbooks.md). 0: not asked.",
    )
    tested_format: bool = Field(
        default=False, description="Whether the files must have passed a format test, which a pickle never does."
    )
    soak_seconds: Seconds = Field(default=0.0, description="Seconds in the stage before, at least.")
    approvals: Approvals = Field(default=Approvals(), description="People who must agree: {count, expires_seconds}.")

    @field_validator("win_rates")
    @classmethod
    def _names_each_opponent_once(cls, rates: dict[str, float]) -> dict[str, float]:
        if len({name.casefold() for name in rates}) < len(rates):
            raise ValueError("names an opponent twice: upper and lower case are alike")
        return rates


class Gates(Group):
    """The gates of each stage."""

    sandbox: StageGates = Field(default=StageGates(), description="Gates to the sandbox.")
    staging: StageGates = Field(default=StageGates(), description="Gates to staging.")
    canary: StageGates = Field(default=StageGates(), description="Gates to canary.")
    production: StageGates = Field(default=StageGates(), description="Gates to production.")

    def to(self, stage: StageName) -> StageGates:
        """The gates of a stage; none for a stage that a version falls back to."""
        return getattr(self, stage.value) if stage in UPWARD else StageGates()


class RejectRule(Group):
    """When a version is so weak that it leaves the pipeline."""

    elo_below: Number = Field(description="Elo that even the upper bound of the rating does not reach, in points.")
    min_games: Count = Field(default=100, description="Games that the rating must rest on.")


class FreezeWindow(ZonedHours):
    """Hours of the week in which no version moves up; rollbacks do."""

    reason: Text = Field(default="freeze window", description="What people are told.")


class ModelPolicy(Group):
    """What holds for a model."""

    profile: str = Field(default="default", description="Name of the profile in the file.")
    decides: Literal["gates", "external"] = Field(
        default="gates",
        description='Who decides a promotion: "gates", or "external": whoever promotes; then only freezes are asked.',
    )
    pipeline: tuple[StageName, ...] = Field(
        default=ALL_STAGES,
        description="Stages that exist for the model, in this order: development, sandbox, staging, canary, "
        "production; those between the first and the last may be left out.",
    )
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = Field(
        default=0.95, description="Confidence of every bound, one-sided, 0.5 to 0.9999."
    )
    metadata: tuple[Text, ...] = Field(
        default=(),
        description="Facts or metadata keys that must be there before a version moves up; `checksums` is "
        "met by the artifact.",
    )
    canary_steps: tuple[Step, ...] = Field(
        default=(), description="Percentages of the wanting nodes that serve it before all do, rising, 1 to 99."
    )
    bake_seconds: Seconds = Field(default=0.0, description="Seconds that it stays at each canary step.")
    quorum_ratio: Ratio = Field(
        default=0.5, description="Share of the wanting nodes that must hold it verified before it is served, 0 to 1."
    )
    distribute_seconds: Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)] = Field(
        default=3600.0, description="Seconds in which that share must be reached; otherwise the rollout halts."
    )
    reject: RejectRule | None = Field(default=None, description="When a version is rejected. None: never.")
    gates: Gates = Field(default=Gates(), description="What each stage asks for: [gates.STAGE].")
    freeze: tuple[FreezeWindow, ...] = Field(
        default=(), description="Hours in which nothing moves up: tables of days, from, to, zone, reason."
    )

    @field_validator("pipeline")
    @classmethod
    def _is_in_order(cls, pipeline: tuple[StageName, ...]) -> tuple[StageName, ...]:
        ordered = tuple(stage for stage in ALL_STAGES if stage in pipeline)
        if pipeline != ordered or {StageName.DEVELOPMENT, StageName.PRODUCTION} - set(pipeline):
            raise ValueError(
                "must begin with development, end with production, and have sandbox, staging, canary between them in "
                "this order, each at most once"
            )
        return pipeline

    @field_validator("canary_steps")
    @classmethod
    def _rises(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)):
            raise ValueError("must rise from step to step")
        return steps

    @model_validator(mode="after")
    def _has_gates_of_its_own_stages_only(self) -> "ModelPolicy":
        for stage in UPWARD:
            if stage not in self.pipeline and self.gates.to(stage) != StageGates():
                raise ValueError(f"has gates to {stage}, which its pipeline leaves out")
        if self.canary_steps and StageName.CANARY not in self.pipeline:
            raise ValueError("has canary_steps, but its pipeline leaves canary out")
        return self

    @property
    def asks_for_trust(self) -> bool:
        """Whether a gate looks at how the model's promotions ended."""
        return any(self.gates.to(stage).min_trust > 0 for stage in UPWARD)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return _digest(self)


class Profile(Group):
    """A policy, and the models that it is for."""

    models: tuple[Pattern, ...] = Field(min_length=1, description="Shell patterns of the models that it is for.")
    policy: ModelPolicy


class Policy(Group):
    """All of a gates file.

    Attributes:
        name: of the file; empty: there is none.
        base: for models that no profile names.
        profiles: in the order of the file; the first that names a model holds for it.
    """

    name: str = ""
    base: ModelPolicy
    profiles: tuple[Profile, ...] = ()

    @classmethod
    def default(cls) -> "Policy":
        """What holds without a file: whoever promotes decides; half of the wanting nodes must be ready; no canary."""
        return cls(base=ModelPolicy(decides="external"))

    def for_model(self, model: str) -> ModelPolicy:
        """What holds for a model."""
        return next((each.policy for each in self.profiles if _named(model, each.models)), self.base)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: two files that ask for the same have the same."""
        return _digest(self)


def _digest(group: Group) -> str:
    return hashlib.sha256(canonical_json(group.model_dump(mode="json", exclude={"name"}))).hexdigest()


def _named(model: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
