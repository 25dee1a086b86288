"""What a step is, and what it is given."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from fleetcast.bus import Bus
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.events.content import Kind
from fleetcast.events.ids import derived_id
from fleetcast.events.remedies import PlaybookRunState, StepRecord
from fleetcast.events.state import SlotState
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.fleet import FleetView
from fleetcast.registry.registry import Registry

__all__ = ["Fleet", "Step", "StepContext", "StepParams", "StepResult", "Surroundings"]


class StepParams(BaseModel):
    """Base of the params of a step: unknown ones are refused when the playbook is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fleet(Protocol):
    """The nodes as their heartbeats show them."""

    changed: asyncio.Event
    known: asyncio.Event

    @property
    def view(self) -> FleetView:
        """As they are now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What steps lean on; one per daemon.

    Attributes:
        actor: in whose name the registry is asked.
        dependents: of a model, as the settings say: what to tell when it is rolled back.
    """

    bus: Bus
    registry: RegistryClient
    book: Registry
    fleet: Fleet
    now: Callable[[], datetime]
    actor: str
    dependents: Callable[[str], Awaitable[tuple[Mapping[str, Any], ...]]]


@dataclass(frozen=True, slots=True)
class StepContext:
    """One attempt of one step.

    Attributes:
        run: as it was stored before the attempt.
        step: that is carried out, with its params filled in.
        around: what it leans on.
    """

    run: PlaybookRunState
    step: StepRecord
    around: Surroundings

    @property
    def key(self) -> str:
        """Idempotency key: the same for every attempt of this step of this run, in whichever daemon. Whatever is asked
        of others carries it, so that they do it once."""
        return f"{self.run.run}.{self.step.name}"

    @property
    def fence(self) -> int:
        """Grows from owner to owner of the run: others may refuse a lower one than they have seen."""
        return self.run.fence

    @property
    def attempt(self) -> int:
        return self.step.attempt

    @property
    def deadline(self) -> datetime | None:
        """When the attempt is given up, by the server's clock."""
        return None if self.step.deadline is None else datetime.fromisoformat(self.step.deadline)

    @property
    def reason(self) -> str:
        """Why, for audit records and others."""
        said = "; ".join(self.run.reasons) or f"playbook {self.run.playbook}"
        return f"{said} ({self.run.run} of {self.run.playbook}, asked by {self.run.by})"[:2000]

    def found(self, action: str, key: str) -> Any:
        """What an earlier step found; None: nothing."""
        values = [step.output.get(key) for step in self.run.steps if step.action == action]
        return next((value for value in values if value is not None), None)

    def derived(self, what: str) -> str:
        """An id for something that this step makes: the same for every attempt."""
        return derived_id(self.key, "playbook.step", what)

    async def slot(self) -> SlotState | None:
        """What is ordered of the model now; None: nothing.

        Raises:
            TransportFailed: the bus does not answer.
        """
        return None if self.run.model is None else await self.around.book.slot(self.run.model, Kind.MODEL)


class Step(Protocol):
    """A registered step.

    Attributes:
        name: what a playbook calls it.
        params: the class of its params; None: it takes anything.
        summary: what it does, in one line.

    One that also has `reads_only = True` is carried out in dry runs, as in a drill, so that they say what it finds.
    """

    name: str
    params: type[BaseModel] | None
    summary: str

    async def run(self, context: StepContext, params: Any) -> StepResult:
        """Carry it out, once in effect however often it is called with the same `context.key`.

        Anything that it raises is a failed attempt.
        """

    def plan(self, context: StepContext, params: Any) -> str:
        """What it would do, in one line."""
