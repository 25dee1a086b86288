"""What may be asked about incidents, and what is answered: the JSON of `fc.svc.remedy.incidents`."""

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, model_validator

from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Value
from fleetcast.events.ids import Name
from fleetcast.events.incidents import IncidentPhase, IncidentState, ResourceType, Severity, SilenceState
from fleetcast.events.lifecycle import Text, Words
from fleetcast.events.payloads import Moment

INCIDENTS_SUBJECT: Final = "fc.svc.remedy.incidents"
READS: Final = ("list", "get", "silences")
"""What may be asked without changing anything."""
Pattern = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\s\x00-\x1f]+$")]
Seconds = Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)]
IncidentName = Annotated[Name, Field(max_length=48)]


class Query(Value):
    """Base of what changes nothing."""


class Order(Value):
    """Base of what changes something: asked again with the same *request*, it is done once.

    Attributes:
        actor: who asks; it stands in the timeline.
    """

    request: str = Field(default_factory=new_ulid, min_length=1, max_length=200)
    actor: Text
    reason: Words


class ListIncidents(Query):
    """Incidents, what matters most first.

    Attributes:
        ended: also those that are resolved; the newest of each resource, version and trigger, and those before it.
        since: only those that changed after this.
        severity: at least.
    """

    ask: Literal["list"] = "list"
    ended: bool = False
    resource: Pattern | None = None
    resource_type: ResourceType | None = None
    node: Pattern | None = None
    trigger: Pattern | None = None
    severity: Severity | None = None
    since: Moment | None = None
    limit: int = Field(default=100, ge=1, le=1000)


class GetIncident(Query):
    """One incident, by its id or the unique start of it."""

    ask: Literal["get"] = "get"
    incident: IncidentName


class ListSilences(Query):
    """Silences that hold, and with `ended` those that do not any more."""

    ask: Literal["silences"] = "silences"
    ended: bool = False


class AboutIncident(Order):
    """Base of orders about one incident, by its id or the unique start of it."""

    incident: IncidentName


class Acknowledge(AboutIncident):
    """Somebody looks after it."""

    ask: Literal["ack"] = "ack"


class Note(AboutIncident):
    """Something was found out or done about it: one line in the timeline.

    Attributes:
        phase: that it comes to.
    """

    ask: Literal["note"] = "note"
    phase: IncidentPhase | None = None


class Resolve(AboutIncident):
    """It is over, whatever was said about it."""

    ask: Literal["resolve"] = "resolve"


class AddSilence(Order):
    """Nobody wants to be told of certain incidents for a while; attributes as in `SilenceState`."""

    ask: Literal["silence"] = "silence"
    resource: Pattern | None = None
    node: Pattern | None = None
    trigger: Pattern | None = None
    below: Severity | None = None
    seconds: Seconds

    @model_validator(mode="after")
    def _says_which(self) -> "AddSilence":
        if self.resource is None and self.node is None and self.trigger is None:
            raise ValueError("a silence names a resource, a node or a trigger; '*' means all of them")
        return self


class EndSilence(Order):
    """People are told again."""

    ask: Literal["unsilence"] = "unsilence"
    silence: Name


AnyRequest = Annotated[
    ListIncidents | GetIncident | ListSilences | Acknowledge | Note | Resolve | AddSilence | EndSilence,
    Field(discriminator="ask"),
]
REQUEST: Final[TypeAdapter[AnyRequest]] = TypeAdapter(AnyRequest)


class IncidentAnswer(Value):
    """What became of a request.

    Attributes:
        outcome: `done`; `nothing`: it was so already; `unknown`: there is none of that name; `ambiguous`: several begin
            so; `refused`: it cannot be done now.
        message, next_step: for a person.
        incidents: what was asked for, or the one that was changed.
        more: how many more there are than were asked for.
    """

    outcome: Literal["done", "nothing", "unknown", "ambiguous", "refused"] = "done"
    message: str = ""
    next_step: str = ""
    incidents: tuple[IncidentState, ...] = ()
    silences: tuple[SilenceState, ...] = ()
    more: int = Field(default=0, ge=0)
