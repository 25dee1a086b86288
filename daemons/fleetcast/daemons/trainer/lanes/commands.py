"""What may be asked about lanes, and what is answered: the JSON of `fc.svc.trainer.lanes`."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Stored, Value
from fleetcast.events.ids import Name, Version
from fleetcast.events.lifecycle import Text, Words
from fleetcast.events.training import LaneState, TrainingRunState
from fleetcast.registry.picture.agreement import LaneCopies

READS: Final = ("list", "show")
"""What may be asked without changing anything."""


class ListLanes(Value):
    """All lanes: those that are defined, and those of which something is kept."""

    ask: Literal["list"] = "list"


class ShowLane(Value):
    """One lane; `nodes`: also which nodes may take its run, and why each other one may not."""

    ask: Literal["show"] = "show"
    lane: Name
    nodes: bool = False


class ChangeLane(Value):
    """A person changes a lane.

    Attributes:
        ask: `trigger`: a run now, whatever the bucket holds; `pause`, `resume`: whether it starts runs; `withdraw`: a
            data set is to train nothing any more.
        version: of the data set that is withdrawn.
        request: idempotency key.
        dry_run: say what would be, and write nothing.
    """

    ask: Literal["trigger", "pause", "resume", "withdraw"]
    lane: Name
    reason: Words
    by: Text
    version: Version | None = None
    dry_run: bool = False
    request: Annotated[str, Field(min_length=1, max_length=200)] = Field(default_factory=new_ulid)


AnyAsk = Annotated[ListLanes | ShowLane | ChangeLane, Field(discriminator="ask")]
ASK: TypeAdapter[ListLanes | ShowLane | ChangeLane] = TypeAdapter(AnyAsk)


class NodeVerdict(Stored):
    """Whether a node may take the lane's run.

    Attributes:
        reason: why not; empty: it may.
        score: 0 to 1, how well it suits.
    """

    node: str
    eligible: bool
    reason: str = ""
    score: float = 0.0


class LaneView(Stored):
    """A lane as people see it.

    Attributes:
        defined: whether the trainer that answers has a definition of it.
        standing: `ready` or `scaling`, as the volume of its newest data set says; `undefined`.
        samples: of the newest data set; required: what it needs to be ready.
        tokens: new samples in the bucket; needed: what a run spends.
        due, reasons, due_at: whether a run may start now, why or what is missing, when time alone makes it so.
        definition: whole, as it is in force; digest of it, to compare trainers by.
        file: that it was read from.
        copies: how it differs between nodes; None: it does not, as far as their trainers run.
        run: the one that is under way.
    """

    lane: str
    defined: bool = True
    standing: str = "scaling"
    samples: int = 0
    required: int = 0
    tokens: float = 0.0
    needed: int = 0
    due: bool = False
    reasons: tuple[str, ...] = ()
    due_at: str | None = None
    definition: dict[str, Any] = {}
    digest: str = ""
    file: str = ""
    copies: LaneCopies | None = None
    state: LaneState | None = None
    run: TrainingRunState | None = None
    nodes: tuple[NodeVerdict, ...] = ()


class LaneAnswer(Stored):
    """The answer to any of them; `outcome`: `done`, `refused`, `unknown` (no such lane)."""

    outcome: Literal["done", "refused", "unknown"] = "done"
    message: str = ""
    next_step: str = ""
    lanes: tuple[LaneView, ...] = ()
