"""What may be asked of the registry, and what it answers: the JSON of `fc.svc.registry.transition`."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter

from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Kind, Value
from fleetcast.events.decisions import GateVerdict
from fleetcast.events.ids import Name, Version
from fleetcast.events.lifecycle import (
    FLEET,
    ArchiveRule,
    Count,
    Evaluation,
    Facts,
    FlagName,
    Rating,
    StageName,
    Text,
    Words,
)
from fleetcast.events.payloads import Moment, ObjectRef
from fleetcast.events.runs import Claim
from fleetcast.events.state import Cause, DistributionState, SlotEntry, VersionState


class Command(Value):
    """Base of all commands; `do` names them."""


class Promote(Command):
    """Let a version come to a stage; gates decide where the model's policy says so.

    Attributes:
        stage: where to; default production.
        percent: of the wanting nodes, for `canary`.
        expected_generation: of the model's slot as whoever asks knows it (0: none); another one is a conflict.
        replace: take the place of a rollout that is under way.
        cause: the event that asks, for an event: later events win over earlier ones; None: a person or a program.
        skip_rollout: no quorum, no steps: the slot moves at once.
    """

    do: Literal["promote"] = "promote"
    model: Name
    version: Version
    stage: StageName = StageName.PRODUCTION
    percent: int | None = Field(default=None, ge=1, le=100)
    expected_generation: int | None = Field(default=None, ge=0)
    replace: bool = False
    skip_rollout: bool = False
    cause: Cause | None = None


class Rollback(Command):
    """Serve a former production version again. Needs no gate.

    Attributes:
        to: default: the newest former production version that is neither quarantined, rejected nor archived.
        now: without waiting until a quorum of nodes is known to hold it.
        keep: the version that is left goes to `staging`; otherwise it is quarantined.
    """

    do: Literal["rollback"] = "rollback"
    model: Name
    to: Version | None = None
    now: bool = False
    keep: bool = False
    expected_generation: int | None = Field(default=None, ge=0)


class Move(Command):
    """Take a version out of the way, or back: `archived`, `rejected`, `quarantined`, or `development` to let an
    archived, rejected or quarantined one in again. What a slot names cannot be taken away. A version whose bytes are in
    an archive is at `development` once the node that keeps them has proven them again (`returned`).

    Attributes:
        rule: of archival that asks, for `archived`.
    """

    do: Literal["move"] = "move"
    model: Name
    version: Version
    stage: Literal[StageName.ARCHIVED, StageName.REJECTED, StageName.QUARANTINED, StageName.DEVELOPMENT]
    rule: ArchiveRule = ArchiveRule.MANUAL


class ArchiveKept(Command):
    """The node that keeps an archived version says that its archive has every byte."""

    do: Literal["archive_kept"] = "archive_kept"
    model: Name
    version: Version
    node: Name


class Returned(Command):
    """The node that keeps an archived version says what became of its restore.

    Attributes:
        fault: why it cannot be; None: every byte was proven, and it is installed again.
    """

    do: Literal["returned"] = "returned"
    model: Name
    version: Version
    node: Name
    fault: Words | None = None


class FlagSet(Value):
    """A flag as it is to be; the registry adds who and when."""

    value: bool
    report: ObjectRef | None = None


class Describe(Command):
    """Say something about a version: facts replace facts field by field, evaluations opponent by opponent, flags name
    by name, metadata key by key (null removes a key)."""

    do: Literal["describe"] = "describe"
    model: Name
    version: Version
    facts: Facts = Facts()
    flags: dict[FlagName, FlagSet] = Field(default={}, max_length=50)
    metadata: dict[str, Any] = Field(default={}, max_length=200)


class Announce(Command):
    """Make a version known that has no bytes yet: it is at `development` and cannot be served until an origin brings
    them under the same name. As `Describe` besides.

    Attributes:
        origin: node that spoke for it.
    """

    do: Literal["announce"] = "announce"
    model: Name
    version: Version
    origin: Name
    facts: Facts = Facts()
    flags: dict[FlagName, FlagSet] = Field(default={}, max_length=50)
    metadata: dict[str, Any] = Field(default={}, max_length=200)


class Evaluate(Command):
    """The result of an evaluation: games against opponents, a rating."""

    do: Literal["evaluate"] = "evaluate"
    model: Name
    version: Version
    games: dict[str, Evaluation] = Field(default={}, max_length=100)
    rating: Rating | None = None


class Approve(Command):
    """Agree that a version goes to a stage, for a time (default: what the gates say).

    Attributes:
        by: the person who agrees.
    """

    do: Literal["approve"] = "approve"
    model: Name
    version: Version
    by: Text
    stage: StageName = StageName.PRODUCTION
    valid_seconds: float | None = Field(default=None, gt=0, le=365 * 86400)


class Freeze(Command):
    """Let nothing of a model (None: of any) move up, or lift that."""

    do: Literal["freeze"] = "freeze"
    model: Name | None = None
    frozen: bool = True
    until: Moment | None = None

    @property
    def key(self) -> str:
        return self.model or FLEET


class Drain(Command):
    """Take a node out of service, or back in. A drained node counts for nothing, and still holds and shows what is
    ordered.

    Attributes:
        until: when the registry takes it back in by itself; None: when somebody does.
        force: although it is the last node that serves a model.
    """

    do: Literal["drain"] = "drain"
    node: Name
    drained: bool = True
    until: Moment | None = None
    force: bool = False


class Trust(Command):
    """Keep what was counted of a model's promotions; as `TrustState` says."""

    do: Literal["trust"] = "trust"
    model: Name
    promotions: Count
    rollbacks: Count
    false_alarms: Count
    first_at: Moment | None = None
    last_rollback_at: Moment | None = None
    last_incident_at: Moment | None = None
    counted: Count


class Resume(Command):
    """Let a rollout that halted go on, with a new deadline; `abandon`: end it, and serve production alone."""

    do: Literal["resume"] = "resume"
    model: Name
    abandon: bool = False


class Reserve(Command):
    """An origin gives a version its content, for ever."""

    do: Literal["reserve"] = "reserve"
    state: VersionState

    @property
    def model(self) -> str:
        return self.state.model


class Order(Command):
    """An origin's order that needs no decision: the newest data set of a lane."""

    do: Literal["order"] = "order"
    model: Name
    kind: Kind = Kind.DATASET
    entry: SlotEntry
    cause: Cause


class Distribute(Command):
    """Bring a version to some nodes."""

    do: Literal["distribute"] = "distribute"
    state: DistributionState

    @property
    def model(self) -> str:
        return self.state.model


class Advance(Command):
    """The registry daemon's own step of a rollout, as `rollouts.next_step` found it."""

    do: Literal["advance"] = "advance"
    model: Name
    rollout: str
    step: Literal["verified", "serve", "bake", "next", "halt"]
    index: int = 0
    reason: str | None = None


class Adopt(Command):
    """The registry daemon makes an entry for a version from before it ran."""

    do: Literal["adopt"] = "adopt"
    model: Name
    version: Version


AnyCommand = Annotated[
    Promote
    | Rollback
    | Move
    | ArchiveKept
    | Returned
    | Announce
    | Describe
    | Evaluate
    | Approve
    | Freeze
    | Drain
    | Resume
    | Trust
    | Reserve
    | Order
    | Distribute
    | Advance
    | Adopt,
    Field(discriminator="do"),
]
COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(AnyCommand)
VERBS: tuple[str, ...] = tuple(kind.model_fields["do"].default for kind in get_args(get_args(AnyCommand)[0]))
"""What `do` may say."""


class Transition(Value):
    """A command, who asks, and why.

    Attributes:
        request: idempotency key: the same request again changes nothing and has the same answer.
        dry_run: judge and answer, and write nothing.
        correlation: of what this is part of; empty: it begins something.
        run_id, claim: the run of a lane that asks, and the claim by which its node has it; None: no run does.
    """

    request: str = Field(default_factory=new_ulid, min_length=1, max_length=200)
    actor: str = Field(min_length=1, max_length=500)
    reason: Words | None = None
    dry_run: bool = False
    correlation: str = Field(default="", max_length=200)
    run_id: Name | None = None
    claim: Claim | None = None
    command: AnyCommand


Outcome = Literal["done", "started", "refused", "conflict", "superseded"]


class Answer(Value):
    """What became of a transition.

    Attributes:
        outcome: `done`; `started`: a rollout began and goes on by itself; `refused`: by a gate or a rule, see `code`;
            `conflict`: somebody else was quicker, see `winner`; `superseded`: a later event had decided already.
        repeated: the request had been answered before.
        code: of a refusal: `gates`, `stage`, `unknown`, `quarantined`, `frozen`, `slot`, `rollout`, `none-good`,
            `approval`, `nothing`, `last`, `bytes`, `claim`: another claim has the run that asks.
        generation: of the model's slot afterwards.
        n: the audit record of this decision; 0: none was written.
        sequence: of the batch in FC_REGISTRY; 0: nothing was written. `--min-seq` takes it.
        state: for `reserve` and `distribute`: what holds now.
    """

    outcome: Outcome
    model: str
    version: str | None = None
    stage: StageName | None = None
    repeated: bool = False
    dry_run: bool = False
    code: str = ""
    message: str
    next_step: str = ""
    winner: str = ""
    generation: int = 0
    n: int = 0
    sequence: int = 0
    rollout: str = ""
    gates: tuple[GateVerdict, ...] = ()
    state: dict[str, Any] | None = None

    @property
    def accepted(self) -> bool:
        return self.outcome in {"done", "started"}


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
