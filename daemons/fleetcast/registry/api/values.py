"""What goes into the Python API and comes out of it. Results may be awaited too: code that was written for an
asynchronous registry runs unchanged."""

from collections.abc import Generator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field

from fleetcast.events.content import Value
from fleetcast.events.decisions import GateVerdict
from fleetcast.events.ids import Name, Version
from fleetcast.events.lifecycle import (
    Count,
    Evaluation,
    FlagName,
    Milliseconds,
    Number,
    Rating,
    Ratio,
    Text,
    Words,
)
from fleetcast.registry.commands import Answer
from fleetcast.registry.errors import RegistryError


class DeploymentStage(StrEnum):
    """Where a version stands. `ROLLBACK` is `quarantined` inside: a version that was served and was taken back."""

    DEVELOPMENT = "development"
    SANDBOX = "sandbox"
    STAGING = "staging"
    CANARY = "canary"
    PRODUCTION = "production"
    ARCHIVED = "archived"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    ROLLBACK = "rollback"


class _Awaitable:
    """A finished result that may be awaited."""

    def __await__(self) -> Generator[None, None, Self]:
        return self
        yield  # makes it a generator, which is what `await` takes


def _with_zone(moment: datetime) -> datetime:
    """A time without a zone is one of this machine's clock, as `datetime.now()` gives it."""
    return moment.astimezone()


Time = Annotated[datetime, AfterValidator(_with_zone)]


class ModelRegistryEntry(Value, _Awaitable):
    """A version of a model, and what is said about it. None: nobody said it.

    Attributes:
        model_id: the model; may contain anything that a name may, a version too.
        name: for people.
        artifact_path: the file or folder on this machine that is registered; of an entry that was read, the path that
            its producer gave.
        training_timestamp: without a zone, of this machine's clock.
        evaluation_metrics: by name.
        evaluations: games by opponent.
        deploy_status: a version is registered at `DEVELOPMENT`, and moved by `update_deployment_status`.
        canary_percentage: of the nodes, while it is the canary.
        constitutional_compliance, bias_check_passed: governance flags; None: never checked.
        flags: other flags by name: outside evidence such as `parity`.
        metadata: anything else.
        artifact: SHA-256 that names the content; "" before it is registered.
        node: that first held it; None in a new entry: this one.
        registered_at, registered_by: when, and by whom.
    """

    model_id: Name
    version: Version
    name: Text | None = None
    description: Words | None = None
    artifact_path: str | None = None
    framework: Text | None = None
    model_type: Text | None = None
    owner: Text | None = None
    team: Text | None = None
    license: Text | None = None
    tags: tuple[Text, ...] = ()
    run_id: str | None = None
    experiment_id: str | None = None
    git_commit: str | None = None
    environment: str | None = None
    reproducibility_hash: str | None = None
    training_data_hash: str | None = None
    training_dataset_size: Count | None = None
    training_timestamp: Time | None = None
    evaluation_metrics: dict[str, Number] = {}
    evaluations: dict[Text, Evaluation] = {}
    rating: Rating | None = None
    expected_latency_p50_ms: Milliseconds | None = None
    expected_latency_p95_ms: Milliseconds | None = None
    expected_latency_p99_ms: Milliseconds | None = None
    calibration_error: Ratio | None = None
    constitutional_compliance: bool | None = None
    bias_check_passed: bool | None = None
    flags: dict[FlagName, bool] = {}
    deploy_status: DeploymentStage = DeploymentStage.DEVELOPMENT
    canary_percentage: float | None = None
    metadata: dict[str, Any] = {}
    artifact: str = ""
    bytes: int = 0
    format: str = ""
    node: str | None = None
    registered_at: datetime | None = None
    registered_by: str | None = None

    @property
    def reference(self) -> str:
        """`MODEL@VERSION`, which every method takes for a model id."""
        return f"{self.model_id}@{self.version}"


class ModelPerformanceSnapshot(Value):
    """How a version performed on a node over an interval. Rates are shares from 0 to 1; latencies are milliseconds.

    Attributes:
        timestamp: end of the interval; without a zone, of this machine's clock.
        ood_rate: share of the requests that are unlike the training data.
        input_drift_score: Kullback-Leibler divergence of the inputs from those of the training.
        num_requests: that the rates are taken over; rates of an unknown number of requests prove little.
        interval_seconds: how long the interval was.
        errors, ood: counts beside `num_requests`, where they are known: better than shares.
        latency: of the requests, as `{"scheme": "log", "buckets": {"<index>": count}}` (docs/monitoring.md): what
            nodes report adds up then, which percentiles do not.
        drift: `{feature: {"counts": [...], "reference": [...]}}`: the inputs in bins, beside the training data's.
        node: None: this one.
    """

    model_id: Name
    version: Version
    timestamp: Time
    latency_p50_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    latency_p95_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    latency_p99_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    requests_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    error_rate: Ratio | None = None
    ood_rate: Ratio | None = None
    input_drift_score: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    num_requests: Count | None = None
    interval_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    errors: Count | None = None
    ood: Count | None = None
    latency: dict[str, Any] | None = None
    drift: dict[str, dict[str, list[int]]] | None = None
    accuracy: Ratio | None = None
    gpu_memory_mb: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    device: Text | None = None
    node: Name | None = None


class Change(Value, _Awaitable):
    """What became of a change that was asked for; one that was refused is raised instead.

    Attributes:
        outcome: `done`, or `started`: a rollout began and goes on by itself.
        gates: what each gate said.
        generation: of the model's slots afterwards.
        n: the audit record of the decision.
    """

    model_id: str
    version: str | None
    outcome: str
    message: str
    deploy_status: DeploymentStage | None = None
    gates: tuple[GateVerdict, ...] = ()
    generation: int = 0
    n: int = 0

    @classmethod
    def of(cls, answer: Answer) -> "Change":
        return cls(
            model_id=answer.model,
            version=answer.version,
            outcome=answer.outcome,
            message=answer.message,
            deploy_status=DeploymentStage(answer.stage.value) if answer.stage else None,
            gates=answer.gates,
            generation=answer.generation,
            n=answer.n,
        )


class Entries(list[ModelRegistryEntry], _Awaitable):
    """A list of entries."""


class Records(list[dict[str, Any]], _Awaitable):
    """A list of records."""


class Table(dict[str, Any], _Awaitable):
    """Named values."""


class Check(tuple[bool, list[str]], _Awaitable):
    """Whether a version should be rolled back, and why, in sentences with numbers."""

    __slots__ = ()


class Card(str, _Awaitable):
    """A model card: Markdown with YAML front matter."""

    __slots__ = ()


class ModelNotFound(RegistryError, LookupError):
    """No version of that name is registered."""


class AmbiguousVersion(RegistryError):
    """Several versions could be meant, and a change must not guess."""


class RegistrationFailed(RegistryError):
    """A version was not registered; nothing of it is known to the fleet."""


class RegistryRefused(RegistryError):
    """The registry refused a change; nothing changed.

    Attributes:
        answer: the whole answer: `code`, `gates`, `next_step`, `winner`.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        bad = [f"  {g.gate}: required {g.required}, actual {g.actual}" for g in answer.gates if g.verdict != "pass"]
        winner = [f"  winner: {answer.winner}"] if answer.winner else []
        step = [f"  next: {answer.next_step}"] if answer.next_step else []
        super().__init__("\n".join([answer.message, *bad, *winner, *step]))


class GateRefused(RegistryRefused):
    """Gates did not let a version into a stage; the message has what each required, and what was there."""


class RegistryConflict(RegistryRefused):
    """Somebody else was quicker; the message names the winner."""


def accepted(answer: Answer) -> Answer:
    """An answer that was not refused.

    Raises:
        ModelNotFound, GateRefused, RegistryConflict, RegistryRefused: it was.
    """
    if answer.accepted:
        return answer
    if answer.code == "unknown":
        raise ModelNotFound(answer.message)
    conflicts = {"conflict": RegistryConflict, "superseded": RegistryConflict}
    kind = GateRefused if answer.code == "gates" else conflicts.get(answer.outcome, RegistryRefused)
    raise kind(answer)
