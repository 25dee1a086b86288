"""Three servers: elections, lost quorum, lost members."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from fleetcast.bus import Bus, BusState, Entry, InSync, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import STREAMS
from fleetcast.bus.testing import Cluster, fast_settings, nats_cluster
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import ModelPromoted

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]

EVENTS_ONLY = [spec for spec in STREAMS if spec.name in {"FC_REGISTRY", "FC_EVENTS"}]


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with nats_cluster(tmp_path / "nats", 3) as running:
        yield running


@pytest_asyncio.fixture
async def bus(cluster: Cluster) -> AsyncIterator[Bus]:
    settings = fast_settings(cluster.url, replicas=3, publish_deadline_seconds=60, request_timeout_seconds=3)
    async with connect(settings, node="n1", daemon="test") as made:
        await declare(made, 3, EVENTS_ONLY)
        yield made


def promoted(version: int) -> Event:
    return new_event(ModelPromoted(model="m", version=str(version), path="/m.pt", node="n1"), source="/test")


async def leader(bus: Bus, cluster: Cluster) -> LocalServer:
    info = await bus.js.api("STREAM.INFO.FC_EVENTS")
    return cluster.member(info["cluster"]["leader"])


async def until_state(bus: Bus, state: BusState, seconds: float) -> float:
    began, reached = time.monotonic(), asyncio.Event()
    bus.on_state(lambda new: reached.set() if new is state else None)
    if bus.state is not state:
        await asyncio.wait_for(reached.wait(), seconds)
    return time.monotonic() - began


async def all_ids(bus: Bus) -> list[str]:
    return [entry.headers["Nats-Msg-Id"] async for entry in bus.tail("FC_EVENTS", [])]


async def test_publishing_goes_on_when_the_leader_is_killed_and_nothing_acknowledged_is_lost(
    bus: Bus, cluster: Cluster
) -> None:
    acknowledged: list[str] = []
    killed_at: list[int] = []
    ending, twenty_more = asyncio.Event(), asyncio.Event()

    async def publisher(first: int) -> None:
        while not ending.is_set():
            event = promoted(first)
            await bus.publish(event)
            acknowledged.append(event.id)
            if killed_at and len(acknowledged) >= killed_at[0] + 20:
                twenty_more.set()

    async with asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(publisher(n))
        await asyncio.sleep(0.3)
        victim = await leader(bus, cluster)
        await victim.kill_async()
        killed_at.append(len(acknowledged))
        await asyncio.wait_for(twenty_more.wait(), 60)
        ending.set()
    await victim.start_async()
    await cluster.wait_ready()

    # A server that was away answers for its own copy while it catches up.
    deadline = time.monotonic() + 60
    while lost := set(acknowledged) - set(stored := await all_ids(bus)):
        assert time.monotonic() < deadline, f"{len(lost)} of {len(acknowledged)} acknowledged events are not stored"
        await asyncio.sleep(0.2)
    assert len(stored) == len(set(stored))


async def test_a_lost_quorum_is_degraded_although_every_server_calls_itself_connected(
    bus: Bus, cluster: Cluster
) -> None:
    await until_state(bus, BusState.READY, 10)
    stopped = [member for member in cluster.members if member.url != bus.wire.link.server]
    for member in stopped:
        member.send_signal(signal.SIGSTOP)
    try:
        assert await until_state(bus, BusState.DEGRADED, 30) < 30
    finally:
        for member in stopped:
            member.send_signal(signal.SIGCONT)

    await until_state(bus, BusState.READY, 60)


@pytest.mark.soak
async def test_a_watch_outlives_the_member_that_held_its_consumer(bus: Bus, cluster: Cluster) -> None:
    seen: asyncio.Queue[Entry | InSync] = asyncio.Queue()

    async def follow() -> None:
        async for item in bus.watch("FC_EVENTS", ["fc.ev.>"]):
            seen.put_nowait(item)

    async def until_data(text: str) -> None:
        while True:
            item = await seen.get()
            if isinstance(item, Entry) and text.encode() in item.data:
                return

    following = asyncio.create_task(follow())
    try:
        await bus.publish(promoted(1))
        await asyncio.wait_for(until_data('"version":"1"'), 30)
        [name] = (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"]
        info = await bus.js.api(f"CONSUMER.INFO.FC_EVENTS.{name}")
        holder = cluster.member(info["cluster"]["leader"])
        await holder.kill_async()
        await bus.publish(promoted(2))
        await asyncio.wait_for(until_data('"version":"2"'), 45)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_daemons_that_declare_at_the_same_moment_all_come_through(cluster: Cluster) -> None:
    """A cluster refuses to create what another daemon is creating, and does not show it yet."""
    settings = fast_settings(cluster.url, replicas=3)
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(connect(settings, node=f"n{n}", daemon="test")) for n in range(6)]
        await asyncio.gather(*(declare(each, 3) for each in buses))

        for spec in STREAMS:
            config = (await buses[0].js.api(f"STREAM.INFO.{spec.name}"))["config"]
            assert config["num_replicas"] == 3


async def test_a_workstation_does_not_take_the_replicas_of_a_fleet(bus: Bus) -> None:
    changes = await declare(bus, 1, EVENTS_ONLY)

    assert {("FC_REGISTRY", "kept"), ("FC_EVENTS", "kept")} == {(c.name, c.action) for c in changes}
    assert (await bus.js.api("STREAM.INFO.FC_EVENTS"))["config"]["num_replicas"] == 3


@pytest.mark.soak
async def test_daemons_that_start_together_with_the_cluster_find_it(tmp_path: Path, cluster: Cluster) -> None:
    for member in cluster.members:
        await member.kill_async()

    async def begin(n: int) -> None:
        settings = fast_settings(cluster.url, replicas=3)
        async with connect(settings, node=f"n{n}", daemon="test") as made:
            await declare(made, 3, EVENTS_ONLY)

    beginning = [asyncio.create_task(begin(n)) for n in range(3)]
    for member in cluster.members:
        await asyncio.to_thread(member.launch)
    await asyncio.wait_for(asyncio.gather(*beginning), 60)
