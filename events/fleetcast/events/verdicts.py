"""What a monitor keeps in FC_REMEDY: what was last said of each model, and whose word counts for a shard of them."""

from typing import Final

from pydantic import Field

from fleetcast.events.content import Stored
from fleetcast.events.ids import Name, Version
from fleetcast.events.incidents import ResourceId, ResourceType, Severity, TriggerName, Verdict
from fleetcast.events.payloads import Moment

MONITOR_QUERY_SUBJECT: Final = "fc.svc.monitor.query"


class RaisedIncident(Stored):
    """An incident that was raised and not cleared, by what identifies it."""

    resource_type: ResourceType
    resource_id: ResourceId
    version: Version | None = None
    trigger: TriggerName


class SaidVerdict(Stored):
    """What was last said of one signal of one version.

    Attributes:
        node: the one that it is about; None: all nodes that serve the version.
        since: when it was said, by the server's clock.
        raised: the incident that was raised for it and not cleared.
        generation: of the slot order that was judged.
    """

    version: Version
    slot: str
    signal: TriggerName
    node: Name | None = None
    verdict: Verdict
    severity: Severity | None = None
    since: Moment
    raised: RaisedIncident | None = None
    required: str = ""
    actual: str = ""
    samples: int = Field(default=0, ge=0)
    generation: int = Field(default=0, ge=0)
    action: str = "none"


class ModelVerdicts(Stored):
    """All that was last said of a model.

    Attributes:
        n: how often anything was said; with it, the ids of what is said next are made.
        fence: of the monitor that said it last.
    """

    schema_: int = Field(default=1, alias="schema")
    model: Name
    n: int = Field(default=0, ge=0)
    fence: int = Field(default=0, ge=0)
    said: tuple[SaidVerdict, ...] = ()
    at: Moment


class ShardState(Stored):
    """Who judges a shard of the models. Every batch of verdicts rewrites it by compare-and-swap: once another monitor
    took the shard, nothing that a former one decided can be stored.

    Attributes:
        owner: node, daemon and the life of the process.
        fence: of the lease that it was taken with; no two owners have the same.
    """

    schema_: int = Field(default=1, alias="schema")
    shard: int = Field(ge=0)
    owner: str
    fence: int = Field(ge=0)
    at: Moment


def verdicts_subject(model: str) -> str:
    """Where is kept what was said of a model; `*` makes a filter."""
    return f"fc.rem.state.verdicts.{model}"


def shard_subject(shard: int) -> str:
    """Where is kept whose word counts for a shard."""
    return f"fc.rem.state.monitor.{shard:02d}"
