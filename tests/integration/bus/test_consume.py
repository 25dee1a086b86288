"""The handler contract against a real server."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.integration.bus.consuming import (
    WAIT_SECONDS,
    Recorder,
    consuming,
    dead_letters,
    put,
    spec,
    until_settled,
)

from fleetcast.bus import Bus, Delivery, Reject, Retry
from fleetcast.bus.consumption import Consumption
from fleetcast.bus.retry import Backoff
from fleetcast.bus.testing import nats_server

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]
STUCK_SECONDS = 60.0
"""How long the server waits for somebody who says nothing, where a test is about not waiting for it."""


async def test_a_message_is_handled_once_and_acknowledged(bus: Bus) -> None:
    recorder = Recorder()
    await put(bus, 3)

    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(3)
        info = await until_settled(bus)

    assert sorted(recorder.sequences) == [1, 2, 3]
    assert info["num_redelivered"] == 0
    delivery = recorder.seen[0]
    assert (delivery.stream, delivery.attempt, delivery.last_attempt) == ("FC_EVENTS", 1, False)


async def test_a_message_reaches_its_handler_within_milliseconds(bus: Bus) -> None:
    arrived: asyncio.Queue[float] = asyncio.Queue()

    async def handler(delivery: Delivery) -> None:
        arrived.put_nowait(time.perf_counter())

    delays = []
    async with consuming(bus, spec(), handler):
        await put(bus, 1, 999)
        await arrived.get()
        for n in range(60):
            await asyncio.sleep(0.003 * (n % 7))  # at any phase of whatever might poll
            began = time.perf_counter()
            await put(bus, 1, n)
            delays.append(await arrived.get() - began)

    assert sorted(delays)[30] < 0.02


async def test_retry_delivers_again_after_its_delay(bus: Bus) -> None:
    times: list[float] = []

    async def handler(delivery: Delivery) -> None:
        times.append(time.monotonic())
        if delivery.attempt == 1:
            raise Retry(0.4)

    recorder = Recorder(handler)
    await put(bus, 1)
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(2)
        await until_settled(bus)

    assert [d.attempt for d in recorder.seen] == [1, 2]
    assert times[1] - times[0] >= 0.4


async def test_reject_ends_the_deliveries_with_a_dead_letter(bus: Bus) -> None:
    async def handler(delivery: Delivery) -> None:
        raise Reject("no such path", "path", "publish an absolute path")

    recorder = Recorder(handler)
    await put(bus, 1, 7)
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(1)
        await until_settled(bus)

    [letter] = await bus.dead.list()
    assert (letter.reason, letter.field, letter.next_step) == ("no such path", "path", "publish an absolute path")
    assert (
        letter.subject,
        letter.data,
        letter.consumer,
        letter.attempts,
    ) == ("fc.ev.model.promoted.m7", b"7", "group", 1)


async def test_a_failing_handler_is_tried_with_growing_delays_and_then_buried(bus: Bus) -> None:
    async def handler(delivery: Delivery) -> None:
        raise OSError("the disk is full")

    recorder = Recorder(handler)
    await put(bus, 1)
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(3)
        await until_settled(bus)

    assert [(d.attempt, d.last_attempt) for d in recorder.seen] == [(1, False), (2, False), (3, True)]
    [letter] = await bus.dead.list()
    assert "the disk is full" in letter.reason
    assert letter.attempts == 3


async def test_one_poisonous_message_of_a_hundred_delays_nobody(bus: Bus) -> None:
    async def handler(delivery: Delivery) -> None:
        if delivery.data == b"50":
            raise ValueError("poison")

    recorder = Recorder(handler)
    await put(bus, 100)
    slow = Backoff(base_seconds=2.0, cap_seconds=2.0, floor_ratio=1.0)
    async with consuming(bus, spec(backoff=slow, max_deliver=2), recorder):
        await recorder.until(lambda r: len(set(r.sequences)) == 100)
        # All others were done before the poison came back even once.
        assert len(recorder.seen) == 100
        await until_settled(bus)

    assert Counter({1: 99, 2: 1}) == Counter(Counter(recorder.sequences).values())
    assert len(await bus.dead.list()) == 1


async def test_no_more_handlers_run_at_once_than_allowed(bus: Bus) -> None:
    three = asyncio.Barrier(3)

    async def handler(delivery: Delivery) -> None:
        await three.wait()
        await asyncio.sleep(0.02)  # a fourth would begin now

    recorder = Recorder(handler)
    await put(bus, 21)

    async with consuming(bus, spec(concurrency=3), recorder):
        await recorder.until_handled(21)

    assert recorder.most_running == 3


@asynccontextmanager
async def working_for_long(bus: Bus, other: Bus, *, server_waits_seconds: float) -> AsyncIterator[Recorder]:
    """A group of two whose first handler works for ever; the server waits so long for an answer."""
    recorder = Recorder(lambda _: asyncio.Event().wait())  # type: ignore[arg-type, return-value]
    specification = spec(ack_wait_seconds=server_waits_seconds, max_deliver=10)
    async with consuming(bus, specification, recorder), consuming(other, specification, recorder):
        await put(bus, 1)
        await recorder.until(lambda r: r.running >= 1)
        yield recorder


async def test_a_long_handler_is_kept_alive(bus: Bus, open_bus: OpenBus) -> None:
    async with working_for_long(bus, await open_bus("n2"), server_waits_seconds=2.0) as recorder:
        await asyncio.sleep(4.5)

        assert len(recorder.seen) == 1


async def test_control_without_keeping_alive_the_work_is_done_twice(
    bus: Bus, open_bus: OpenBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Consumption, sequence: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Consumption, "_keep_alive", never)

    async with working_for_long(bus, await open_bus("n2"), server_waits_seconds=0.6) as recorder:
        await recorder.until(lambda r: r.running == 2)


async def test_a_handler_that_was_stopped_gives_its_message_to_another_at_once(bus: Bus, open_bus: OpenBus) -> None:
    other = await open_bus("n2")
    stuck = Recorder(lambda _: asyncio.Event().wait())  # type: ignore[arg-type, return-value]
    taker = Recorder()
    await put(bus, 1)

    async with consuming(bus, spec(ack_wait_seconds=STUCK_SECONDS), stuck) as first:
        await stuck.until(lambda r: r.running == 1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    async with consuming(other, spec(ack_wait_seconds=STUCK_SECONDS), taker):
        await taker.until_handled(1, seconds=STUCK_SECONDS / 2)

    assert taker.sequences == [1]


async def test_a_message_handled_while_its_consumer_is_stopped_is_acknowledged_all_the_same(bus: Bus) -> None:
    almost = asyncio.Event()

    async def handler(delivery: Delivery) -> None:
        almost.set()

    recorder = Recorder(handler)
    await put(bus, 1)
    async with consuming(bus, spec(double_ack=True), recorder) as task:
        await almost.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    info = await until_settled(bus)
    assert info["ack_floor"]["stream_seq"] == 1


async def test_something_cancelled_inside_a_handler_is_a_failure_and_not_the_end(bus: Bus) -> None:
    async def handler(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            task = asyncio.create_task(asyncio.sleep(9))
            task.cancel()
            await task

    recorder = Recorder(handler)
    await put(bus, 2)
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(4)
        await until_settled(bus)

    assert Counter([1, 1, 2, 2]) == Counter(recorder.sequences)


async def test_a_confirmed_message_is_not_delivered_again_and_its_failure_is_not_silent(bus: Bus) -> None:
    async def handler(delivery: Delivery) -> None:
        await delivery.confirm()
        raise OSError("after the point of no return")

    recorder = Recorder(handler)
    await put(bus, 1)
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(1)
        await until_settled(bus)
        letters = await dead_letters(bus, 1)

    assert len(recorder.seen) == 1
    assert "after it was confirmed" in letters[0].reason


async def test_a_group_shares_its_messages(bus: Bus, open_bus: OpenBus) -> None:
    other = await open_bus("n2")
    both = asyncio.Barrier(2)

    async def handler(delivery: Delivery) -> None:
        await both.wait()  # each of the two has one

    one, two = Recorder(handler), Recorder(handler)
    async with consuming(bus, spec(concurrency=1), one), consuming(other, spec(concurrency=1), two):
        await put(bus, 20)
        await until_settled(bus)

    assert len(one.seen) == len(two.seen) == 10
    assert list(range(1, 21)) == sorted(one.sequences + two.sequences)


async def test_messages_that_nobody_ever_finished_become_readable_dead_letters(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: Consumption, *_: object) -> None:
        return

    # A daemon that dies in its handler each time: no answer, no dead letter of its own.
    monkeypatch.setattr(Consumption, "_keep_alive", nothing)
    monkeypatch.setattr(Consumption, "_settle", nothing)
    await put(bus, 1, 5)
    async with consuming(bus, spec(ack_wait_seconds=0.2, max_deliver=2), Recorder()):
        [letter] = await dead_letters(bus, 1)

    assert (
        letter.subject,
        letter.data,
        letter.consumer,
        letter.attempts,
    ) == ("fc.ev.model.promoted.m5", b"5", "group", 2)
    assert "crashed or was killed" in letter.reason


async def test_the_new_flow_control_of_acknowledgements_kills_nothing(tmp_path: Any, open_bus: OpenBus) -> None:
    # nats-py's own watchers lose their connection under it.
    async with nats_server(tmp_path / "v2", extra="feature_flags { js_ack_fc_v2: true }\n") as server:
        bus = await open_bus(url=server.url)
        await bus.js.api("STREAM.CREATE.FC_EVENTS", {"name": "FC_EVENTS", "subjects": ["fc.ev.>"]})
        recorder = Recorder()
        async with consuming(bus, spec(), recorder):
            await put(bus, 5)
            await recorder.until_handled(5)
            await until_settled(bus)

        assert bus.wire.generation == 1


async def test_a_stored_message_that_looks_like_a_status_of_the_server_is_handled_like_any_other(bus: Bus) -> None:
    recorder = Recorder()
    await bus.publish_raw("fc.ev.model.promoted.m", b"", {"Status": "409", "Description": "Consumer Deleted"})
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(1)
        await until_settled(bus)

    assert recorder.seen[0].headers["Status"] == "409"


async def test_a_confirmed_message_whose_handler_is_stopped_becomes_a_dead_letter(bus: Bus) -> None:
    confirmed = asyncio.Event()

    async def handler(delivery: Delivery) -> None:
        await delivery.confirm()
        confirmed.set()
        await asyncio.Event().wait()

    await put(bus, 1)
    async with consuming(bus, spec(), handler):
        await asyncio.wait_for(confirmed.wait(), WAIT_SECONDS)

    [letter] = await dead_letters(bus, 1)
    assert "stopped" in letter.reason
