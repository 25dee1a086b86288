"""Playbooks and their runs: what asks for one, what is told of it, and what is kept of it.

A run is kept whole, with the steps as they were when it began: a daemon that continues it needs nothing else, and a
playbook that is changed meanwhile changes no run that has begun.
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from fleetcast.events.content import Stored
from fleetcast.events.ids import Name, Version
from fleetcast.events.incidents import Facts, ResourceId, ResourceType, Severity
from fleetcast.events.lifecycle import Text, Words
from fleetcast.events.payloads import Moment, Payload
from fleetcast.events.state import Cause

PlaybookName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
StepName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


class RunPhase(StrEnum):
    """Where a run of a playbook stands. Only the first three are not its end."""

    WAITING = "waiting"
    RUNNING = "running"
    APPROVAL = "approval"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    NOTHING = "nothing"


RUN_ENDED: Final = frozenset(RunPhase) - {RunPhase.WAITING, RunPhase.RUNNING, RunPhase.APPROVAL}
"""Phases that no run leaves."""
ESCALATED: Final = frozenset({RunPhase.FAILED, RunPhase.REFUSED, RunPhase.EXPIRED})
"""Ends that somebody has to look at."""


class StepOutcome(StrEnum):
    """What became of a step."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


class PlaybookRequested(Payload):
    """Somebody asks for a run of a playbook.

    Attributes:
        playbook: its name.
        resource_id: the model, node, lane, run or transfer that it is to remedy.
        params: for its steps, by name; they win over those of the playbook.
        requested_by: a person, or the daemon that asks by itself; the breaker holds for both.
        incident: that it is to remedy.
    """

    playbook: PlaybookName
    resource_type: ResourceType = ResourceType.MODEL
    resource_id: ResourceId
    version: Version | None = None
    params: Facts = {}
    reasons: tuple[Words, ...] = Field(default=(), max_length=50)
    requested_by: Text = "operator"
    incident: Name | None = None
    evidence: Facts = {}


class PlaybookRunChanged(Payload):
    """A run of a playbook began, came to its next step or phase, or to its end.

    Attributes:
        run: its id.
        phase: `approval`: somebody has to agree (`fleetcast playbook approve RUN`); `failed`, `refused`, `expired`:
            somebody has to look.
        step: the one that is meant, if one is; its position counts from 1.
        steps: how many there are.
        version: the one that the run is to remedy; `to`: the one that is served instead.
        detail: what was done, or why not, in one line.
        seconds: since the request was stored.
        step_seconds: that the step took.
    """

    run: Name
    playbook: PlaybookName
    phase: RunPhase
    step: StepName | None = None
    position: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    attempt: int = Field(default=0, ge=0)
    outcome: StepOutcome | None = None
    resource_type: ResourceType = ResourceType.MODEL
    resource_id: ResourceId
    model: Name | None = None
    version: Version | None = None
    to: Version | None = None
    incident: Name | None = None
    severity: Severity = Severity.HIGH
    detail: str = ""
    next_step: str = ""
    reasons: tuple[str, ...] = ()
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    step_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    drill: bool = False
    by: str

    @property
    def begins(self) -> bool:
        """Whether it tells that the first step is being carried out."""
        first = self.position == 1 and self.attempt <= 1
        return self.phase is RunPhase.RUNNING and self.outcome is StepOutcome.RUNNING and first

    @property
    def progress(self) -> str:
        """How far the run is, as the predicate of a sentence: `begins`, `step 2 of 5 update_deployment succeeded`."""
        if self.begins:
            return f"begins with step 1 of {self.steps} {self.step}"
        if self.phase is not RunPhase.RUNNING or self.step is None or self.outcome is None:
            return _PHASES[self.phase]
        return f"step {self.position} of {self.steps} {self.step} {_OUTCOMES[self.outcome].format(self.attempt)}"


_PHASES: Final = {
    RunPhase.WAITING: "waits for its turn",
    RunPhase.RUNNING: "goes on",
    RunPhase.APPROVAL: "waits until somebody agrees",
    RunPhase.SUCCEEDED: "has succeeded",
    RunPhase.FAILED: "has failed",
    RunPhase.REFUSED: "was refused",
    RunPhase.CANCELLED: "was cancelled",
    RunPhase.EXPIRED: "has expired: nobody agreed in time",
    RunPhase.NOTHING: "had nothing to do",
}
_OUTCOMES: Final = {
    StepOutcome.PENDING: "is tried again (attempt {} failed)",
    StepOutcome.RUNNING: "is under way (attempt {})",
    StepOutcome.SUCCEEDED: "succeeded",
    StepOutcome.FAILED: "failed",
    StepOutcome.SKIPPED: "is left out",
}


class StepRecord(Stored):
    """A step of a run: what it is to do, and how far it is.

    Attributes:
        action: what is carried out: a registered step.
        params: as they are in force.
        timeout_seconds: for one attempt.
        attempts_at_most: before it is given up.
        backoff_seconds: before the second attempt; doubled for each further one.
        go_on: a failure of this step is told and does not stop the run.
        attempt: the one that is under way, or the last; counts from 1; 0: none yet.
        interrupted: how often the daemon that carried it out was gone before it had ended.
        deadline: of the attempt under way.
        not_before: of the next attempt.
        output: what later steps and people may use.
    """

    name: StepName
    action: StepName
    params: dict[str, Any] = {}
    timeout_seconds: float = 30.0
    attempts_at_most: int = 1
    backoff_seconds: float = 1.0
    go_on: bool = False
    outcome: StepOutcome = StepOutcome.PENDING
    attempt: int = 0
    interrupted: int = 0
    started_at: Moment | None = None
    deadline: Moment | None = None
    not_before: Moment | None = None
    ended_at: Moment | None = None
    seconds: float = 0.0
    detail: str = ""
    output: dict[str, Any] = {}


class RunApproval(Stored):
    """Somebody agreed that a run goes on."""

    by: str
    reason: str
    at: Moment


class PlaybookRunState(Stored):
    """A run of a playbook as the remedy daemons keep it.

    Attributes:
        digest: of the playbook that it was made from.
        automatic: an event asked for it, and nobody approves it: the breaker holds for it.
        breaker, only_if_served: as its playbook says.
        drill: it changes nothing that is served.
        n: how often it was written; tells its facts apart.
        owner: the daemon process that carries it out, NODE/PID; empty: nobody yet.
        fence: sequence of the batch by which the owner took it; it is stated to whatever the steps ask, and whoever
            wrote the newest state wins.
        asked_at: when the request was stored, by the server's clock; all times are.
        at: of the newest change.
        phase_detail: why it ended as it did, or what it waits for.
    """

    schema_: int = Field(default=1, alias="schema")
    run: Name
    playbook: PlaybookName
    digest: str = ""
    description: str = ""
    phase: RunPhase = RunPhase.WAITING
    resource_type: ResourceType = ResourceType.MODEL
    resource_id: ResourceId
    model: Name | None = None
    version: Version | None = None
    to: Version | None = None
    incident: Name | None = None
    severity: Severity = Severity.HIGH
    reasons: tuple[str, ...] = ()
    evidence: dict[str, Any] = {}
    params: dict[str, Any] = {}
    automatic: bool = False
    breaker: bool = False
    only_if_served: bool = False
    drill: bool = False
    by: str
    n: int = 0
    owner: str = ""
    fence: int = 0
    asked_at: Moment
    at: Moment
    ended_at: Moment | None = None
    steps: tuple[StepRecord, ...] = ()
    approvals: tuple[RunApproval, ...] = ()
    phase_detail: str = ""
    cause: Cause


class RunNote(Stored):
    """A run in one line, for breakers and lists."""

    run: Name
    playbook: PlaybookName
    resource_id: ResourceId
    at: Moment
    automatic: bool = False
    phase: RunPhase = RunPhase.RUNNING


class ResourceRuns(Stored):
    """The runs about one resource: what is under way, what waits for it, and the newest that have ended.

    Attributes:
        running: the one that is carried out; at most one per resource.
        waiting: those that wait for its end, oldest first.
        recent: the newest 20, newest first; automatic ones are what the breaker counts.
    """

    schema_: int = Field(default=1, alias="schema")
    resource_type: ResourceType
    resource_id: ResourceId
    running: Name | None = None
    waiting: tuple[Name, ...] = ()
    recent: tuple[RunNote, ...] = ()


class FleetRuns(Stored):
    """Automatic runs that change what is served, over the fleet: what the breaker counts; the newest 200."""

    schema_: int = Field(default=1, alias="schema")
    recent: tuple[RunNote, ...] = ()


RUN_STATE: Final = "fc.rem.state.run."
RESOURCE_STATE: Final = "fc.rem.state.resource."
FLEET_RUNS_SUBJECT: Final = "fc.rem.state.breaker.fleet"
PLAYBOOKS_SUBJECT: Final = "fc.svc.remedy.playbooks"


def run_subject(run: str) -> str:
    """Where a run is kept; `*` makes a filter."""
    return f"{RUN_STATE}{run}"


def resource_key(resource_type: ResourceType, resource_id: str) -> str:
    """A token for a resource, whose id may hold what a subject may not."""
    return hashlib.sha256(f"{resource_type.value}\n{resource_id}".encode()).hexdigest()[:20]


def resource_subject(key: str) -> str:
    """Where the runs about a resource are kept, by its `resource_key`; `*` makes a filter."""
    return f"{RESOURCE_STATE}{key}"
