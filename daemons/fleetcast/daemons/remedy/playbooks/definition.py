"""What a playbook is: the types of its TOML file. Every description says meaning and unit."""

import hashlib
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from fleetcast.config.group import Group
from fleetcast.events.ids import canonical_json
from fleetcast.events.incidents import IncidentFact, ResourceType, Severity
from fleetcast.events.lifecycle import Words
from fleetcast.events.remedies import PlaybookName, StepName, StepRecord

APPROVAL: Final = "approval"
"""The action that waits for a person; the engine itself carries it out."""
COMMAND: Final = "command"
LONGEST_SECONDS: Final = 7 * 86400.0

Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]
Pattern = Annotated[str, Field(min_length=1, max_length=100)]


class StepDefinition(Group):
    """One step, in the order in which they are written."""

    name: StepName = Field(description="Name of the step, unique in the playbook: a-z 0-9 _.")
    action: StepName | None = Field(
        default=None,
        description="What is carried out (`fleetcast playbooks --actions`). None: its name says.",
    )
    command: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Program and arguments, in place of an action; no shell reads them."
    )
    params: dict[str, Any] = Field(
        default={}, description="What the action needs to know; {name} stands for a value of the run."
    )
    timeout_seconds: Seconds = Field(default=30.0, description="Seconds for one attempt, at most a week.")
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1, description="Attempts before the step has failed, 1 to 100."
    )
    backoff_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=1.0, description="Seconds before the second attempt; doubled before each further one."
    )
    on_failure: Literal["stop", "go_on"] = Field(
        default="stop", description='What follows a failure: "stop" ends the run and escalates, "go_on" tells it.'
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> "StepDefinition":
        if self.command is not None and self.action not in {None, COMMAND}:
            raise ValueError("has an action and a command: a step does one thing")
        return self

    @property
    def does(self) -> str:
        """The action in force."""
        return COMMAND if self.command is not None else self.action or self.name

    @property
    def all_params(self) -> dict[str, Any]:
        return {**self.params, **({"command": list(self.command)} if self.command is not None else {})}

    def record(self) -> StepRecord:
        """The step as a run begins with it."""
        return StepRecord(
            name=self.name,
            action=self.does,
            params=self.all_params,
            timeout_seconds=self.timeout_seconds,
            attempts_at_most=self.attempts,
            backoff_seconds=self.backoff_seconds,
            go_on=self.on_failure == "go_on",
        )


class On(Group):
    """What starts the playbook by itself: an incident that was opened and matches in every point that is named."""

    resource_type: ResourceType | None = Field(
        default=None, description="What the incident is about: ml_model, node, lane, run or transfer."
    )
    resource: Pattern | None = Field(default=None, description="Shell pattern of the resource's id.")
    trigger: Pattern | None = Field(default=None, description="Shell pattern of what was noticed: `node_*`.")
    source: Pattern | None = Field(default=None, description="Shell pattern of what noticed it: `monitor`.")
    severity: Severity | None = Field(default=None, description="Least severity: low, medium, high or critical.")

    @model_validator(mode="after")
    def _names_something(self) -> "On":
        if self == On.model_construct():
            raise ValueError("names nothing: every incident would start the playbook")
        return self

    def matches(self, incident: IncidentFact) -> bool:
        """Whether an incident starts the playbook."""
        return (
            (self.resource_type is None or self.resource_type is incident.resource_type)
            and _fits(self.resource, incident.resource_id)
            and _fits(self.trigger, incident.trigger)
            and _fits(self.source, incident.source)
            and (self.severity is None or incident.severity.rank >= self.severity.rank)
        )


class Playbook(Group):
    """A playbook."""

    name: PlaybookName = Field(description="Its name: a-z 0-9 _; one file, one name.")
    description: Words = Field(description="What it does, in a sentence or two.")
    resource_type: ResourceType = Field(
        default=ResourceType.MODEL, description="What it remedies: ml_model, node, lane, run or transfer."
    )
    on: tuple[On, ...] = Field(default=(), description="Incidents that start it: tables [[on]].")
    approval: Literal["asked", "always", "never"] = Field(
        default="asked",
        description='Whether a person must agree before its first step: "asked": when the request says so; "always"; '
        '"never".',
    )
    approval_seconds: Seconds = Field(default=3600.0, description="Seconds that such an approval may take.")
    breaker: bool = Field(
        default=False, description="Whether it changes what is served: the breaker then counts it, and stops it."
    )
    only_if_served: bool = Field(
        default=False, description="Whether nothing is done about a version that no slot names any more."
    )
    params: dict[str, Any] = Field(default={}, description="Values for {name} in its steps; a request may change them.")
    steps: tuple[StepDefinition, ...] = Field(min_length=1, max_length=50, description="Its steps: tables [[steps]].")

    @model_validator(mode="after")
    def _names_each_step_once(self) -> "Playbook":
        names = [step.name for step in self.steps]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"has more than one step {', '.join(twice)}")
        return self

    @property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()[:16]

    def records(self, *, approval: bool) -> tuple[StepRecord, ...]:
        """The steps as a run begins with them; *approval*: somebody has to agree first."""
        steps = tuple(step.record() for step in self.steps)
        if not approval or steps[0].action == APPROVAL:
            return steps
        return (StepRecord(name=APPROVAL, action=APPROVAL, timeout_seconds=self.approval_seconds), *steps)


def _fits(pattern: str | None, value: str) -> bool:
    return pattern is None or fnmatchcase(value, pattern)
