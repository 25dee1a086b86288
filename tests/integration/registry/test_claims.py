"""What a lane's run asks of the registry counts under the claim that holds the run, and under no other."""

import os
from datetime import UTC, datetime

import pytest

from fleetcast.bus import Bus
from fleetcast.bus.streams import TRAINING
from fleetcast.daemons.registry.desk import TransitionDesk
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import EntryState, entry_subject
from fleetcast.events.names import TRAINING_PREFIX
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import Cause, VersionState
from fleetcast.events.training import TrainingPhase, TrainingRunState, training_subject
from fleetcast.registry.book import Book, stored
from fleetcast.registry.commands import Answer, AnyCommand, Describe, Promote, Reserve, Transition, stamp
from fleetcast.registry.engine import Engine
from fleetcast.registry.fencing import Fence, Speech, Stale
from fleetcast.registry.gates.policy import Policy
from fleetcast.registry.ledger import Ledger
from fleetcast.registry.transitions.view import Readiness

pytestmark = pytest.mark.asyncio

RUN = "hex8-0123456789abcdef0123"


class Open(Fence):
    """No fence: whoever speaks is believed."""

    async def check_speech(self, said: Speech | None) -> Stale | None:
        return None

    async def commit_speech(self, said: Speech | None) -> Stale | None:
        return None


def desk_on(bus: Bus, fence: Fence | None = None) -> TransitionDesk:
    readiness = Readiness(1, 1, ("n1",))
    return TransitionDesk(
        Engine(bus, policy=Policy.default, readiness=lambda *_: readiness, ledger=Ledger(bus), fence=fence)
    )


async def held(bus: Bus, claim: int, phase: TrainingPhase = TrainingPhase.RUNNING) -> None:
    """Have a node hold the run under a claim."""
    book = Book(bus, TRAINING, TRAINING_PREFIX)
    found = await book.find(training_subject(RUN), TrainingRunState)
    at = stamp(datetime.now(UTC))
    cause = Cause(event="export-1", sequence=0, by="/test", correlation="export-1")
    fresh = TrainingRunState(run=RUN, lane="hex8", model="m", created_at=at, at=at, cause=cause)
    update = {"claim": claim, "owner": f"gpu-{claim}", "phase": phase, "phase_detail": "ann cancelled it: why"}
    run = (found.value or fresh).model_copy(update=update)
    await book.write([stored(training_subject(RUN), run, found.sequence)])


async def run_of(bus: Bus) -> TrainingRunState:
    found = await Book(bus, TRAINING, TRAINING_PREFIX).find(training_subject(RUN), TrainingRunState)
    assert found.value is not None
    return found.value


async def owner_of(bus: Bus) -> str | None:
    """Who is said to own m@1."""
    found = await Ledger(bus).find(entry_subject("m", "1"), EntryState)
    assert found.value is not None
    return found.value.facts.owner


async def ask(
    desk: TransitionDesk, command: AnyCommand, claim: int | None, request: str, *, dry_run: bool = False
) -> Answer:
    fields = {"run_id": RUN, "claim": claim, "request": request, "dry_run": dry_run}
    said = Transition.model_validate({"actor": "/job", "command": command, **fields})
    return Answer.model_validate_json(await desk.answer(said.model_dump_json(by_alias=True).encode()))


async def registered(desk: TransitionDesk) -> None:
    file = ContentFile(path="m.pt", size=1, sha256="0" * 64, pieces_root="0" * 64)
    content = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    state = VersionState(
        model="m",
        version="1",
        artifact=content.artifact,
        content=content,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=Cause(event="e1", sequence=1, by="/test", correlation="c"),
        at="2026-11-20T10:00:00.000Z",
    )
    await desk.handle(Transition(actor="/test", command=Reserve(state=state)))


def owned_by(name: str) -> Describe:
    return Describe.model_validate({"model": "m", "version": "1", "facts": {"owner": name}})


@pytest.mark.parametrize("fenced", [True, pytest.param(False, marks=pytest.mark.soak)])
async def test_a_job_whose_run_another_node_has_meanwhile_changes_nothing_and_is_told_who(
    bus: Bus, fenced: bool
) -> None:
    desk = desk_on(bus, None if fenced else Open(bus))
    await registered(desk)
    await held(bus, 1)
    first = await ask(desk, owned_by("first"), 1, "q1")
    assert (first.outcome, await owner_of(bus)) == ("done", "first")
    await held(bus, 2)
    # The job of claim 1 was stalled, and goes on.
    late = await ask(desk, owned_by("late"), 1, "q2")
    assert (await owner_of(bus) == "first") is fenced, "without the fence it has its effect"
    if fenced:
        assert (late.outcome, late.code, late.winner) == ("refused", "claim", "claim 2 on gpu-2")
        assert late.message == f"claim 1 of run {RUN} is over"
        assert (await ask(desk, owned_by("second"), 2, "q3")).outcome == "done"


async def test_what_was_decided_under_a_claim_has_the_same_answer_after_it(bus: Bus) -> None:
    desk = desk_on(bus)
    await registered(desk)
    await held(bus, 1)
    promote = Promote(model="m", version="1")
    first = await ask(desk, promote, 1, "q1")
    await held(bus, 2)
    again = await ask(desk, promote, 1, "q1")
    assert (again.repeated, again.outcome, again.generation) == (True, first.outcome, first.generation)
    assert [(commit.what, commit.event) for commit in (await run_of(bus)).commits] == [("promote m 1", "q1")]


async def test_a_look_at_what_would_be_notes_nothing_and_is_fenced_too(bus: Bus) -> None:
    desk = desk_on(bus)
    await registered(desk)
    await held(bus, 2)
    assert (await ask(desk, Promote(model="m", version="1"), 2, "q1", dry_run=True)).outcome == "done"
    assert (await run_of(bus)).commits == ()
    stale = await ask(desk, Promote(model="m", version="1"), 1, "q2", dry_run=True)
    assert (stale.outcome, stale.code, stale.dry_run) == ("refused", "claim", True)


@pytest.mark.parametrize("claim", [1, None])
async def test_a_run_that_was_cancelled_asks_in_vain(bus: Bus, claim: int | None) -> None:
    desk = desk_on(bus)
    await registered(desk)
    await held(bus, 1, TrainingPhase.CANCELLED)
    answer = await ask(desk, owned_by("late"), claim, "q1")
    assert (answer.outcome, answer.winner) == ("refused", "nobody: ann cancelled it: why")
    assert await owner_of(bus) is None


async def test_who_asks_in_no_run_s_name_is_fenced_by_nothing(bus: Bus) -> None:
    assert "FLEETCAST_CLAIM" not in os.environ
    desk = desk_on(bus)
    await registered(desk)
    await held(bus, 2)
    await desk.handle(Transition(actor="/ann", command=owned_by("ann")))
    assert await owner_of(bus) == "ann"
