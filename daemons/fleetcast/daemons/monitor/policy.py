"""What a model is judged by: limits, budget, times and mode, each value with where it came from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from fleetcast.config.group import Group
from fleetcast.config.origins import Origin
from fleetcast.events.lifecycle import Facts, Milliseconds, Ratio, Text

DEFAULT: Final = Origin()
Seconds = Annotated[float, Field(ge=0, le=30 * 86400, allow_inf_nan=False)]


class Mode(StrEnum):
    """What the monitor does about a breach besides saying so."""

    OBSERVE = "observe"
    APPROVE = "approve"
    AUTO = "auto"


class Dependent(Group):
    """A service that is told when the model is rolled back: exactly one of the three."""

    name: Text | None = Field(default=None, description="For people.")
    command: tuple[str, ...] | None = Field(default=None, min_length=1, description="A command, as a list of words.")
    webhook: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2000)] | None = Field(
        default=None, description="An address that gets the event as a POST."
    )
    subject: Annotated[str, Field(pattern=r"^[^\s*>]+$", max_length=200)] | None = Field(
        default=None, description="A NATS subject that gets the event, and may answer."
    )

    @model_validator(mode="after")
    def _is_one_way(self) -> "Dependent":
        if [self.command, self.webhook, self.subject].count(None) != 2:
            raise ValueError("says exactly one of command, webhook and subject")
        return self


class Rules(Group):
    """What holds for a model; the defaults are the seeds' values where the seeds have one."""

    mode: Mode = Field(
        default=Mode.OBSERVE,
        description='What a breach causes: "observe": a verdict and an incident; "approve": a rollback that somebody '
        'must approve; "auto": a rollback.',
    )
    error_rate: Ratio = Field(default=0.05, description="Limit of the share of failed requests, 0 to 1; 1: no limit.")
    error_rate_critical: Ratio = Field(
        default=0.10, description="Share of failed requests from which a breach is of high severity."
    )
    latency_p95_ratio: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=1.5, description="Limit of the 95th percentile of latency, as a multiple of the expected one."
    )
    expected_latency_p95_ms: Milliseconds | None = Field(
        default=None,
        description="95th percentile of latency that is expected, in milliseconds. Left out: what the version says.",
    )
    ood_rate: Ratio = Field(
        default=0.20, description="Limit of the share of requests out of distribution, 0 to 1; 1: no limit."
    )
    drift: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=0.3, description="Limit of the KL divergence of an input from its reference, in nats."
    )
    false_rollbacks_per_model_year: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=0.1,
        description="Rollbacks per year that a healthy model may suffer at most: one at healthy_ratio of its limits.",
    )
    healthy_ratio: Annotated[float, Field(ge=0.1, le=0.95)] = Field(
        default=0.8,
        description="Share of a limit up to which a model is healthy; a breach ends once it is shown to be there.",
    )
    clear_windows: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="Windows after another that must show it, each a minute at least."
    )
    window_minutes: Annotated[int, Field(ge=2, le=60)] = Field(default=10, description="Longest window, in minutes.")
    warm_up_seconds: Seconds = Field(
        default=30.0, description="Seconds after a version came to a slot in which it is not judged."
    )
    stale_after_seconds: Annotated[float, Field(ge=1, le=30 * 86400)] = Field(
        default=180.0, description="Seconds without any snapshot after which a version is stale."
    )
    skew_seconds: Seconds = Field(
        default=300.0,
        description="Seconds by which a snapshot's own time may differ from when it was stored; others are dropped.",
    )
    runbook: Text | None = Field(default=None, description="Link for people who are woken.")
    dependents: tuple[Dependent, ...] = Field(
        default=(), description="Who is told of a rollback: tables with name and one of command, webhook, subject."
    )

    @model_validator(mode="after")
    def _critical_is_above(self) -> "Rules":
        if self.error_rate_critical < self.error_rate:
            raise ValueError(
                f"has error_rate_critical {self.error_rate_critical:g} below error_rate {self.error_rate:g}"
            )
        return self


UNITS: Final[Mapping[str, str]] = {
    "error_rate": "ratio",
    "error_rate_critical": "ratio",
    "latency_p95_ratio": "x expected",
    "expected_latency_p95_ms": "ms",
    "ood_rate": "ratio",
    "drift": "nats",
    "false_rollbacks_per_model_year": "per year",
    "healthy_ratio": "x limit",
    "clear_windows": "windows",
    "window_minutes": "min",
    "warm_up_seconds": "s",
    "stale_after_seconds": "s",
    "skew_seconds": "s",
}


class ModelPolicy(Rules):
    """The rules of one model.

    Attributes:
        origins: of the values that do not come from the defaults, by name.
    """

    origins: dict[str, Origin] = Field(default={}, exclude=True, repr=False)

    def origin(self, name: str) -> Origin:
        """Where a value came from."""
        return self.origins.get(name, DEFAULT)

    def rows(self) -> list[tuple[str, Any, str, str]]:
        """Name, value, unit and origin of everything that holds, in the order of the file."""
        return [
            (name, _plain(getattr(self, name)), UNITS.get(name, ""), str(self.origin(name)))
            for name in Rules.model_fields
        ]

    def for_version(self, version: str, facts: Facts | None) -> "ModelPolicy":
        """With what a version says of its own expected latency, unless the file says it for the model."""
        expected = facts.expected_latency_p95_ms if facts is not None else None
        if expected is None or "expected_latency_p95_ms" in self.origins:
            return self
        origin = Origin("flag", f"facts of {version}")
        return self.model_copy(
            update={
                "expected_latency_p95_ms": expected,
                "origins": {**self.origins, "expected_latency_p95_ms": origin},
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [each.model_dump(exclude_none=True) if isinstance(each, Group) else each for each in value]
    return value


@dataclass(frozen=True, slots=True)
class ModelTable:
    """The table of some models in a policy file."""

    pattern: str
    policy: ModelPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """All of a policy file.

    Attributes:
        name: of the file; empty: there is none.
        base: for models that no table names.
        tables: in the order of the file; the first that names a model holds for it.
    """

    base: ModelPolicy
    tables: tuple[ModelTable, ...] = ()
    name: str = ""

    @classmethod
    def default(cls) -> "Policy":
        """What holds without a file: the seeds' limits, and nothing but observing."""
        return cls(ModelPolicy())

    def for_model(self, model: str) -> ModelPolicy:
        """What holds for a model."""
        return next((t.policy for t in _naming(model, self.tables)), self.base)


def _naming(model: str, tables: Iterable[ModelTable]) -> Iterable[ModelTable]:
    return (table for table in tables if fnmatchcase(model, table.pattern))
