"""Transitions on a real server: one winner, one record, one answer, whatever is lost in between."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from fleetcast.bus import Bus, connect
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy, fast_settings
from fleetcast.daemons.registry.desk import TransitionDesk
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.envelope import parse
from fleetcast.events.lifecycle import EntryState, StageName, entry_subject
from fleetcast.events.payloads import Endpoints, Origin
from fleetcast.events.state import Cause, VersionState, slot_subject
from fleetcast.registry import Registry
from fleetcast.registry.commands import Answer, AnyCommand, Describe, FlagSet, Freeze, Promote, Reserve, Transition
from fleetcast.registry.engine import Engine
from fleetcast.registry.gates.policy import Policy
from fleetcast.registry.ledger import Change, Committed, Ledger
from fleetcast.registry.transitions.view import Readiness

pytestmark = pytest.mark.asyncio


def ready_everywhere(_model: str, _artifact: str) -> Readiness:
    return Readiness(1, 1, ("n1",))


def engine_on(bus: Bus) -> Engine:
    return Engine(bus, policy=Policy.default, readiness=ready_everywhere, ledger=Ledger(bus))


@pytest.fixture
def engine(bus: Bus) -> Engine:
    return engine_on(bus)


def version(number: int) -> VersionState:
    file = ContentFile(path="m.pt", size=number, sha256="0" * 64, pieces_root="0" * 64)
    content = Content(kind=Kind.MODEL, format=Format.OPAQUE, files=(file,))
    return VersionState(
        model="m",
        version=str(number),
        artifact=content.artifact,
        content=content,
        origin=Origin(node="n1", endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=Cause(event=f"e{number}", sequence=number, by="/test", correlation="c"),
        at="2026-11-20T10:00:00.000Z",
    )


async def ask(engine: Engine, command: AnyCommand, request: str = "", reason: str | None = "because") -> Answer:
    fields: dict[str, object] = {"request": request} if request else {}
    return await engine.handle(
        Transition.model_validate({"actor": "/t", "reason": reason, "command": command} | fields)
    )


async def told_in(bus: Bus, last: str) -> list[str]:
    """Names of the events in FC_EVENTS, once the first *last* is among them."""
    names: list[str] = []
    async with asyncio.timeout(30):
        async for entry in bus.tail("FC_EVENTS", [], follow=True):
            names.append(parse(entry.data, subject=entry.subject, headers=entry.headers).type.name)
            if names[-1] == last:
                return names
    raise AssertionError("unreachable")


async def reserve(engine: Engine, *numbers: int) -> None:
    for number in numbers:
        await ask(engine, Reserve(state=version(number)))


def promote(number: int, generation: int | None = None) -> Promote:
    return Promote(model="m", version=str(number), expected_generation=generation)


async def test_a_transition_is_state_record_and_facts_in_one_batch(bus: Bus, engine: Engine) -> None:
    await reserve(engine, 1)
    answer = await ask(engine, promote(1))

    registry = Registry(bus)
    slot = await registry.slot("m")
    assert slot is not None
    assert slot.generation == answer.generation == 1
    *_, record = await registry.history("m")
    assert (record.n, record.action, record.actor, record.reason) == (answer.n, "slot.ordered", "/t", "because")
    assert record.evidence is not None
    told = await told_in(bus, "rollout.changed")
    assert {"slot.ordered", "stage.changed", "rollout.changed"} <= set(told)
    assert await registry.broken_links("m") == []
    # All of it came with one batch: nothing of it is older than the record, or newer than the answer.
    entry = await bus.last("FC_REGISTRY", slot_subject("m"))
    assert entry is not None
    assert entry.sequence <= answer.sequence


async def test_of_a_hundred_promoters_at_once_one_wins_and_the_others_are_told_who(
    bus: Bus, engine: Engine, server: LocalServer, stack: AsyncExitStack
) -> None:
    second = await stack.enter_async_context(connect(fast_settings(server.url), node="n2", daemon="registry"))
    engines = [engine, engine_on(second)]
    await reserve(engine, *range(1, 101))

    answers = await asyncio.gather(*(ask(engines[n % 2], promote(n, generation=0)) for n in range(1, 101)))

    kinds = Counter(a.outcome for a in answers)
    assert kinds == {"done": 1, "conflict": 99}
    [winner] = [a for a in answers if a.outcome == "done"]
    assert all(f"m@{winner.version}, generation 1" in a.winner for a in answers if a.outcome == "conflict")
    registry = Registry(bus)
    slot = await registry.slot("m")
    assert slot is not None
    assert slot.production is not None
    assert (slot.generation, slot.production.version) == (1, winner.version)
    assert len(await registry.history("m")) == 101
    assert await registry.broken_links("m") == []


async def test_the_same_request_again_has_the_same_answer_and_changes_nothing(bus: Bus, engine: Engine) -> None:
    await reserve(engine, 1, 2)
    first = await ask(engine, promote(1), request="r1")
    await ask(engine, promote(2))

    again = await ask(engine, promote(1), request="r1")

    assert again.repeated
    assert (again.outcome, again.generation, again.n) == (first.outcome, first.generation, first.n)
    slot = await Registry(bus).slot("m")
    assert slot is not None
    assert slot.generation == 2


async def test_a_transition_whose_answer_is_lost_is_carried_out_once(
    bus: Bus, engine: Engine, server: LocalServer, stack: AsyncExitStack
) -> None:
    await reserve(engine, 1)
    async with Proxy(server.port) as proxy:
        settings = fast_settings(proxy.url, request_timeout_seconds=0.4)
        flaky = engine_on(await stack.enter_async_context(connect(settings, node="n2", daemon="registry")))
        proxy.lose(b'"batch":')
        answer = await ask(flaky, promote(1))

        assert proxy.lost == 1
        assert (answer.outcome, answer.repeated, answer.generation) == ("done", False, 1)
        assert [r.action for r in await Registry(bus).history("m")] == ["version.reserved", "slot.ordered"]
        await stack.aclose()


async def promoted_while_frozen(bus: Bus, engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What becomes of a promotion that was decided before a freeze, and is written after it."""
    await reserve(engine, 1, 2)
    await ask(engine, promote(1))
    decided, commit = asyncio.Event(), ledger.commit

    async def late(change: Change) -> Committed:
        if not decided.is_set():
            decided.set()
            await ask(engine, Freeze(model="m"))
        return await commit(change)

    monkeypatch.setattr(ledger, "commit", late)
    promoter = Engine(bus, policy=Policy.default, readiness=ready_everywhere, ledger=ledger)
    return await ask(promoter, promote(2))


async def test_what_a_decision_has_read_must_hold_when_it_is_written(
    bus: Bus, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await promoted_while_frozen(bus, engine, Ledger(bus), monkeypatch)

    assert (answer.outcome, answer.code) == ("refused", "frozen")
    slot = await Registry(bus).slot("m")
    assert slot is not None
    assert slot.generation == 1


async def test_a_chain_that_is_read_last_would_let_a_promotion_through_a_freeze(
    bus: Bus, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: the end of the chain is read when the decision is written, not before it is made."""

    class Careless(Ledger):
        async def commit(self, change: Change) -> Committed:
            return await super().commit(replace(change, chain=await self.chain(change.model)))

    answer = await promoted_while_frozen(bus, engine, Careless(bus), monkeypatch)

    assert answer.outcome == "done"


async def test_what_is_said_by_two_at_once_is_all_kept(bus: Bus, engine: Engine) -> None:
    await reserve(engine, 1)
    said = [Describe(model="m", version="1", flags={f"flag_{n}": FlagSet(value=True)}) for n in range(10)]

    answers = await asyncio.gather(*(ask(engine_on(bus), command) for command in said))

    assert all(a.accepted for a in answers)
    entry = await Ledger(bus).find(entry_subject("m", "1"), EntryState)
    assert entry.value is not None
    assert len(entry.value.flags) == 10
    assert sorted(a.n for a in answers) == list(range(2, 12))


async def test_a_dry_run_answers_and_writes_nothing(bus: Bus, engine: Engine) -> None:
    await reserve(engine, 1)
    before = await bus.last_sequence("FC_REGISTRY")
    transition = Transition(actor="/t", dry_run=True, command=promote(1))

    answer = await engine.handle(transition)

    assert (answer.outcome, answer.dry_run, answer.n) == ("done", True, 0)
    assert await bus.last_sequence("FC_REGISTRY") == before


async def test_a_version_that_an_origin_wrote_itself_can_be_promoted(bus: Bus, engine: Engine) -> None:
    await Registry(bus).reserve_version(version(7), request="r", actor="/origin")

    answer = await ask(engine, promote(7))

    assert answer.outcome == "done"
    entry = await Ledger(bus).find(entry_subject("m", "7"), EntryState)
    assert entry.value is not None
    assert entry.value.stage is StageName.PRODUCTION


async def test_requests_that_are_none_are_refused_with_the_field(engine: Engine) -> None:
    desk = TransitionDesk(engine)
    for body, expected in (
        (b"{}", "actor"),
        (b'{"actor":"a","command":{"do":"promote","model":"m"}}', "version"),
        (b'{"actor":"a","command":{"do":"advance","model":"m","rollout":"r","step":"halt"}}', "only a registry daemon"),
        (b"not json", "JSON"),
    ):
        with pytest.raises(Exception, match=expected):
            await desk.answer(body)
