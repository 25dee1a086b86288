"""Incidents on a real server: one of each kind however many desks there are, whatever is said twice, and through a
crash in the middle."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fleetcast.bus import BatchMessage, Bus, connect, declare
from fleetcast.bus.errors import OutcomeUnknown
from fleetcast.bus.server import LocalServer
from fleetcast.bus.services import ServiceError
from fleetcast.bus.streams import EVENTS
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.client.ulid import new_ulid
from fleetcast.config.incidents import IncidentSettings
from fleetcast.daemons.remedy.incidents import IncidentDesk, rules
from fleetcast.daemons.remedy.incidents.commands import IncidentAnswer
from fleetcast.daemons.remedy.ledger import RemedyLedger
from fleetcast.events.envelope import new_event, parse
from fleetcast.events.incidents import IncidentCleared, IncidentPhase, IncidentRaised, IncidentState, Severity
from fleetcast.events.payloads import DaemonState, Payload
from fleetcast.events.state import NodeStatus

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMIT_SECONDS = 60.0

Opened = Callable[..., Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalServer]:
    folder: Path = tmp_path_factory.mktemp("nats")
    async with nats_server(folder) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(server: LocalServer) -> AsyncIterator[Bus]:
    async with connect(fast_settings(server.url), node="n1", daemon="test") as made:
        await declare(made, 1)
        yield made


@asynccontextmanager
async def desk(server: LocalServer, node: str, **changes: Any) -> AsyncIterator[IncidentDesk]:
    """A desk at work, as a remedy daemon composes it."""
    quick = {"hold_down_seconds": 0.4, "look_seconds": 0.1, "settle_seconds": 0.0, "node_lost_seconds": 600.0}
    settings = IncidentSettings(**{**quick, **changes})
    async with connect(fast_settings(server.url), node=node, daemon="remedy") as own:
        made = IncidentDesk(own, RemedyLedger(own), settings)
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(made.run())
            await made.known.wait()
            yield made
            work.cancel()


async def until(said: str, condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            found = await condition()
            if found:
                return found
            await asyncio.sleep(0.02)
    raise AssertionError(said)


def wrong(model: str, severity: Severity = Severity.MEDIUM, trigger: str = "error_rate") -> IncidentRaised:
    return IncidentRaised(
        source="test",
        resource_id=model,
        version="7",
        trigger=trigger,
        severity=severity,
        title=f"{model}@7 fails",
        context={"reasons": ["error rate 8.50 %, limit 5 %"]},
    )


def over(model: str, trigger: str = "error_rate") -> IncidentCleared:
    return IncidentCleared(source="test", resource_id=model, version="7", trigger=trigger, reason="0.8 % again")


async def say(bus: Bus, payload: Payload, event_id: str | None = None) -> str:
    event = new_event(payload, source="/fleet/n1/test", event_id=event_id)
    await bus.publish(event)
    return event.id


async def ask(made: IncidentDesk, **request: Any) -> IncidentAnswer:
    return IncidentAnswer.model_validate_json(await made.answer(json.dumps(request).encode()))


async def kept(made: IncidentDesk, model: str) -> list[IncidentState]:
    return list((await ask(made, ask="list", ended=True, resource=model)).incidents)


async def facts(bus: Bus, model: str) -> list[tuple[str, str]]:
    """What the fleet was told, in order: `opened`, and the kind of every change."""
    told = []
    async for entry in bus.tail(EVENTS, (f"fc.ev.incident.opened.{model}", f"fc.ev.incident.changed.{model}")):
        event = parse(entry.data, subject=entry.subject, headers=entry.headers, sequence=entry.sequence)
        told.append((event.payload.incident, getattr(event.payload, "what", "opened")))  # type: ignore[attr-defined]
    return told


async def test_an_incident_lives_from_its_first_evidence_to_its_end_with_its_times(
    server: LocalServer, bus: Bus
) -> None:
    async with desk(server, "r1") as made:
        await say(bus, wrong("life"))
        (state,) = await until("opened", lambda: kept(made, "life"))
        acked = await ask(made, ask="ack", incident=state.incident[4:], actor="ana", reason="looking")
        assert acked.outcome == "done"
        await made.incidents.note(
            state.incident, "rollback", "playbook", "going back", IncidentPhase.MITIGATING, run="r1"
        )
        await made.incidents.note(state.incident, "rollback", "playbook", "3 of 3 serve 6", IncidentPhase.MITIGATED)
        await say(bus, over("life"))

        async def resolved() -> IncidentState | None:
            (now,) = await kept(made, "life")
            return now if now.phase is IncidentPhase.RESOLVED else None

        ended = await until("resolved", resolved)
        told = await until("told", lambda: _whole(bus, "life", "resolved"))
    assert [what for _, what in told] == ["opened", "acknowledged", "mitigating", "mitigated", "resolved"]
    assert {incident for incident, _ in told} == {state.incident}
    times = rules.times(ended)
    assert times.mitigate_seconds is not None
    assert times.resolve_seconds is not None
    assert 0 <= times.detect_seconds <= times.mitigate_seconds <= times.resolve_seconds - 0.4
    assert ended.runs == ("r1",)


async def _whole(bus: Bus, model: str, last: str) -> list[tuple[str, str]] | None:
    told = await facts(bus, model)
    return told if told and told[-1][1] == last else None


async def test_two_desks_make_one_incident_of_what_is_said_again_and_again(server: LocalServer, bus: Bus) -> None:
    async with desk(server, "r1") as first, desk(server, "r2") as second:
        ids = [await say(bus, wrong("twice")) for _ in range(20)]
        # As a consumer that was made anew would bring them once more, past the server's own removal of duplicates.
        again = [say_again(first if n % 2 else second, "twice", each, n) for n, each in enumerate(ids)]

        async def all_counted() -> bool:
            found = await kept(first, "twice")
            return bool(found) and found[0].occurrences == 20

        await until("counted", all_counted)
        await asyncio.gather(*again)
        (state,) = await kept(second, "twice")
    assert state.occurrences == 20
    assert [what for _, what in await facts(bus, "twice")] == ["opened"]


async def say_again(made: IncidentDesk, model: str, event_id: str, number: int) -> None:
    said = rules.Said(id=event_id, correlation=event_id, at=made.clock.now(), by="test", sequence=number + 1)
    await made.incidents.take(rules.Raised(about=wrong(model), said=said))


class Deaf(RemedyLedger):
    """A ledger whose answers are lost: what it wrote is there, and it does not know."""

    lost = 0

    async def write(self, states: Any, facts: Any = ()) -> int:
        sequence = await super().write(states, facts)
        if self.lost == 0:
            self.lost += 1
            raise OutcomeUnknown("the connection broke before the answer")
        return sequence


class Careless(RemedyLedger):
    """The broken variant: it writes without looking whether somebody else wrote meanwhile, facts under ids that are
    new every time."""

    async def write(self, states: Any, facts: Any = ()) -> int:
        blind = [BatchMessage(each.subject, each.data, None, each.headers) for each in states]
        told = [self.fact_message(new_event(each.payload, source="/fleet/n1/remedy")) for each in facts]
        return await self.bus.batch([*blind, *told])


async def test_an_answer_that_is_lost_opens_nothing_twice(bus: Bus) -> None:
    made = IncidentDesk(bus, Deaf(bus), IncidentSettings())
    await made.clock.ask()
    said = rules.Said(id=new_ulid(), correlation="c", at=made.clock.now(), by="test", sequence=5)
    state = await made.incidents.take(rules.Raised(about=wrong("deaf"), said=said))
    assert state is not None
    assert state.occurrences == 1
    assert [what for _, what in await until("told", lambda: facts(bus, "deaf"))] == ["opened"]


@pytest.mark.parametrize(("kind", "opened"), [(RemedyLedger, 1), (Careless, 8)], ids=["as it is", "broken variant"])
async def test_desks_that_take_the_same_event_at_once_tell_of_it_once(
    bus: Bus, kind: type[RemedyLedger], opened: int
) -> None:
    model = kind.__name__.lower()
    desks = [IncidentDesk(bus, kind(bus), IncidentSettings()) for _ in range(8)]
    said = rules.Said(id=new_ulid(), correlation="c", at=desks[0].clock.now(), by="test", sequence=9)
    news = rules.Raised(about=wrong(model), said=said)
    await asyncio.gather(*(each.incidents.take(news) for each in desks))

    async def told() -> bool:
        return len(await facts(bus, model)) >= opened

    await until("told", told)
    assert [what for _, what in await facts(bus, model)] == ["opened"] * opened


async def test_a_desk_that_dies_with_an_event_in_hand_leaves_it_to_the_next(server: LocalServer, bus: Bus) -> None:
    in_hand = asyncio.Event()

    class Dying(RemedyLedger):
        async def write(self, states: Any, facts: Any = ()) -> int:
            in_hand.set()
            return await asyncio.Future[int]()

    async with connect(fast_settings(server.url), node="r3", daemon="remedy") as own:
        made = IncidentDesk(own, Dying(own), IncidentSettings())
        work = asyncio.create_task(made.run())
        await say(bus, wrong("orphan"))
        async with asyncio.timeout(LIMIT_SECONDS):
            await in_hand.wait()
        work.cancel()
        await asyncio.wait([work])
    assert await facts(bus, "orphan") == []
    async with desk(server, "r4") as heir:
        (state,) = await until("opened", lambda: kept(heir, "orphan"))
        assert state.occurrences == 1
        await until("told", lambda: facts(bus, "orphan"))
    assert [what for _, what in await facts(bus, "orphan")] == ["opened"]


async def test_what_is_raised_again_soon_is_the_same_incident_and_later_another_one(
    server: LocalServer, bus: Bus
) -> None:
    async def phase(made: IncidentDesk, model: str, wanted: IncidentPhase) -> list[IncidentState]:
        found = await kept(made, model)
        return found if found and wanted in {each.phase for each in found} else []

    for model, window, count in (("soon", 600.0, 1), ("late", 0.0, 2)):
        async with desk(server, "r1", reopen_seconds=window, hold_down_seconds=0.1) as made:
            await say(bus, wrong(model))
            await say(bus, over(model))
            await until("resolved", lambda: phase(made, model, IncidentPhase.RESOLVED))  # noqa: B023
            await say(bus, wrong(model))
            found = await until("open", lambda: phase(made, model, IncidentPhase.OPEN))  # noqa: B023
            assert len(found) == count
            assert found[0].reopened == (1 if count == 1 else 0)
            for each in found:
                assert (await ask(made, ask="get", incident=each.incident)).incidents == (each,)


async def test_a_silence_holds_for_what_is_open_and_what_comes_and_ends_by_itself(
    server: LocalServer, bus: Bus
) -> None:
    async with desk(server, "r1") as made:
        await say(bus, wrong("hushed"))
        await until("opened", lambda: kept(made, "hushed"))
        answer = await ask(made, ask="silence", resource="hush*", seconds=1.5, actor="ana", reason="known")
        (silence,) = answer.silences
        assert "1 open incident silenced" in answer.message
        await say(bus, wrong("hushed", trigger="latency_p95"))
        both = await until("both", lambda: _many(made, "hushed", 2))
        assert {each.silenced_by for each in both} == {silence.silence}

        async def told_again() -> bool:
            return not any(each.silenced for each in await kept(made, "hushed"))

        await until("told again", told_again)
        assert (await ask(made, ask="silences")).silences == ()
        assert len((await ask(made, ask="silences", ended=True)).silences) >= 1
    told = await until("told", lambda: _whole(bus, "hushed", "unsilenced"))
    assert [what for _, what in told].count("unsilenced") == 2


async def _many(made: IncidentDesk, model: str, count: int) -> list[IncidentState]:
    found = await kept(made, model)
    return found if len(found) == count else []


async def test_a_node_that_falls_silent_is_lost_and_one_that_stops_in_order_is_not(
    server: LocalServer, bus: Bus
) -> None:
    async def beat(node: str, state: DaemonState = DaemonState.READY) -> None:
        status = NodeStatus.model_validate(
            {"node": node, "daemon": "distributor", "version": "0.1.0", "state": state, "status": "well", "pid": 1}
            | {"started_at": "2026-11-21T09:30:00Z", "data": "/d", "endpoints": {}, "wants": {}, "labels": {}}
            | {"at": "2026-11-21T09:30:00Z"}
        )
        await bus.kv_put("fc_nodes", f"{node}.distributor", status.model_dump_json().encode())

    async with desk(server, "r1", node_lost_seconds=1.0) as first, desk(server, "r2", node_lost_seconds=1.0):
        await beat("gone-1")
        await beat("gone-2", DaemonState.STOPPED)
        (state,) = await until("lost", lambda: kept(first, "gone-1"))
        assert (state.trigger, state.severity) == ("node_lost", Severity.HIGH)
        assert "no heartbeat for" in state.context["reasons"][0]
        assert (await ask(first, ask="list", node="gone-*")).incidents == (state,)
        await beat("gone-1", DaemonState.STOPPED)

        async def resolved() -> bool:
            (now,) = await kept(first, "gone-1")
            return now.phase is IncidentPhase.RESOLVED and now.occurrences == 1

        await until("back", resolved)
        assert await kept(first, "gone-2") == []
    told = await until("told", lambda: _whole(bus, "gone-1", "resolved"))
    assert [what for _, what in told] == ["opened", "mitigated", "resolved"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Invalid JSON"),
        (b'{"ask":"dance"}', "dance"),
        (b'{"ask":"ack","incident":"inc-1","actor":"ana"}', "reason"),
        (b'{"ask":"silence","seconds":60,"actor":"ana","reason":"r"}', "names a resource, a node or a trigger"),
        (b'{"ask":"silence","resource":"*","seconds":-1,"actor":"ana","reason":"r"}', "seconds"),
    ],
)
async def test_a_request_that_is_none_is_refused_with_what_is_wrong(bus: Bus, body: bytes, says: str) -> None:
    made = IncidentDesk(bus, RemedyLedger(bus), IncidentSettings())
    with pytest.raises(ServiceError) as refused:
        await made.answer(body)
    assert refused.value.code == 400
    assert says in refused.value.description


async def test_an_incident_that_is_not_there_is_said_to_be_unknown(bus: Bus) -> None:
    made = IncidentDesk(bus, RemedyLedger(bus), IncidentSettings())
    answer = await ask(made, ask="ack", incident="inc-nothing", actor="ana", reason="r")
    assert (answer.outcome, answer.next_step) == ("unknown", "fleetcast incidents --all")
    assert (await ask(made, ask="unsilence", silence="sil-none", actor="ana", reason="r")).outcome == "unknown"
