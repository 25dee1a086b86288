"""Heartbeats of a fleet that is too large to hear each of them."""

import asyncio
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleetcast.bus import Bus, Entry, Reject
from fleetcast.daemons.distributor import rollcall
from fleetcast.daemons.distributor.intake import PATIENCE, IntakeDesk
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.events.envelope import new_event
from fleetcast.events.payloads import ModelPromoted

pytestmark = pytest.mark.asyncio

MANY = rollcall.FOLLOWED_NODES + 5


async def beat(bus: Bus, number: int) -> None:
    await bus.kv_put("fc_nodes", f"n{number}.distributor", b"{}")


async def read(bus: Bus, wanted: int, heard: list[Entry]) -> None:
    """Collect entries until there are so many."""
    async with aclosing(rollcall.heartbeats(bus)) as entries:
        async for entry in entries:
            heard.append(entry)
            if len(heard) >= wanted:
                return


async def test_in_a_large_fleet_all_are_read_again_and_those_that_went_are_told(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollcall, "READ_PER_SECOND", 100.0)
    await asyncio.gather(*(beat(bus, n) for n in range(MANY)))
    heard: list[Entry] = []
    reading = asyncio.create_task(read(bus, 3 * MANY, heard))
    async with asyncio.timeout(30):
        while len(heard) < MANY:  # noqa: ASYNC110 - another task fills it
            await asyncio.sleep(0.01)
        await bus.kv_delete("fc_nodes", "n0.distributor")
        await reading

    assert {entry.subject for entry in heard[:MANY]} == {f"$KV.fc_nodes.n{n}.distributor" for n in range(MANY)}
    assert [entry.data for entry in heard if entry.subject == "$KV.fc_nodes.n0.distributor"][-1] == b""


async def test_a_heartbeat_in_a_small_fleet_is_heard_at_once(bus: Bus) -> None:
    heard: list[Entry] = []
    reading = asyncio.create_task(read(bus, 2, heard))
    await beat(bus, 1)
    await beat(bus, 2)
    async with asyncio.timeout(30):
        await reading

    assert [entry.subject for entry in heard] == [f"$KV.fc_nodes.n{n}.distributor" for n in (1, 2)]


async def test_a_node_that_began_after_the_last_look_is_known_before_its_event_is_refused(bus: Bus) -> None:
    neighbours = Neighbours(cast("Any", SimpleNamespace(bus=bus, node="n1")))
    desk = IntakeDesk(cast("Any", SimpleNamespace(bus=bus, node="n1")), neighbours)
    event = new_event(ModelPromoted(model="m", version="1", path="/m.pt", node="n7"), source="/test")
    last = cast("Any", SimpleNamespace(attempt=PATIENCE))
    with pytest.raises(Reject, match="no node 'n7'"):
        await desk.handle(event, last)

    await beat(bus, 7)
    await desk.handle(event, last)
