"""Declarations against a real server."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from fleetcast.bus import BatchMessage, Bus, declare
from fleetcast.bus.errors import DeclarationRefused, OperationRefused
from fleetcast.bus.streams import STREAMS, StreamSpec
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import SlotOrdered

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]
BY_NAME = {spec.name: spec for spec in STREAMS}


async def config(bus: Bus, stream: str) -> dict[str, Any]:
    return dict((await bus.js.api(f"STREAM.INFO.{stream}"))["config"])


async def test_everything_is_created_once_and_then_left_alone(open_bus: OpenBus) -> None:
    bus = await open_bus()

    first, second = await declare(bus, 1), await declare(bus, 1)

    # The canary may have been quicker with its own stream.
    assert {c.name for c in first} | {"FC_CANARY"} == {spec.name for spec in STREAMS}
    assert second == []


async def test_five_daemons_may_declare_at_the_same_time(open_bus: OpenBus) -> None:
    buses = [await open_bus(f"n{n}") for n in range(5)]

    await asyncio.gather(*(declare(bus, 1) for bus in buses))

    assert await declare(buses[0], 1) == []


async def test_a_setting_changed_by_hand_is_reported_and_put_right(bus: Bus) -> None:
    changed = {**await config(bus, "FC_EVENTS"), "max_age": 3600 * 10**9, "duplicate_window": 60 * 10**9}
    await bus.js.api("STREAM.UPDATE.FC_EVENTS", changed)

    [change] = await declare(bus, 1)

    assert (change.name, change.action, change.fields) == ("FC_EVENTS", "updated", ("duplicate_window", "max_age"))
    assert (await config(bus, "FC_EVENTS"))["duplicate_window"] == 1800 * 10**9


async def test_a_setting_that_cannot_change_is_refused_with_the_next_step(bus: Bus) -> None:
    in_memory = replace(BY_NAME["FC_PERF"], storage="memory")

    with pytest.raises(DeclarationRefused, match=r"FC_PERF cannot be declared \(storage\)") as refused:
        await declare(bus, 1, [in_memory])

    assert "nats stream info FC_PERF" in (refused.value.next_step or "")


async def test_truth_can_neither_be_deleted_nor_purged(bus: Bus) -> None:
    await bus.batch([BatchMessage("fc.reg.state.slot.m", b"{}", 0)])

    for stream in ("FC_REGISTRY", "FC_AUDIT"):
        with pytest.raises(OperationRefused, match="not permitted"):
            await bus.js.api(f"STREAM.MSG.DELETE.{stream}", {"seq": 1})
        with pytest.raises(OperationRefused, match="not permitted"):
            await bus.js.api(f"STREAM.PURGE.{stream}")
        with pytest.raises(OperationRefused, match="can not cancel deny"):
            await bus.js.api(f"STREAM.UPDATE.{stream}", {**await config(bus, stream), "deny_purge": False})


def ordered(generation: int) -> tuple[str, BatchMessage]:
    payload = SlotOrdered(model="m", slot="production", version="1", artifact="0" * 64, generation=generation)
    event = new_event(payload, source="/test")
    data, headers = event.encode()
    return event.id, BatchMessage(f"{event.type.fact_subject('m')}.{event.id}", data, 0, headers)


async def arrivals(bus: Bus, stream: str, subject: str, count: int) -> list[str]:
    ids: list[str] = []
    async with asyncio.timeout(30):
        async for entry in bus.tail(stream, [subject], follow=True):
            ids.append(entry.headers.get("Nats-Msg-Id", entry.subject))
            if len(ids) == count:
                return ids
    raise AssertionError("unreachable")


async def test_facts_of_the_registry_become_events_and_records_the_audit(bus: Bus) -> None:
    first, message = ordered(1)
    await bus.batch([message, BatchMessage("fc.reg.log.m.00000001", b"{}", 0)])

    assert await arrivals(bus, "FC_EVENTS", "fc.ev.slot.ordered.m", 1) == [first]
    assert await arrivals(bus, "FC_AUDIT", "fc.reg.log.>", 1) == ["fc.reg.log.m.00000001"]


LATE = StreamSpec("LATE", "a copy made later", sources=BY_NAME["FC_EVENTS"].sources)


async def test_two_facts_about_one_model_both_survive_a_copy_that_comes_late(bus: Bus) -> None:
    (first, one), (second, two) = ordered(1), ordered(2)
    await bus.batch([one])
    await bus.batch([two])

    await declare(bus, 1, [LATE])

    assert await arrivals(bus, "LATE", "fc.ev.slot.ordered.m", 2) == [first, second]


async def test_control_on_a_shared_subject_the_earlier_fact_is_lost(bus: Bus) -> None:
    (_, one), (second, two) = ordered(1), ordered(2)
    shared = "fc.reg.fact.slot.ordered.m.same"
    await bus.batch([replace(one, subject=shared, expected_sequence=None)])
    await bus.batch([replace(two, subject=shared, expected_sequence=None)])

    await declare(bus, 1, [LATE])

    assert await arrivals(bus, "LATE", "fc.ev.slot.ordered.m", 1) == [second]
    assert (await bus.js.api("STREAM.INFO.LATE"))["state"]["messages"] == 1
