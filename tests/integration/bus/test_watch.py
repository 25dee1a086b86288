"""Watching newest values and reading in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetcast.bus import Bus, Entry, InSync, pull, watch
from fleetcast.bus.errors import TransportFailed
from fleetcast.bus.jetstream import JetStream
from fleetcast.bus.server import LocalServer
from fleetcast.bus.watch import open_reader

pytestmark = pytest.mark.asyncio


class Follower:
    """Keeps what a watch delivers."""

    def __init__(self) -> None:
        self.items: list[Entry | InSync] = []
        self._changed = asyncio.Event()

    def take(self, item: Entry | InSync) -> None:
        self.items.append(item)
        self._changed.set()

    async def until(self, condition: Callable[["Follower"], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    @property
    def marks(self) -> list[InSync]:
        return [item for item in self.items if isinstance(item, InSync)]

    @property
    def data(self) -> list[bytes]:
        return [item.data for item in self.items if isinstance(item, Entry)]


@asynccontextmanager
async def following(entries: AsyncIterator[Entry | InSync] | AsyncIterator[Entry]) -> AsyncIterator[Follower]:
    follower = Follower()

    async def run() -> None:
        async for item in entries:
            follower.take(item)

    task = asyncio.create_task(run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put(bus: Bus, *texts: bytes, subject: str = "fc.ev.model.promoted.m") -> None:
    for text in texts:
        await bus.publish_raw(subject, text)


async def test_nothing_to_see_is_in_sync_too(bus: Bus) -> None:
    async with following(bus.watch("FC_EVENTS", ["fc.ev.>"])) as seen:
        await seen.until(lambda f: bool(f.items))

    assert [InSync(0, resync=False)] == seen.items


async def test_the_newest_of_each_subject_comes_first_then_the_mark_then_what_happens(bus: Bus) -> None:
    await put(bus, b"old", b"a")
    await put(bus, b"b", subject="fc.ev.model.promoted.n")

    async with following(bus.watch("FC_EVENTS", ["fc.ev.model.>"])) as seen:
        await seen.until(lambda f: bool(f.marks))
        await put(bus, b"c")
        await seen.until(lambda f: len(f.data) == 3)

    assert seen.data == [b"a", b"b", b"c"]
    assert seen.items[2] == InSync(3, resync=False)


async def test_many_values_arrive_before_the_mark(bus: Bus) -> None:
    await asyncio.gather(*(put(bus, b"x", subject=f"fc.ev.model.promoted.m{n}") for n in range(700)))

    async with following(bus.watch("FC_EVENTS", ["fc.ev.>"])) as seen:
        await seen.until(lambda f: bool(f.marks))

    assert len(seen.data) == 700


async def test_after_a_restart_everything_is_delivered_again_with_its_own_mark(bus: Bus, server: LocalServer) -> None:
    await put(bus, b"a")
    async with following(bus.watch("FC_EVENTS", ["fc.ev.>"])) as seen:
        await seen.until(lambda f: len(f.marks) == 1)
        await server.restart_async()
        await put(bus, b"b")
        await seen.until(lambda f: len(f.marks) >= 2 and f.data[-1] == b"b")

    assert [mark.resync for mark in seen.marks][:2] == [False, True]


async def test_a_watch_whose_consumer_was_removed_begins_anew_at_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half of what a request lasts, the most that the server takes: silence alone would tell after 30 s.
    monkeypatch.setattr(pull, "HEARTBEAT_SECONDS", pull.PULL_EXPIRES_SECONDS / 2)
    async with following(bus.watch("FC_EVENTS", ["fc.ev.>"])) as seen:
        await seen.until(lambda f: len(f.marks) == 1)
        [name] = (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"]
        await bus.js.api(f"CONSUMER.DELETE.FC_EVENTS.{name}")
        await seen.until(lambda f: len(f.marks) == 2, seconds=25)
        await put(bus, b"a")
        await seen.until(lambda f: f.data == [b"a"])


async def test_a_watch_waits_for_a_stream_that_does_not_exist_yet(bus: Bus) -> None:
    async with following(bus.watch("LATER", ["later.>"])) as seen:
        await bus.js.api("STREAM.CREATE.LATER", {"name": "LATER", "subjects": ["later.>"]})
        await put(bus, b"a", subject="later.x")
        await seen.until(lambda f: f.data == [b"a"])


async def test_a_watch_that_ends_leaves_no_consumer_behind(bus: Bus) -> None:
    async with following(bus.watch("FC_EVENTS", ["fc.ev.>"])) as seen:
        await seen.until(lambda f: bool(f.marks))

    assert (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"] in (None, [])


async def test_values_that_vanish_while_they_are_read_do_not_hold_the_mark_back(bus: Bus) -> None:
    for key in ("a", "b", "c"):
        await bus.kv_put("fc_nodes", key, b"x")

    start = {"deliver_policy": "last_per_subject"}
    async with open_reader(bus.js, "KV_fc_nodes", ["$KV.fc_nodes.>"], start) as reader:
        assert reader.waiting == 3
        await bus.js.api("STREAM.PURGE.KV_fc_nodes")
        async with asyncio.timeout(30):
            assert [entry async for entry in reader.initial()] == []


async def test_reading_in_order_ends_with_what_is_there(bus: Bus) -> None:
    await put(bus, b"a", b"b")
    await put(bus, b"other", subject="fc.ev.export.completed.lane")
    await put(bus, b"c")

    entries = [entry async for entry in bus.tail("FC_EVENTS", ["fc.ev.model.>"])]

    assert [(e.sequence, e.data) for e in entries] == [(1, b"a"), (2, b"b"), (4, b"c")]
    assert abs(datetime.now(UTC) - entries[0].time) < timedelta(minutes=1)
    assert [entry async for entry in bus.tail("FC_EVENTS", ["fc.ev.node.>"])] == []


async def test_reading_begins_at_a_sequence_or_a_time(bus: Bus) -> None:
    await put(bus, b"a", b"b")
    await asyncio.sleep(0.05)
    middle = datetime.now(UTC)
    await put(bus, b"c")

    assert [e.data async for e in bus.tail("FC_EVENTS", [], start_sequence=2)] == [b"b", b"c"]
    assert [e.data async for e in bus.tail("FC_EVENTS", [], start_time=middle)] == [b"c"]
    with pytest.raises(ValueError, match="time zone"):
        _ = [e async for e in bus.tail("FC_EVENTS", [], start_time=datetime(2026, 1, 1))]  # noqa: DTZ001


async def test_following_goes_on_over_a_restart_without_gap_or_repetition(bus: Bus, server: LocalServer) -> None:
    await put(bus, b"a", b"b")
    async with following(bus.tail("FC_EVENTS", [], follow=True)) as seen:
        await seen.until(lambda f: len(f.data) == 2)
        await server.restart_async()
        await put(bus, b"c", b"d")
        await seen.until(lambda f: len(f.data) >= 4)

    assert seen.data == [b"a", b"b", b"c", b"d"]


async def test_batches_hold_every_message_once_in_order_over_a_restart(bus: Bus, server: LocalServer) -> None:
    numbers = [str(number).encode() for number in range(1500)]
    await put(bus, *numbers[:1400])
    seen: list[bytes] = []
    async with asyncio.timeout(60), contextlib.aclosing(bus.batches("FC_EVENTS", [], start_sequence=11)) as batches:
        async for entries in batches:
            assert entries, "no batch is empty"
            seen += [entry.data for entry in entries]
            if len(seen) == 1390:
                assert entries[-1].pending == 0
                await server.restart_async()
                await put(bus, *numbers[1400:])
            if len(seen) >= 1490:
                break
    assert seen == numbers[10:]


async def test_the_newest_message_of_a_subject_is_read_through_the_leader(bus: Bus) -> None:
    await put(bus, b"a", b"b")

    entry = await bus.last("FC_EVENTS", "fc.ev.model.promoted.m")

    assert entry is not None
    assert (entry.data, entry.sequence) == (b"b", 2)
    assert await bus.last("FC_EVENTS", "fc.ev.model.promoted.other") is None


async def test_the_newest_of_many_subjects_are_read_at_once(bus: Bus) -> None:
    await put(bus, b"a", b"b")
    await put(bus, b"c", subject="fc.ev.model.promoted.n")

    assert [entry.data for entry in await bus.newest("FC_EVENTS", ["fc.ev.model.>"])] == [b"b", b"c"]
    assert await bus.newest("FC_EVENTS", ["fc.ev.node.>"]) == []


@pytest.mark.parametrize("lost", [1, watch.INTERRUPTIONS + 1])
async def test_what_is_stored_is_read_anew_where_nobody_answers_for_the_new_consumer(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    await put(bus, b"one")
    create, made = pull.create_ephemeral, list[str]()

    async def create_and_lose(js: JetStream, stream: str, config: Mapping[str, Any]) -> dict[str, Any]:
        info = await create(js, stream, config)
        made.append(config["name"])
        if len(made) <= lost:
            await pull.delete_consumer(js, stream, config["name"])
        return info

    monkeypatch.setattr(watch, "create_ephemeral", create_and_lose)
    if lost > watch.INTERRUPTIONS:
        with pytest.raises(TransportFailed, match="503"):
            await bus.newest("FC_EVENTS", ("fc.ev.>",))
    else:
        assert [entry.data for entry in await bus.newest("FC_EVENTS", ("fc.ev.>",))] == [b"one"]
    assert len(made) == min(lost + 1, watch.INTERRUPTIONS + 1)
