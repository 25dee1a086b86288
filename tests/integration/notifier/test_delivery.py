"""From facts on a real bus to real servers: nothing is lost and nothing is said twice that need not be, whoever is down
or dies."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.integration.notifier.rig import (
    NotifierProcess,
    about,
    fresh,
    notifier,
    publish,
    raise_incident,
    resolve,
    settings,
    webhook,
)
from tests.integration.notifier.servers import HttpServer, hang_up, running, too_many, wait_for_ever
from tests.unit.notifier.builders import changed, opened

from fleetcast.bus import Bus
from fleetcast.bus.server import LocalServer
from fleetcast.events.envelope import Event, parse
from fleetcast.events.incidents import IncidentCleared, IncidentRaised
from fleetcast.events.notices import NotificationFailed

pytestmark = pytest.mark.asyncio


async def events(bus: Bus, key: str) -> list[Event]:
    found = []
    async for entry in bus.tail("FC_EVENTS", (f"fc.ev.*.*.{key}",)):
        found.append(parse(entry.data, subject=entry.subject, headers=entry.headers))  # noqa: PERF401 -- async
    return found


async def test_incident_reaches_its_channel_and_so_does_its_end(server: LocalServer, bus: Bus) -> None:
    target, name = HttpServer(), fresh("team")
    async with running(target), notifier(server, settings({name: webhook(target)})) as rig:
        incident = await raise_incident(bus)
        await target.until(lambda: len(target.accepted) == 1)
        await resolve(bus, incident)
        await target.until(lambda: len(target.accepted) == 2)
        await rig.until_told(name)

    first, last = (request.document for request in target.accepted)
    assert (first["about"], first["counts"]) == ([incident], {"opened": 1})
    assert first["topics"][0]["commands"]["act"] == f"fleetcast rollback {incident} --reason {incident}"
    assert (last["about"], last["counts"]) == ([incident], {"resolved": 1})
    assert rig.state(name)["sent"] == 2


async def test_storm_of_incidents_is_a_few_messages(server: LocalServer, bus: Bus) -> None:
    target, name = HttpServer(), fresh("team")
    chosen = settings({name: webhook(target)}, group_wait_seconds=1.0, group_interval_seconds=1.0)
    async with running(target), notifier(server, chosen) as rig:
        names = await asyncio.gather(*(raise_incident(bus) for _ in range(60)))
        await rig.until(lambda: set(about(target)) >= set(names))
        await rig.until_told(name)

    assert Counter(about(target)) == Counter(names)
    # A slow machine may need some intervals to take them in; one message each would be 60.
    assert len(target.accepted) < 20


@pytest.mark.parametrize("fault", [500, 503, hang_up, too_many("0")])
async def test_message_is_delivered_once_its_server_is_well_again(fault: Any, server: LocalServer, bus: Bus) -> None:
    target, name = HttpServer(), fresh("team")
    target.script = [fault, fault]
    async with running(target), notifier(server, settings({name: webhook(target)})) as rig:
        incident = await raise_incident(bus)
        await rig.until(lambda: about(target) == [incident])
        await rig.until_told(name)

    ids = {request.document["id"] for request in target.received}
    assert len(target.received) == 3
    assert len(ids) == 1, "each attempt is the same message"
    assert rig.state(name)["state"] == "ok"


async def test_server_that_asks_for_time_is_left_alone_for_it(server: LocalServer, bus: Bus) -> None:
    target, name = HttpServer(), fresh("team")
    target.script = [too_many("1")]
    times = []
    async with running(target), notifier(server, settings({name: webhook(target)})) as rig:
        loop = asyncio.get_running_loop()
        await raise_incident(bus)
        for count in (1, 2):
            await target.until(lambda count=count: len(target.received) == count)  # type: ignore[misc]
            times.append(loop.time())
        await rig.until_told(name)

    assert times[1] - times[0] > 0.9


async def test_channel_that_is_down_holds_up_no_other(server: LocalServer, bus: Bus) -> None:
    well, ill = HttpServer(), HttpServer()
    ill.usually = wait_for_ever
    good, bad = fresh("good"), fresh("bad")
    chosen = settings({good: webhook(well), bad: webhook(ill)})
    async with running(well), running(ill), notifier(server, chosen) as rig:
        names = [await raise_incident(bus) for _ in range(3)]
        await rig.until(lambda: set(about(well)) >= set(names))
        await rig.until_told(good)

        assert rig.state(bad)["under_way"]


async def test_server_that_was_away_gets_everything_that_happened(server: LocalServer, bus: Bus) -> None:
    target, name = HttpServer(), fresh("team")
    async with running(target):
        await target.stop()
        async with notifier(server, settings({name: webhook(target)})) as rig:
            names = [await raise_incident(bus) for _ in range(5)]
            await rig.until(lambda: rig.state(name)["attempts"] >= 2)
            assert rig.state(name)["state"] == "failing"
            await target.start()
            await rig.until(lambda: set(about(target)) >= set(names))
            await rig.until_told(name)

    assert Counter(about(target)) == Counter(names)


async def test_message_that_is_given_up_is_parked_told_and_raises_an_incident_until_it_works_again(
    server: LocalServer, bus: Bus
) -> None:
    target, name = HttpServer(), fresh("team")
    async with running(target):
        target.usually = 500
        chosen = settings({name: webhook(target)}, give_up_seconds=0.3, alarm_seconds=0.1)
        async with notifier(server, chosen) as rig:
            lost = await raise_incident(bus)
            await rig.until(lambda: rig.state(name)["parked"] == 1)
            target.usually = 200
            kept = await raise_incident(bus)
            await rig.until(lambda: kept in about(target))
            await rig.until_told(name)
            box = rig.ledger.outbox
            await rig.until(lambda: not (box(name).value or rig).raised)  # type: ignore[union-attr]

    told = await events(bus, name)
    failed = [each.payload for each in told if isinstance(each.payload, NotificationFailed)]
    assert [each.about for each in failed] == [(lost,)]
    assert sum(isinstance(each.payload, IncidentRaised) for each in told) == 1
    assert sum(isinstance(each.payload, IncidentCleared) for each in told) == 1
    assert rig.state(name)["parked_messages"][0]["about"] == [lost]
    assert "could not be delivered here" in target.accepted[0].document["notes"][0]


async def test_refused_message_is_parked_and_the_next_one_goes_out(server: LocalServer, bus: Bus) -> None:
    target, name = HttpServer(), fresh("team")
    target.script = [400]
    async with running(target), notifier(server, settings({name: webhook(target)})) as rig:
        await raise_incident(bus)
        await rig.until(lambda: rig.state(name)["parked"] == 1)
        following = await raise_incident(bus)
        await rig.until_told(name)
        await rig.until(lambda: about(target) == [following])


async def test_two_notifiers_say_everything_once(server: LocalServer, bus: Bus) -> None:
    target, name = HttpServer(), fresh("team")
    chosen = settings({name: webhook(target)})
    async with (
        running(target),
        notifier(server, chosen, node="n1") as one,
        notifier(server, chosen, node="n2") as two,
    ):
        names = [await raise_incident(bus) for _ in range(12)]
        await one.until(lambda: set(about(target)) >= set(names))
        await one.until_told(name)
        await two.until_told(name)

    assert Counter(about(target)) == Counter(names)
    assert one.state(name)["sent"] == two.state(name)["sent"] == len(target.accepted)


async def test_bus_that_goes_away_while_a_message_is_under_way_makes_no_second_one(
    server: LocalServer, bus: Bus
) -> None:
    target, name = HttpServer(), fresh("team")
    go = asyncio.Event()

    async def hold(held: HttpServer, request: Any, writer: Any) -> None:
        from tests.integration.notifier.servers import answer

        await go.wait()
        held.accepted.append(request)
        await answer(writer, 200)

    target.script = [hold]
    async with running(target), notifier(server, settings({name: webhook(target)})) as rig:
        incident = await raise_incident(bus)
        await target.until(lambda: len(target.received) == 1)
        await server.kill_async()
        go.set()
        await target.until(lambda: len(target.accepted) == 1)
        await server.start_async()
        await rig.until_told(name)
        following = await raise_incident(bus)
        await rig.until(lambda: following in about(target))

    assert about(target) == [incident, following]


# -- killed


async def killed_while_sending(
    folder: Path, server: LocalServer, bus: Bus, target: HttpServer, *, variant: str = ""
) -> list[str]:
    """A notifier is killed with a message under way; what is told of afterwards, up to a later incident."""
    name = fresh("team")
    process = NotifierProcess(folder, server, settings({name: webhook(target)}))
    target.script = [wait_for_ever]
    process.start(variant=variant)
    try:
        await process.until_logged("daemon.ready")
        first = await raise_incident(bus)
        await target.until(lambda: len(target.received) == 1)
        process.kill()
        process.start()
        second = await raise_incident(bus)
        await target.until(lambda: second in about(target))
        assert process.stop() == 0
    finally:
        process.kill()
    return ["first" if each == first else "second" for each in about(target)]


async def test_notifier_that_is_killed_while_it_sends_sends_the_same_message_again(
    folder: Path, server: LocalServer, bus: Bus
) -> None:
    target = HttpServer()
    async with running(target):
        assert await killed_while_sending(folder, server, bus, target) == ["first", "second"]

    lost, again = target.received[0].document, target.accepted[0].document
    assert lost["id"] == again["id"]
    assert (lost["maybe_repeated"], again["maybe_repeated"]) == (False, True)


async def test_notifier_that_notes_a_delivery_before_it_sends_would_lose_it(
    folder: Path, server: LocalServer, bus: Bus
) -> None:
    target = HttpServer()
    async with running(target):
        assert await killed_while_sending(folder, server, bus, target, variant="notes_first") == ["second"]


@pytest.mark.parametrize(
    ("variant", "kept"),
    [("dies_after_storing", True), pytest.param("acknowledges_first", False, marks=pytest.mark.soak)],
)
async def test_event_is_kept_by_a_notifier_that_dies_while_it_takes_it_in(
    variant: str, kept: bool, folder: Path, server: LocalServer, bus: Bus
) -> None:
    """And lost by one that acknowledges it too early."""
    target, name = HttpServer(), fresh("team")
    process = NotifierProcess(folder, server, settings({name: webhook(target)}))
    async with running(target), AsyncExitStack() as stack:
        stack.callback(process.kill)
        process.start(variant=variant)
        await process.until_logged("daemon.ready")
        first = await raise_incident(bus)
        await asyncio.to_thread(process.wait)
        process.start()
        second = await raise_incident(bus)
        await target.until(lambda: second in about(target))

    assert Counter(about(target)) == Counter([first, second] if kept else [second])


async def test_incident_that_is_acknowledged_and_mitigated_is_one_conversation(
    server: LocalServer, bus: Bus, folder: Path
) -> None:
    pager, name, incident = HttpServer(), fresh("oncall"), fresh("inc")
    (folder / "key").write_text("R" * 32)
    channel = {"kind": "pagerduty", "routing_key": str(folder / "key"), "url": pager.url}
    pager.usually = 202
    async with running(pager), notifier(server, settings({name: channel})) as rig:
        await publish(bus, opened(incident, resource_id=incident))
        await pager.until(lambda: len(pager.accepted) == 1)
        for what, phase in (("mitigated", "mitigated"), ("acknowledged", "mitigated"), ("resolved", "resolved")):
            await publish(bus, changed(what, phase, incident=incident, resource_id=incident))
            await rig.until_told(name)
        await pager.until(lambda: len(pager.accepted) >= 2)
        await rig.until_told(name)

    done = [(r.document["event_action"], r.document["dedup_key"]) for r in pager.accepted]
    assert done[0] == ("trigger", incident)
    assert done[-1] == ("resolve", incident)
    assert {key for _, key in done} == {incident}
