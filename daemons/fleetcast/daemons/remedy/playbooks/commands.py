"""What may be asked about playbooks, and what is answered: the JSON of `fc.svc.remedy.playbooks`."""

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Value
from fleetcast.events.ids import Name, Version
from fleetcast.events.incidents import Facts, ResourceId, Severity
from fleetcast.events.lifecycle import Text, Words
from fleetcast.events.remedies import PlaybookName, PlaybookRunState

MOST_LISTED = 200
READS: Final = ("list", "show")
"""What may be asked without changing anything."""


class List(Value):
    """The playbooks there are, and the runs; `ended`: also those that have ended, the newest *limit*."""

    ask: Literal["list"] = "list"
    ended: bool = False
    limit: int = Field(default=20, ge=1, le=MOST_LISTED)


class Show(Value):
    """A run with its steps; the beginning of its id is enough."""

    ask: Literal["show"] = "show"
    run: Annotated[str, Field(min_length=3, max_length=60)]


class RunIt(Value):
    """A person starts a playbook: the breaker does not hold for that.

    Attributes:
        request: idempotency key.
        dry_run: say what would be done, and write nothing.
        drill: carry it out on nothing that is served.
    """

    ask: Literal["run"] = "run"
    playbook: PlaybookName
    resource: ResourceId
    version: Version | None = None
    to: Version | None = None
    params: Facts = {}
    reason: Words
    by: Text
    incident: Name | None = None
    severity: Severity = Severity.HIGH
    dry_run: bool = False
    drill: bool = False
    request: Annotated[str, Field(min_length=1, max_length=200)] = Field(default_factory=new_ulid)


class Decide(Value):
    """Somebody agrees that a run goes on, or ends it."""

    ask: Literal["approve", "cancel"]
    run: Annotated[str, Field(min_length=3, max_length=60)]
    reason: Words
    by: Text


AnyAsk = Annotated[List | Show | RunIt | Decide, Field(discriminator="ask")]
ASK: TypeAdapter[List | Show | RunIt | Decide] = TypeAdapter(AnyAsk)


class PlannedStep(Value):
    """A step, and what it would do."""

    name: str
    action: str
    plan: str
    timeout_seconds: float
    attempts: int
    on_failure: str


class PlaybookEntry(Value):
    """A playbook as lists show it."""

    name: str
    description: str
    resource_type: str
    file: str
    on: tuple[str, ...] = ()
    approval: str
    breaker: bool
    steps: tuple[str, ...]


class ActionEntry(Value):
    """A step that playbooks may use."""

    name: str
    summary: str
    params: tuple[str, ...] = ()


class PlaybookAnswer(Value):
    """The answer to any of them; `outcome`: `done`, `refused`, `unknown` (no such run or playbook)."""

    outcome: Literal["done", "refused", "unknown"]
    message: str = ""
    next_step: str = ""
    playbooks: tuple[PlaybookEntry, ...] = ()
    actions: tuple[ActionEntry, ...] = ()
    runs: tuple[PlaybookRunState, ...] = ()
    plan: tuple[PlannedStep, ...] = ()
