"""Waiting until what was decided is served: for `promote --wait` and `rollback --wait`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fleetcast.bus import Bus, InSync
from fleetcast.bus.streams import REGISTRY
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.problems import Problem, timed_out
from fleetcast.cli.waiting import Changed, sentence
from fleetcast.events.lifecycle import ENDED, Phase, RolloutState, StageName, rollout_subject
from fleetcast.registry.commands import Answer
from fleetcast.registry.ledger import read
from fleetcast.registry.picture.nodes import Rollout, rollout, rollout_document

_STANDS = frozenset({Phase.CANARY, Phase.BAKING})


@dataclass
class Decided:
    """The newest rollout of the model, as the registry has it, and its sequence."""

    rollout: RolloutState | None = None
    sequence: int = 0


async def settled(
    bus: Bus, heartbeat_seconds: float, answer: Answer, *, back: bool, timeout_seconds: float, changed: Changed
) -> Rollout:
    """Wait until every node serves what *answer* led to; *back*: it answers a rollback.

    Raises:
        Problem: the rollout halted, was ended, or gave way to another one; or time is up.
    """
    async with watched(bus, heartbeat_seconds) as fleet, _followed(bus, fleet, answer.model) as decided:
        try:
            return await fleet.until(_look(fleet, decided, answer, changed, back=back), timeout_seconds)
        except TimeoutError:
            raise _late(fleet, decided.rollout, answer, timeout_seconds) from None


def _look(
    fleet: Fleet, decided: Decided, answer: Answer, changed: Changed, *, back: bool
) -> Callable[[], Rollout | None]:
    def look() -> Rollout | None:
        state, progress = decided.rollout, _progress(fleet, answer.model)
        if state is not None:
            check(state, decided.sequence, answer, back=back)
        changed(progress)
        return progress if progress is not None and arrived(state, progress, answer) else None

    return look


def check(state: RolloutState, sequence: int, answer: Answer, *, back: bool) -> None:
    """See that the rollout of *answer* can still arrive, where the registry has *state* since *sequence*.

    Raises:
        Problem: it halted, was taken back, or another one took its place.
    """
    name, model = f"{answer.model}@{answer.version}", answer.model
    if state.rollout != answer.rollout:
        if sequence <= answer.sequence:
            return
        raise Problem(
            "superseded",
            f"another decision about {model} came after this one",
            why=f"rollout of {state.model}@{state.version} by {state.actor}",
            next_step=f"fleetcast why {model}",
        )
    if state.phase is Phase.HALTED:
        raise Problem(
            "halted",
            f"the rollout of {name} halted",
            why=state.reason or "",
            next_step=f"fleetcast resume {model}    (--abandon ends it)",
        )
    if state.phase is Phase.ROLLED_BACK and not back:
        raise Problem(
            "rolled_back", f"{name} was taken back", why=state.reason or "", next_step=f"fleetcast history {model}"
        )


def arrived(state: RolloutState | None, progress: Rollout, answer: Answer) -> bool:
    """Whether every node serves what was decided: all that it shall, and for a canary those of the canary."""
    if progress.generation < answer.generation:
        return False
    if state is None or state.rollout != answer.rollout:
        return False
    if state.target is StageName.CANARY and state.phase in _STANDS:
        canary = progress.canary
        return canary is not None and canary.version == answer.version and not canary.waiting
    return state.phase in ENDED and progress.generation >= state.generation and progress.complete


def _progress(fleet: Fleet, model: str) -> Rollout | None:
    slot = fleet.slot(model)
    return None if slot is None else rollout(slot, fleet.nodes)


def _late(fleet: Fleet, state: RolloutState | None, answer: Answer, seconds: float) -> Problem:
    progress = _progress(fleet, answer.model)
    phase = f"the rollout is {state.phase} since {state.since}; " if state else ""
    return timed_out(
        f"{answer.model}@{answer.version} is not everywhere after {seconds:g} s; it goes on",
        why=f"{phase}{sentence(progress)}",
        next_step=f"fleetcast why {answer.model}",
        details={"rollout": rollout_document(progress)} if progress else None,
    )


@asynccontextmanager
async def _followed(bus: Bus, fleet: Fleet, model: str) -> AsyncIterator[Decided]:
    """The newest rollout of *model* for the duration; waiters look again at every change."""
    decided = Decided()

    async def follow() -> None:
        async for item in bus.watch(REGISTRY, (rollout_subject(model),)):
            if not isinstance(item, InSync):
                decided.rollout, decided.sequence = read(RolloutState, item), item.sequence
            fleet.wake()

    follower = asyncio.create_task(follow(), name="rollout")
    try:
        yield decided
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
