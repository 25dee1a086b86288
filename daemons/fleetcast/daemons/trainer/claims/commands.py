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


class AllowNode(Value):
    """A person lets a run go to a node again that it is kept away from after a fault there.

    Attributes:
        request: idempotency key.
        dry_run: say what would be, and write nothing.
    """

    ask: Literal["allow"] = "allow"
    run: Name
    node: Name
    reason: Words
    by: Text
    dry_run: bool = False
    request: Annotated[str, Field(min_length=1, max_length=200)] = Field(default_factory=new_ulid)


RunOrder = CancelRun | AllowNode


class _Ask(Stored):
    ask: Literal["cancel", "allow"] = "cancel"


def order_of(body: bytes) -> RunOrder:
    """What is asked.

    Raises:
        ValidationError: nothing that can be.
    """
    kind = AllowNode if _Ask.model_validate_json(body).ask == "allow" else CancelRun
    return kind.model_validate_json(body)


class RunAnswer(Stored):
    """What became of it; `outcome`: `done`, `ended` (it had come to its end before), `unknown` (no lane started such a
    run)."""

    outcome: Literal["done", "ended", "unknown"] = "done"
    message: str = ""
    next_step: str = ""
    run: TrainingRunState | None = None


def unknown(run: str) -> RunAnswer:
    """No lane started it."""
    return RunAnswer(
        outcome="unknown",
        message=f"no lane started a run {run}",
        next_step="fleetcast lanes    (RUN shows what is under way)",
    )


def ended(run: TrainingRunState) -> RunAnswer:
    """It had come to its end before."""
    detail = f": {run.phase_detail}" if run.phase_detail else ""
    return RunAnswer(
        outcome="ended",
        message=f"{run.run} has ended before, at {run.ended_at}; it {run.phase.value}{detail}",
        next_step=f"fleetcast runs show {run.run}",
        run=run,
    )
