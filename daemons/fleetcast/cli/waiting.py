"""Waiting until a fleet serves what is ordered: for `fleetcast wait`, `promote --wait` and the demo."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fleetcast.bus import Bus
from fleetcast.cli import history
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.live import Fleet, watched
from fleetcast.cli.output import Output
from fleetcast.cli.problems import Exit, Problem, not_found, timed_out
from fleetcast.cli.running import run_async
from fleetcast.cli.units import parse_duration
from fleetcast.events.decisions import PromotionRefused
from fleetcast.events.envelope import Event
from fleetcast.events.payloads import ArtifactAvailable, EventRejected
from fleetcast.registry.picture.nodes import Rollout, rollout, rollout_document

_PERCENT = re.compile(r"\d+ %")
Changed = Callable[[Rollout | None], None]
"""Called whenever the picture may have changed; None: nothing is ordered yet."""


def run(call: Call, wanted: str, *, timeout: str) -> Exit:
    """Wait until *wanted* (`MODEL` or `MODEL@VERSION`) is served wherever it is wanted."""
    seconds = parse_duration(timeout, option="--timeout")
    model, version = split_target(wanted)
    done = run_async(_wait(call, target(call), model, version, seconds))
    tell(call, done)
    return Exit.OK


def split_target(wanted: str) -> tuple[str, str | None]:
    """Model and version of `MODEL[@VERSION]`."""
    model, _, version = wanted.partition("@")
    return model, version or None


def tell(call: Call, done: Rollout) -> None:
    """Say that a rollout is complete."""
    call.out.document({"rollout": rollout_document(done)})
    call.out.text(served(done))


def served(done: Rollout) -> str:
    """`hex8@43 is served on 3 of 3 nodes at generation 7: node-1, node-2, node-3`, with the canary beside it."""
    return (
        f"{done.model}@{done.version} is served on {len(done.ready)} of {done.wanted} nodes"
        f" at generation {done.generation}: {', '.join(done.ready) or '-'}{_canary(done)}"
    )


def _canary(done: Rollout) -> str:
    canary = done.canary
    if canary is None:
        return ""
    return f"; canary {canary.version}, {canary.percent} % of {canary.form.value}: {', '.join(canary.ready)}"


async def _wait(call: Call, aim: Target, model: str, version: str | None, seconds: float) -> Rollout:
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        if version is None and fleet.slot(model) is None:
            raise not_found(f"nothing was ever ordered for {model!r}", next_step="fleetcast status")
        return await until_served(fleet, model, version, timeout_seconds=seconds, changed=talker(call.out))


async def until_served(
    fleet: Fleet, model: str, version: str | None, *, timeout_seconds: float, changed: Changed | None = None
) -> Rollout:
    """Wait until every node that wants *model* serves *version* (None: whatever is ordered) at the slot's generation.

    Raises:
        Problem: time is up; says how far it came and what keeps the others.
    """

    def look() -> Rollout | None:
        progress = _progress(fleet, model)
        if changed is not None:
            changed(progress)
        right = progress is not None and version in {None, progress.version}
        return progress if progress is not None and right and progress.complete else None

    try:
        return await fleet.until(look, timeout_seconds)
    except TimeoutError:
        raise _late(model, version, _progress(fleet, model), timeout_seconds) from None


def _progress(fleet: Fleet, model: str) -> Rollout | None:
    slot = fleet.slot(model)
    return None if slot is None else rollout(slot, fleet.nodes)


def _late(model: str, version: str | None, progress: Rollout | None, seconds: float) -> Problem:
    name = f"{model}@{version}" if version else model
    if progress is None:
        why = "no slot order for it was seen"
    elif version not in {None, progress.version}:
        why = f"what is ordered is {progress.model}@{progress.version}, generation {progress.generation}"
    else:
        behind = "; ".join(f"{each.node}: {each.reason}" for each in progress.behind) or "no node wants it"
        why = f"{len(progress.ready)} of {progress.wanted} nodes serve it; {behind}"
    details = {"rollout": rollout_document(progress)} if progress else None
    step = f"fleetcast why {model}"
    return timed_out(f"{name} is not everywhere after {seconds:g} s", why=why, next_step=step, details=details)


@dataclass
class Answers:
    """What the fleet said to one event."""

    refusal: EventRejected | PromotionRefused | None = None
    ordered: int = 0
    """Generation of the slot order that it led to; 0: none yet."""
    events: list[Event] = field(default_factory=list)


@asynccontextmanager
async def answers_to(bus: Bus, fleet: Fleet, event: Event, sequence: int) -> AsyncIterator[Answers]:
    """What is said to *event*, which has *sequence* in the log, gathered for the duration."""
    answers = Answers()
    listener = asyncio.create_task(_listen(bus, fleet, event, sequence, answers), name="answers")
    try:
        yield answers
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def _listen(bus: Bus, fleet: Fleet, event: Event, sequence: int, answers: Answers) -> None:
    async for heard in history.follow(bus, start_sequence=sequence, follow=True):
        if not isinstance(heard, Event):
            continue
        payload = heard.payload
        if (isinstance(payload, EventRejected) and payload.event == event.id) or (
            isinstance(payload, PromotionRefused) and heard.causationid == event.id
        ):
            answers.refusal = payload
        elif heard.correlationid == event.correlationid:
            answers.events.append(heard)
        fleet.wake()


async def until_answered(
    fleet: Fleet,
    answers: Answers,
    event: Event,
    model: str,
    *,
    timeout_seconds: float,
    changed: Changed | None = None,
) -> Rollout:
    """Wait until the order that *event* led to is served wherever it is wanted.

    Raises:
        Problem: it was refused, another promotion came after it, or time is up.
    """

    def look() -> Rollout | None:
        if answers.refusal is not None:
            raise refused(answers.refusal)
        slot = fleet.slot(model)
        if slot is None:
            return None
        if slot.cause.event == event.id:
            answers.ordered = slot.generation
        elif answers.ordered:
            raise _overtaken(model, slot.production.version if slot.production else "?", slot.cause.event)
        progress = rollout(slot, fleet.nodes) if answers.ordered else None
        if changed is not None:
            changed(progress)
        return progress if progress is not None and progress.complete else None

    try:
        return await fleet.until(look, timeout_seconds)
    except TimeoutError:
        progress = _progress(fleet, model) if answers.ordered else None
        raise _late(model, None, progress, timeout_seconds) from None


async def until_taken(
    fleet: Fleet, answers: Answers, event: Event, name: str, *, timeout_seconds: float
) -> ArtifactAvailable:
    """Wait until the origin has registered what *event* submits, and offers it.

    Raises:
        Problem: it was refused, or time is up.
    """

    def look() -> ArtifactAvailable | None:
        if answers.refusal is not None:
            raise refused(answers.refusal)
        offers = (e.payload for e in answers.events if isinstance(e.payload, ArtifactAvailable))
        return next((offer for offer in offers if offer.cause == event.id), None)

    try:
        return await fleet.until(look, timeout_seconds)
    except TimeoutError:
        raise timed_out(
            f"{name} is not registered after {timeout_seconds:g} s",
            why="the distributor of the node that has the file has not answered",
            next_step=f"fleetcast status, then fleetcast why {event.id}",
        ) from None


def refused(payload: EventRejected | PromotionRefused) -> Problem:
    """A refusal as what the command failed with."""
    if isinstance(payload, PromotionRefused):
        return _not_let_in(payload)
    told = {"event": payload.event, "field": payload.field, "winner": payload.winner, "by": payload.node}
    why = payload.reason + (f" (field {payload.field})" if payload.field else "")
    why += f"; winner: {payload.winner}" if payload.winner else ""
    return Problem("rejected", f"event {payload.event} was refused", why=why, next_step=payload.next_step, details=told)


def _not_let_in(payload: PromotionRefused) -> Problem:
    """What the registry's gates said no to; the version is on the nodes, and not served."""
    from fleetcast.cli.registry.asking import reasons

    return Problem(
        "gates" if payload.gates else "refused",
        f"{payload.model}@{payload.version} does not go to {payload.stage}: {payload.reason}",
        why=reasons(payload.gates),
        next_step=payload.next_step or f"fleetcast promote {payload.model} {payload.version} --dry-run",
        exit_code=Exit.REFUSED,
        details={"gates": [g.model_dump(mode="json") for g in payload.gates], "n": payload.n},
    )


def _overtaken(model: str, version: str, event: str) -> Problem:
    return Problem(
        "superseded",
        f"another promotion of {model} came after this one",
        why=f"{model}@{version} is ordered now, by event {event}",
        next_step=f"fleetcast why {event}",
    )


def talker(out: Output) -> Changed:
    """Says on stderr how far it is, once for every change of state; percents alone are no news."""
    last = ""

    def say(progress: Rollout | None) -> None:
        nonlocal last
        words = sentence(progress)
        news = _PERCENT.sub("", words)
        if news != last:
            out.say(words)
            last = news

    return say


def sentence(progress: Rollout | None) -> str:
    """`hex8@43: 2 of 3 nodes; node-3: fetching 40 %`."""
    if progress is None:
        return "waiting for the slot order"
    behind = "; ".join(f"{each.node}: {each.reason}" for each in progress.behind)
    done = f"{progress.model}@{progress.version}: {len(progress.ready)} of {progress.wanted} nodes"
    return f"{done}; {behind}" if behind else done
