"""Clients that ask for transitions as fast as they are answered, and remember what they were told."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from fleetcast.bus import Bus, connect
from fleetcast.client.ulid import new_ulid
from fleetcast.config.settings import BusSettings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import Evaluation, StageName
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import Cause, VersionState
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import (
    Answer,
    AnyCommand,
    Describe,
    Evaluate,
    FlagSet,
    Move,
    Promote,
    Reserve,
    Rollback,
)
from fleetcast.registry.errors import NoKeeper

MODELS = ("m1", "m2")
VERSIONS = 6
LOOK_SECONDS = 0.002
DEADLINE_SECONDS = 30.0
"""How long a client asks for one answer; servers and daemons come back sooner."""


def version(model: str, number: int) -> VersionState:
    """A version of any content."""
    file = ContentFile(path="m.pt", size=number, sha256=f"{number:064x}", pieces_root="0" * 64)
    content = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    return VersionState(
        model=model,
        version=str(number),
        artifact=content.artifact,
        content=content,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=Cause(event=f"e{number}", sequence=0, by="/test", correlation="c"),
        at="2026-11-20T10:00:00.000Z",
    )


@dataclass
class Told:
    """What clients know of their requests.

    Attributes:
        answers: by request.
        unanswered: requests that had no answer before the deadline, and why: they happened once or not at all.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)

    async def more(self, count: int, *, unless: Callable[[], bool] = lambda: False, seconds: float = 60.0) -> None:
        """Wait until there are so many more answers, or *unless* holds.

        Raises:
            TimeoutError: there are not, in time.
        """
        wanted, deadline = len(self.answers) + count, time.monotonic() + seconds
        while len(self.answers) < wanted and not unless():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.answers)} answers after {seconds} s, {wanted} were waited for")
            await asyncio.sleep(LOOK_SECONDS)

    @property
    def accepted(self) -> list[Answer]:
        return [a for a in self.answers.values() if a.accepted]


async def reserve(bus: Bus, told: Told) -> None:
    """Bring versions into the registry: as many of each model."""
    for model in MODELS:
        for number in range(1, VERSIONS + 1):
            await ask(bus, Reserve(state=version(model, number)), told)


async def ask(bus: Bus, command: AnyCommand, told: Told) -> None:
    """Ask one request until it is answered."""
    request = new_ulid()
    client = RegistryClient(bus, actor="/test")
    try:
        answer = await client.transition(command, request=request, reason="a storm", deadline_seconds=DEADLINE_SECONDS)
    except NoKeeper as away:
        told.unanswered[request] = str(away)
    else:
        told.answers[request] = answer


def any_command(chance: random.Random) -> AnyCommand:
    """Promotions mostly; rollbacks, evidence, and versions let in again."""
    model, number = chance.choice(MODELS), str(chance.randint(1, VERSIONS))
    commands: list[tuple[int, AnyCommand]] = [
        (10, Promote(model=model, version=number, replace=True)),
        (4, Rollback(model=model, keep=chance.random() < 0.7)),
        (3, Describe(model=model, version=number, flags={"seen": FlagSet(value=chance.random() < 0.5)})),
        (2, Evaluate(model=model, version=number, games={"random": Evaluation(wins=chance.randint(1, 99), losses=1)})),
        (3, Move(model=model, version=number, stage=StageName.DEVELOPMENT)),
    ]
    [(_, chosen)] = chance.choices(commands, [weight for weight, _ in commands])
    return chosen


@contextlib.asynccontextmanager
async def storm(bus: BusSettings, told: Told, *, clients: int = 4, seed: int = 1) -> AsyncIterator[None]:
    """Clients over connections of their own, from here until leaving; then every request has its end."""
    over = asyncio.Event()

    async def client(number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        async with connect(bus, node=f"client-{number}", daemon="test") as own:
            while not over.is_set():
                await ask(own, any_command(chance), told)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
        try:
            yield
        finally:
            over.set()
