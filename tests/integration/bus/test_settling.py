"""Dead letters that somebody settles: what is done, and what the log keeps of it."""

import asyncio
import json

import pytest
from tests.integration.bus.test_dead import bury_an_event

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.bus.settling import settle
from fleetcast.events.letters import Settlement

pytestmark = pytest.mark.asyncio

ANN = "/fleet/n1/gateway/ann"


async def logged(bus: Bus, subject: str) -> list[dict[str, object]]:
    return [json.loads(entry.data) async for entry in bus.tail("FC_EVENTS", [subject])]


async def test_what_four_people_settle_at_once_is_sent_again_once_and_told_once(bus: Bus) -> None:
    event_id, number = await bury_an_event(bus)
    letter = await bus.dead.show(number)

    await asyncio.gather(*(settle(bus, letter, Settlement.RETRIED, by=ANN, reason="mended") for _ in range(4)))

    assert await bus.dead.list() == []
    assert [each["id"] for each in await logged(bus, "fc.ev.model.promoted.*")] == [event_id, event_id]
    (told,) = await logged(bus, "fc.ev.letter.settled.intake")
    assert told["source"] == ANN
    assert told["data"] == {
        "consumer": "intake",
        "number": number,
        "outcome": "retried",
        "subject": "fc.ev.model.promoted.m",
        "event": event_id,
        "by": ANN,
        "reason": "mended",
    }


async def test_what_is_dropped_is_told_and_not_sent(bus: Bus) -> None:
    _, number = await bury_an_event(bus)

    await settle(bus, await bus.dead.show(number), Settlement.DROPPED, by=ANN, reason="never right")

    assert len(await logged(bus, "fc.ev.model.promoted.*")) == 1
    assert len(await logged(bus, "fc.ev.letter.settled.intake")) == 1


async def test_what_nobody_handles_is_not_sent_in_a_circle(bus: Bus) -> None:
    foreign = await bus.publish_raw("fc.dead.somebody", b"typed by hand")
    letter = await bus.dead.show(foreign.sequence)

    with pytest.raises(NotFound, match="no message that anybody handles"):
        await settle(bus, letter, Settlement.RETRIED, by=ANN, reason="hope")

    assert await bus.dead.show(foreign.sequence)
    assert await logged(bus, "fc.ev.letter.settled.*") == []
