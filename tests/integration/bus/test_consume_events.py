"""Consuming events: what does not parse, and what a handler refuses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.integration.bus.consuming import WAIT_SECONDS, spec, until_settled

from fleetcast.bus import Bus, Delivery, Reject
from fleetcast.events.envelope import Event, new_event, parse
from fleetcast.events.payloads import EventRejected, ModelPromoted

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]


def promoted(version: str = "1") -> Event:
    return new_event(ModelPromoted(model="m", version=version, path="/m.pt", node="n1"), source="/test")


@asynccontextmanager
async def consuming_events(
    bus: Bus, durable: str | None, handler: Any, *, report: bool
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(
        bus.consume_events(spec(durable), handler, reject_source="/fleet/n1/test", report_invalid=report)
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def rejections(bus: Bus, count: int) -> list[EventRejected]:
    found: list[EventRejected] = []
    async with asyncio.timeout(WAIT_SECONDS):
        async for entry in bus.tail("FC_EVENTS", ["fc.ev.event.rejected.>"], follow=True):
            event = parse(entry.data, subject=entry.subject, headers=entry.headers)
            assert isinstance(event.payload, EventRejected)
            found.append(event.payload)
            if len(found) == count:
                return found
    raise AssertionError("unreachable")


async def test_an_event_arrives_with_its_place_in_the_stream(bus: Bus) -> None:
    got: asyncio.Queue[tuple[Event, Delivery]] = asyncio.Queue()

    async def handler(event: Event, delivery: Delivery) -> None:
        got.put_nowait((event, delivery))

    sent = promoted()
    async with consuming_events(bus, "group", handler, report=True):
        await bus.publish(sent)
        event, delivery = await asyncio.wait_for(got.get(), WAIT_SECONDS)

    assert event == sent
    assert event.sequence == delivery.sequence == 1


async def test_what_is_no_event_is_told_once_and_kept_and_the_others_pass_it_over(bus: Bus, open_bus: OpenBus) -> None:
    handled: asyncio.Queue[str] = asyncio.Queue()

    async def handler(event: Event, delivery: Delivery) -> None:
        handled.put_nowait(event.id)

    node = await open_bus("n2")
    async with (
        consuming_events(bus, "intake", handler, report=True),
        consuming_events(node, None, handler, report=False),
    ):
        await bus.publish_raw("fc.ev.model.promoted.m", b"{broken", {"Nats-Msg-Id": "typed-by-hand"})
        good = promoted()
        await bus.publish(good)
        [rejected] = await rejections(bus, 1)
        assert [good.id, good.id] == [await asyncio.wait_for(handled.get(), WAIT_SECONDS) for _ in range(2)]
        await until_settled(bus, "intake")

    assert (rejected.event, rejected.subject) == ("typed-by-hand", "fc.ev.model.promoted.m")
    assert rejected.next_step
    [letter] = await bus.dead.list()
    assert (letter.event_id, letter.consumer, letter.data) == ("typed-by-hand", "intake", b"{broken")


async def test_a_rejected_event_is_told_with_the_winner_and_delivered_no_more(bus: Bus) -> None:
    async def handler(event: Event, delivery: Delivery) -> None:
        raise Reject("the version is taken", "version", "use another version", winner="gpu-2")

    event = promoted()
    async with consuming_events(bus, "group", handler, report=True):
        await bus.publish(event)
        [rejected] = await rejections(bus, 1)
        await until_settled(bus)

    assert (event.id, "the version is taken", "version", "gpu-2") == (
        rejected.event,
        rejected.reason,
        rejected.field,
        rejected.winner,
    )
