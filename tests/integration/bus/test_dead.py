"""Dead letters: listed, shown, tried once more, dropped."""

import asyncio
import json

import pytest

from fleetcast.bus import Bus
from fleetcast.bus.dead import Letter
from fleetcast.bus.errors import NotFound
from fleetcast.events.envelope import new_event, parse
from fleetcast.events.payloads import ModelPromoted

pytestmark = pytest.mark.asyncio


def letter(subject: str, data: bytes, headers: dict[str, str], sequence: int, consumer: str = "intake") -> Letter:
    return Letter(subject, data, headers, "FC_EVENTS", sequence, consumer, 1, "the path is missing", "path", "fix it")


async def bury_an_event(bus: Bus) -> tuple[str, int]:
    """An event and the number of its dead letter."""
    event = new_event(ModelPromoted(model="m", version="1", path="/m.pt", node="n1"), source="/test")
    receipt = await bus.publish(event)
    data, headers = event.encode()
    buried = await bus.dead.put(letter(event.subject, data, headers, receipt.sequence))
    return event.id, buried.sequence


async def test_one_death_is_one_letter_however_often_it_is_written(bus: Bus) -> None:
    one = letter("fc.ev.model.promoted.m", b"x", {}, 4)

    first, second = await bus.dead.put(one), await bus.dead.put(one)
    await bus.dead.put(letter("fc.ev.model.promoted.m", b"x", {}, 4, consumer="other"))

    assert (first.duplicate, second.duplicate) == (False, True)
    assert [dead.consumer for dead in await bus.dead.list()] == ["intake", "other"]


async def test_a_letter_is_shown_by_its_number(bus: Bus) -> None:
    event_id, number = await bury_an_event(bus)

    shown = await bus.dead.show(number)

    assert (event_id, "the path is missing", "fix it") == (shown.event_id, shown.reason, shown.next_step)
    with pytest.raises(NotFound):
        await bus.dead.show(number + 1)


async def test_retry_publishes_the_event_again_under_its_own_id_within_the_duplicate_window(bus: Bus) -> None:
    event_id, number = await bury_an_event(bus)

    receipt = await bus.dead.retry(number)

    assert not receipt.duplicate
    entries = [entry async for entry in bus.tail("FC_EVENTS", [])]
    assert [event_id, event_id] == [parse(e.data, subject=e.subject, headers=e.headers).id for e in entries]
    assert await bus.dead.list() == []


async def test_control_with_the_events_own_message_id_the_retry_would_be_swallowed(bus: Bus) -> None:
    _, number = await bury_an_event(bus)
    shown = await bus.dead.show(number)

    receipt = await bus.publish_raw(shown.subject, shown.data, shown.headers)

    assert receipt.duplicate


async def test_a_retry_that_is_repeated_stores_nothing_twice(bus: Bus) -> None:
    _, number = await bury_an_event(bus)

    results = await asyncio.gather(*(bus.dead.retry(number) for _ in range(4)), return_exceptions=True)

    assert all(isinstance(r, NotFound) or not isinstance(r, BaseException) for r in results), results
    assert len([entry async for entry in bus.tail("FC_EVENTS", [])]) == 2


async def test_an_event_typed_by_hand_keeps_the_id_of_its_first_delivery(bus: Bus) -> None:
    body = b'{"version":"43","path":"/m.pt","node":"n1"}'
    first = await bus.wire.request("fc.ev.model.promoted.m", body, timeout_seconds=5)
    sequence = json.loads(first.data)["seq"]
    buried = await bus.dead.put(letter("fc.ev.model.promoted.m", body, {}, sequence))

    await bus.dead.retry(buried.sequence)

    entry = await bus.last("FC_EVENTS", "fc.ev.model.promoted.m")
    assert entry is not None
    assert parse(entry.data, subject=entry.subject, headers=entry.headers).id == f"FC_EVENTS:{sequence}"


async def test_a_message_too_large_for_its_letter_is_shown_and_retried_from_its_stream(bus: Bus) -> None:
    data = b"x" * (bus.wire.max_payload - 1000)
    stored = await bus.publish_raw("fc.ev.model.promoted.m", data)
    buried = await bus.dead.put(letter("fc.ev.model.promoted.m", data, {}, stored.sequence))

    assert (await bus.dead.show(buried.sequence)).data == data
    await bus.dead.retry(buried.sequence)

    entry = await bus.last("FC_EVENTS", "fc.ev.model.promoted.m")
    assert entry is not None
    assert (data, stored.sequence + 1) == (entry.data, entry.sequence)


async def test_a_dropped_letter_is_gone_and_its_message_stays(bus: Bus) -> None:
    _, number = await bury_an_event(bus)

    await bus.dead.drop(number)

    assert await bus.dead.list() == []
    assert len([entry async for entry in bus.tail("FC_EVENTS", [])]) == 1
    with pytest.raises(NotFound):
        await bus.dead.drop(number)


async def test_a_letter_of_a_stream_that_is_gone_cannot_be_retried_and_says_so(bus: Bus) -> None:
    advisory = json.dumps({"stream": "GONE", "stream_seq": 3, "consumer": "c", "deliveries": 8}).encode()
    await bus.publish_raw("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.GONE.c", advisory)
    [dead] = await bus.dead.list()

    assert (dead.consumer, dead.attempts, dead.origin_stream, dead.origin_sequence) == ("c", 8, "GONE", 3)
    with pytest.raises(NotFound, match="no longer stored"):
        await bus.dead.retry(dead.sequence)


async def test_what_somebody_else_put_among_the_dead_letters_does_not_hide_the_others(bus: Bus) -> None:
    await bus.publish_raw("fc.dead.strange", b"\xff\xfe")
    await bus.publish_raw("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.X.y", b"not json")
    _, number = await bury_an_event(bus)

    assert number in [dead.sequence for dead in await bus.dead.list()]
