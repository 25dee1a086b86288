"""What may be asked about runs, and what is answered: the JSON of `fc.svc.trainer.runs`."""

from typing import Annotated, Literal

from pydantic import Field

from fleetcast.client.ulid import new_ulid
from fleetcast.events.content import Stored, Value
from fleetcast.events.ids import Name
from fleetcast.events.lifecycle import Text, Words
from fleetcast.events.training import TrainingRunState


class CancelRun(Value):
    """A person ends a run before it is done.

    Attributes:
        now: its process gets no time to end by itself.
        request: idempotency key.
        dry_run: say what would be, and write nothing.
    """

    ask: Literal["cancel"] = "cancel"
    run: Name
    reason: Words
    by: Text
    now: bool = False
    dry_run: bool = False
    request: Annotated[str, Field(min_length=1, max_length=200)] = Field(default_factory=new_ulid)


class RunAnswer(Stored):
    """What became of it; `outcome`: `done`, `ended` (it had come to its end before), `unknown` (no lane started such a
    run)."""

    outcome: Literal["done", "ended", "unknown"] = "done"
    message: str = ""
    next_step: str = ""
    run: TrainingRunState | None = None
