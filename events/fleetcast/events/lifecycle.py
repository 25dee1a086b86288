"""What the registry keeps of a version besides its content: where it stands, its evidence, its rollout.

Kept in `FC_REGISTRY` beside slots and versions (`state`); a version's content never changes, these values do, each by
compare-and-swap.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from fleetcast.events.content import Stored, Value
from fleetcast.events.ids import ArtifactOrNone, Name, Sha256, Version
from fleetcast.events.payloads import Moment, ObjectRef
from fleetcast.events.state import Cause, version_subject

FLEET: Final = "_fleet"
"""Key of what concerns all models; no model can be called so."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line for people."""
Words = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
"""A reason, or a description."""
FlagName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Milliseconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class StageName(StrEnum):
    """Where a version stands."""

    DEVELOPMENT = "development"
    SANDBOX = "sandbox"
    STAGING = "staging"
    CANARY = "canary"
    PRODUCTION = "production"
    ARCHIVED = "archived"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


class Evaluation(Value):
    """Games of a version against one opponent, as counts; a later report about the same opponent replaces it."""

    wins: Count
    losses: Count
    draws: Count = 0

    @property
    def games(self) -> int:
        return self.wins + self.losses + self.draws


class Rating(Value):
    """Strength in Elo points.

    Attributes:
        elo: the rating.
        error: half width of its 95 % confidence interval; None: not stated, estimated from the number of games.
        games: that it rests on.
        delta: difference to the version that was production then; None: not measured.
        delta_error: half width of the difference's 95 % confidence interval.
    """

    elo: Number
    error: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    games: Count
    delta: Number | None = None
    delta_error: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Flag(Stored):
    """A statement that somebody answers for: a governance flag, or outside evidence.

    Attributes:
        report: the file that it rests on, in the bucket `fc_meta`.
    """

    value: bool
    by: str
    at: Moment
    reason: str | None = None
    report: ObjectRef | None = None


class Approval(Stored):
    """Somebody agrees that the version goes to a stage, until `expires_at`."""

    by: str
    stage: StageName
    at: Moment
    expires_at: Moment
    reason: str | None = None


class StageChange(Stored):
    """When a version came to a stage; `n`: the audit record that says why."""

    stage: StageName
    at: Moment
    n: int = 0


class Facts(Value):
    """What is said about a version (seed 004's fields); None: nobody said it. A later statement replaces an earlier one
    field by field.

    Attributes:
        display_name: for people.
        artifact_path: where the producer keeps the file; for people only, never read.
        training_data_hash: digest of the training data; data sets of fleetcast are named by their artifact.
        training_dataset_size: samples.
        data_sets: artifacts of the data sets that it was trained on.
        git_commit, environment: of the code, and the digest of its environment.
        reproducibility_hash: over code, configuration, data and seed.
        evaluation_metrics: by name, e.g. accuracy.
        expected_latency_p50_ms, expected_latency_p95_ms, expected_latency_p99_ms: latency objectives.
        calibration_error: expected calibration error, 0 to 1.
        evaluations: by opponent.
    """

    display_name: Text | None = None
    description: Words | None = None
    artifact_path: Annotated[str, StringConstraints(max_length=4096)] | None = None
    framework: Text | None = None
    model_type: Text | None = None
    owner: Text | None = None
    team: Text | None = None
    license: Text | None = None
    tags: tuple[Text, ...] | None = Field(default=None, max_length=64)
    run_id: Annotated[str, StringConstraints(max_length=128)] | None = None
    experiment_id: Annotated[str, StringConstraints(max_length=128)] | None = None
    git_commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    environment: Annotated[str, StringConstraints(max_length=200)] | None = None
    reproducibility_hash: Annotated[str, StringConstraints(max_length=200)] | None = None
    training_data_hash: Annotated[str, StringConstraints(max_length=200)] | None = None
    training_dataset_size: Count | None = None
    training_timestamp: Moment | None = None
    data_sets: tuple[Sha256, ...] | None = Field(default=None, max_length=64)
    evaluation_metrics: dict[FlagName | str, Number] | None = Field(default=None, max_length=200)
    expected_latency_p50_ms: Milliseconds | None = None
    expected_latency_p95_ms: Milliseconds | None = None
    expected_latency_p99_ms: Milliseconds | None = None
    calibration_error: Ratio | None = None
    evaluations: dict[Text, Evaluation] | None = Field(default=None, max_length=100)
    rating: Rating | None = None


class Quarantine(Stored):
    """Why a version must not be served: who said so, and the audit record."""

    reason: str
    by: str
    at: Moment
    n: int = 0


class ArchiveRule(StrEnum):
    """Why a version goes to the archive: a rule of archival, or somebody who says so."""

    EXPERIMENT = "experiment"
    LOW_ELO = "low_elo"
    SUPERSEDED = "superseded"
    AGE = "age"
    MANUAL = "manual"

    @property
    def folder(self) -> str:
        """The folder of a month in which the archive keeps what went for this reason (seed 001, 6.2)."""
        return _ARCHIVE_FOLDERS[self]


_ARCHIVE_FOLDERS: Final = {
    ArchiveRule.EXPERIMENT: "iter_checkpoints",
    ArchiveRule.LOW_ELO: "low_elo",
    ArchiveRule.SUPERSEDED: "duplicates",
    ArchiveRule.AGE: "unpromoted",
    ArchiveRule.MANUAL: "manual",
}


class RestoreOrder(Stored):
    """Somebody wants an archived version back; `n`: the audit record."""

    by: str
    reason: str
    at: Moment
    n: int


class ArchiveOrder(Stored):
    """One node keeps the bytes of the version in its archive, and no other node needs them.

    Attributes:
        node: the one that keeps them.
        folder: below its `<data>/archive`: YYYYMM/CLASS/MODEL/VERSION.
        stage: where the version stood before.
        n: the audit record of the order.
        kept_at: when the node said that its archive has every byte; until then the others keep theirs.
        restore: asked for, and not done yet.
        fault: why the last restore was refused.
    """

    node: Name
    folder: str
    rule: ArchiveRule
    stage: StageName
    reason: str
    by: str
    at: Moment
    n: int
    kept_at: Moment | None = None
    restore: RestoreOrder | None = None
    fault: str | None = None


class EntryState(Stored):
    """A version as the registry keeps it, besides its content.

    Attributes:
        artifact: `none` for a version that was described and has no bytes yet.
        stage, since: where it stands, and since when.
        stages: how it came there, oldest first, the newest 50.
        flags: governance flags and outside evidence, by name; a flag that is not here was never set.
        archived_to: NODE:FOLDER of the archive that holds it, for people; None: it is not archived.
        archive: the same for nodes, and how far it is.
        metadata: what its producer said and `facts` has no field for.
        format_check: what the origin's format tests said; empty: an older origin.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    version: Version
    artifact: ArtifactOrNone
    stage: StageName = StageName.DEVELOPMENT
    since: Moment
    stages: tuple[StageChange, ...] = ()
    facts: Facts = Facts()
    flags: dict[str, Flag] = {}
    approvals: tuple[Approval, ...] = ()
    quarantine: Quarantine | None = None
    archived_to: str | None = None
    archive: ArchiveOrder | None = None
    metadata: dict[str, Any] = {}
    bytes: int = 0
    format: str = ""
    format_check: str = ""
    origin: Name
    registered_at: Moment
    registered_by: str
    cause: Cause


class Phase(StrEnum):
    """Where a rollout stands. `halted` and `frozen` wait for somebody."""

    DISTRIBUTING = "distributing"
    VERIFIED = "verified"
    CANARY = "canary"
    BAKING = "baking"
    PROMOTED = "promoted"
    HALTED = "halted"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FROZEN = "frozen"


ENDED: Final = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK})
"""Phases that no rollout leaves; `halted` and `frozen` have exits."""


class RolloutState(Stored):
    """How a version comes to the stage that was asked for. One per model; the newest replaces the one before.

    Attributes:
        rollout: its id.
        target: `canary` or `production`.
        percent: of the nodes, while it is a canary.
        steps: percentages that it goes through before production.
        step: index of the present one.
        bake_seconds: how long it stays at each.
        quorum_ratio: share of the wanting nodes that must hold it verified before it is served.
        deadline: when it halts, if the quorum is not there.
        reason: why it halted, froze or was rolled back.
        since: of the phase.
        generation: of the slot order that it led to last; 0: none yet.
        drawn: generation that its canary nodes are drawn by: later, larger steps keep the nodes of the earlier ones.
        halted_in: the phase that it halted in, and goes on in when it is resumed.
        leaves: of a rollback: the version that is quarantined once nodes are back; None: none is.
    """

    schema_: int = Field(default=1, alias="schema")
    rollout: str
    model: Name
    version: Version
    artifact: Sha256
    target: StageName
    phase: Phase
    percent: int | None = Field(default=None, ge=1, le=100)
    steps: tuple[int, ...] = ()
    step: int = 0
    bake_seconds: float = 0.0
    quorum_ratio: Ratio = 0.0
    deadline: Moment | None = None
    reason: str | None = None
    started_at: Moment
    since: Moment
    generation: int = 0
    drawn: int = 0
    halted_in: Phase | None = None
    leaves: Version | None = None
    actor: str
    cause: Cause


class FreezeState(Stored):
    """No version of the model (`_fleet`: of any) moves up while it lasts; rollbacks do.

    Attributes:
        until: None: until somebody lifts it.
    """

    schema_: int = Field(default=1, alias="schema")
    frozen: bool
    until: Moment | None = None
    reason: str
    by: str
    at: Moment


class TrustState(Stored):
    """What became of a model's promotions: what its score is made of (`fleetcast.registry.gates.trust`).

    Attributes:
        false_alarms: rollbacks that were none: the version that was left came to production again.
        first_at: of its first promotion.
        last_incident_at: when its newest incident was opened.
        counted: the newest audit record that was counted.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    promotions: Count = 0
    rollbacks: Count = 0
    false_alarms: Count = 0
    first_at: Moment | None = None
    last_rollback_at: Moment | None = None
    last_incident_at: Moment | None = None
    counted: Count = 0
    at: Moment


class DrainState(Stored):
    """A node that is out of service, or back in: nobody counts on it, no canary is drawn on it, and servers on it are
    told to send their requests elsewhere. It holds and shows what is ordered all the same.

    Attributes:
        until: when the registry daemon takes it back in; None: when somebody does.
        n: the audit record.
    """

    schema_: int = Field(default=1, alias="schema")
    node: Name
    drained: bool
    until: Moment | None = None
    reason: str
    by: str
    at: Moment
    n: int = 0


class AuthorityState(Stored):
    """Who writes the registry: once a registry daemon has run, everybody else asks it (ADR 0020).

    Attributes:
        mode: `daemon`: ask; `none`: origins write themselves.
        gates: name and digest of the gates that hold; empty: whoever promotes decides.
    """

    schema_: int = Field(default=1, alias="schema")
    mode: Literal["daemon", "none"]
    node: Name
    gates: str = ""
    at: Moment


def entry_subject(model: str, version: str) -> str:
    """Where an entry is kept; named like its version."""
    return version_subject(model, version).replace(".version.", ".entry.", 1)


def rollout_subject(model: str) -> str:
    return f"fc.reg.state.rollout.{model}"


def freeze_subject(model: str) -> str:
    """*model* may be `FLEET`."""
    return f"fc.reg.state.freeze.{model}"


def drain_subject(node: str) -> str:
    """*node* `*` makes a filter."""
    return f"fc.reg.state.drain.{node}"


def trust_subject(model: str) -> str:
    return f"fc.reg.state.trust.{model}"


AUTHORITY_SUBJECT: Final = "fc.reg.state.authority.fleet"
TRANSITION_SUBJECT: Final = "fc.svc.registry.transition"
"""Of any command; `transition_subject` is that of one, so that a role can be allowed one and not another."""
QUERY_SUBJECT: Final = "fc.svc.registry.query"


def transition_subject(verb: str) -> str:
    """Where the command *verb* is asked; `*` makes a filter."""
    return f"{TRANSITION_SUBJECT}.{verb}"
