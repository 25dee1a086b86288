"""Slots read from the stream itself, on a real server: only what is new, only what is kept, nothing twice."""

import pytest

from fleetcast.bus import Bus
from fleetcast.events.content import Kind
from fleetcast.events.state import Cause, SlotEntry, SlotState, slot_subject
from fleetcast.registry.rules import dump
from fleetcast.registry.slots import ALL_SLOTS, Line, SlotsSince

pytestmark = pytest.mark.asyncio


async def order(bus: Bus, model: str, generation: int, kind: Kind = Kind.MODEL) -> None:
    slot = SlotState(
        model=model,
        kind=kind,
        generation=generation,
        production=SlotEntry(version="1", artifact="a" * 64),
        cause=Cause(event="e", sequence=generation, by="/t", correlation="e"),
        at="now",
    )
    await bus.publish_raw(slot_subject(model, kind), dump(slot))


def everything(_line: Line) -> bool:
    return True


async def read(since: SlotsSince, *subjects: str) -> list[tuple[str, int]]:
    return [(s.model, s.generation) for s in await since.read(subjects or ALL_SLOTS, everything)]


async def test_every_order_is_read_once_the_newest_per_line(bus: Bus) -> None:
    since = SlotsSince(bus)
    assert await read(since) == []
    await order(bus, "a", 1)
    await order(bus, "b", 1)
    await order(bus, "a", 2)
    await order(bus, "a", 1, Kind.DATASET)
    assert await read(since) == [("b", 1), ("a", 2), ("a", 1)]
    assert await read(since) == []
    await order(bus, "b", 2)
    assert await read(since) == [("b", 2)]


async def test_what_a_watch_had_delivered_is_not_read_again(bus: Bus) -> None:
    await order(bus, "a", 1)
    newest = await bus.last("FC_REGISTRY", slot_subject("a"))
    assert newest is not None
    since = SlotsSince(bus)
    since.read_to(newest.sequence)
    assert await read(since) == []
    await order(bus, "a", 2)
    assert await read(since) == [("a", 2)]


async def test_only_the_lines_that_are_kept_are_returned(bus: Bus) -> None:
    for name in ("a", "b", "c"):
        await order(bus, name, 1)
    since = SlotsSince(bus)
    assert [s.model for s in await since.read(ALL_SLOTS, lambda line: line == (Kind.MODEL, "b"))] == ["b"]
    await order(bus, "a", 2)
    await order(bus, "b", 2)
    assert await read(since, slot_subject("a")) == [("a", 2)]


async def test_orders_of_others_are_not_looked_at_again_and_again(bus: Bus) -> None:
    await order(bus, "foreign", 1)
    since = SlotsSince(bus)
    assert await read(since, slot_subject("mine")) == []
    await order(bus, "mine", 1)
    assert await read(since, slot_subject("mine")) == [("mine", 1)]


async def test_a_record_that_cannot_be_read_hides_no_other(bus: Bus) -> None:
    await bus.publish_raw(slot_subject("broken"), b"{")
    await order(bus, "a", 1)
    assert await read(SlotsSince(bus)) == [("a", 1)]


async def test_a_stream_that_was_set_back_is_read_from_its_beginning(bus: Bus) -> None:
    since = SlotsSince(bus)
    since.read_to(10_000)
    await order(bus, "a", 1)
    assert await read(since) == [("a", 1)]
