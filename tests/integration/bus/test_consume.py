"""The handler contract against a real server."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fleetcast.bus import Bus, ConsumerSpec, DeadLetter, Delivery, Reject, Retry
from fleetcast.bus.consumption import Consumption
from fleetcast.bus.errors import DeclarationRefused
from fleetcast.bus.retry import Backoff
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy, nats_server
from fleetcast.events.envelope import Event, new_event, parse
from fleetcast.events.payloads import EventRejected, ModelPromoted

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]
QUICK = Backoff(base_seconds=0.02, cap_seconds=0.1)


def spec(durable: str | None = "group", **more: Any) -> ConsumerSpec:
    values: dict[str, Any] = {"backoff": QUICK, "max_deliver": 3, **more}
    return ConsumerSpec("FC_EVENTS", ("fc.ev.model.>",), durable, **values)


class Recorder:
    """A handler that notes what it was given and does what it is told."""

    def __init__(self, act: Callable[[Delivery], Awaitable[None]] | None = None) -> None:
        self.seen: list[Delivery] = []
        self.running = 0
        self.most_running = 0
        self._act = act
        self._changed = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        self.seen.append(delivery)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self._changed.set()
        try:
            if self._act:
                await self._act(delivery)
        finally:
            self.running -= 1
            self._changed.set()

    async def until(self, condition: Callable[["Recorder"], bool], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_handled(self, count: int, seconds: float = 15.0) -> None:
        await self.until(lambda r: len(r.seen) >= count and r.running == 0, seconds)

    @property
    def sequences(self) -> list[int]:
        return [d.sequence for d in self.seen]


@asynccontextmanager
async def consuming(bus: Bus, specification: ConsumerSpec, handler: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(bus.consume(specification, handler))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put(bus: Bus, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        await bus.publish_raw(f"fc.ev.model.promoted.m{n}", b"%d" % n)


async def consumer_info(bus: Bus, name: str = "group") -> dict[str, Any]:
    return await bus.js.api(f"CONSUMER.INFO.FC_EVENTS.{name}")


async def until_settled(bus: Bus, name: str = "group", seconds: float = 10.0) -> dict[str, Any]:
    """The consumer's information once nothing waits for an acknowledgement any more."""
    async with asyncio.timeout(seconds):
        while True:
            info = await consumer_info(bus, name)
            if info["num_ack_pending"] == 0 and info["num_pending"] == 0:
                return info
            await asyncio.sleep(0.02)


async def until_consumed(bus: Bus) -> None:
    """Wait until FC_EVENTS has a consumer."""
    async with asyncio.timeout(5):
        while True:
            if (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"]:
                return
            await asyncio.sleep(0.01)


async def dead_letters(bus: Bus, count: int) -> list[DeadLetter]:
    """The dead letters, once there are so many."""
    async with asyncio.timeout(10):
        while True:
            letters = await bus.dead.list()
            if len(letters) >= count:
                return letters
            await asyncio.sleep(0.02)


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
    slow = Backoff(base_seconds=0.6, cap_seconds=0.6, floor_ratio=1.0)
    async with consuming(bus, spec(backoff=slow), recorder):
        began = time.monotonic()
        await recorder.until(lambda r: len(set(r.sequences)) == 100)
        # All others were done before the poison came back even once.
        assert time.monotonic() - began < 0.6
        await until_settled(bus)

    assert Counter({1: 99, 3: 1}) == Counter(Counter(recorder.sequences).values())
    assert len(await bus.dead.list()) == 1


async def test_no_more_handlers_run_at_once_than_allowed(bus: Bus) -> None:
    recorder = Recorder(lambda _: asyncio.sleep(0.02))
    await put(bus, 20)

    async with consuming(bus, spec(concurrency=3), recorder):
        await recorder.until_handled(20)

    assert recorder.most_running == 3


async def works_longer_than_the_server_waits(bus: Bus, other: Bus) -> int:
    """How many times a handler of 1.6 s runs in a group of two, when the server waits 0.6 s for an answer."""
    recorder = Recorder(lambda _: asyncio.sleep(1.6))
    specification = spec(ack_wait_seconds=0.6, max_deliver=10)
    async with consuming(bus, specification, recorder), consuming(other, specification, recorder):
        await put(bus, 1)
        await recorder.until_handled(1)
        await until_settled(bus)
    return len(recorder.seen)


async def test_a_long_handler_is_kept_alive(bus: Bus, open_bus: OpenBus) -> None:
    assert await works_longer_than_the_server_waits(bus, await open_bus("n2")) == 1


async def test_control_without_keeping_alive_the_work_is_done_twice(
    bus: Bus, open_bus: OpenBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Consumption, sequence: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Consumption, "_keep_alive", never)

    assert await works_longer_than_the_server_waits(bus, await open_bus("n2")) > 1


async def test_a_handler_that_was_stopped_gives_its_message_to_another_at_once(bus: Bus, open_bus: OpenBus) -> None:
    other = await open_bus("n2")
    stuck = Recorder(lambda _: asyncio.Event().wait())  # type: ignore[arg-type, return-value]
    taker = Recorder()
    await put(bus, 1)

    async with consuming(bus, spec(), stuck) as first:
        await stuck.until(lambda r: r.running == 1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    async with consuming(other, spec(), taker):
        await taker.until_handled(1, seconds=5)

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


@pytest.mark.parametrize("durable", ["group", None])
@pytest.mark.parametrize("rounds", [2])
async def test_consuming_goes_on_after_restarts_without_loss_or_repetition(
    bus: Bus, server: LocalServer, durable: str | None, rounds: int
) -> None:
    recorder = Recorder(lambda _: asyncio.sleep(0.01))
    async with consuming(bus, spec(durable), recorder):
        for n in range(rounds):
            await put(bus, 10, 10 * n)
            await recorder.until(lambda r, n=n: len(set(r.sequences)) >= 10 * n + 4)  # type: ignore[misc]
            await server.restart_async()
        await put(bus, 10, 10 * rounds)
        await recorder.until(lambda r: len(set(r.sequences)) == 10 * (rounds + 1) and r.running == 0, seconds=45)

    # One process never handles one message twice, even when the server does not know that it was answered.
    assert set(Counter(recorder.sequences).values()) == {1}


async def test_an_ephemeral_consumer_that_vanished_is_made_anew_where_it_was(bus: Bus) -> None:
    recorder = Recorder()
    await put(bus, 3)
    async with consuming(bus, spec(None, name="mine"), recorder):
        await recorder.until_handled(3)
        [name] = (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"]
        assert name.startswith("mine-")
        await bus.js.api(f"CONSUMER.DELETE.FC_EVENTS.{name}")
        await put(bus, 3, 3)
        await recorder.until_handled(6)

    assert sorted(recorder.sequences) == [1, 2, 3, 4, 5, 6]
    assert (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"] in (None, [])


async def test_only_what_comes_is_delivered_to_a_new_consumer_that_asks_for_it(bus: Bus) -> None:
    recorder = Recorder()
    await put(bus, 3)
    async with consuming(bus, spec(None, start="new"), recorder):
        await until_consumed(bus)
        await put(bus, 1, 3)
        await recorder.until_handled(1)

    assert recorder.sequences == [4]


@pytest.mark.parametrize("before", [0, 2])
async def test_what_comes_while_a_consumer_is_away_is_not_passed_over(
    bus: Bus, open_bus: OpenBus, server: LocalServer, before: int
) -> None:
    recorder = Recorder()
    await put(bus, before)
    async with Proxy(server.port) as proxy:
        away = await open_bus("n2", url=proxy.url)
        async with consuming(away, spec(None, start="new"), recorder):
            await until_consumed(bus)
            proxy.go_silent()
            proxy.cut()
            [name] = (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"]
            await bus.js.api(f"CONSUMER.DELETE.FC_EVENTS.{name}")
            await put(bus, 3)
            proxy.recover()
            await recorder.until_handled(3)

    assert [before + 1, before + 2, before + 3] == sorted(recorder.sequences)


async def test_only_the_newest_of_every_subject_is_delivered_to_who_asks_for_it(bus: Bus) -> None:
    recorder = Recorder()
    for _ in range(3):
        await put(bus, 2)
    async with consuming(bus, spec(None, start="last_per_subject"), recorder):
        await recorder.until_handled(2)

    assert sorted(recorder.sequences) == [5, 6]


async def test_a_durable_with_other_settings_is_updated_and_reported(bus: Bus) -> None:
    for ack_wait in (5.0, 7.0):
        recorder = Recorder()
        await put(bus, 1)
        async with consuming(bus, spec(ack_wait_seconds=ack_wait), recorder):
            await recorder.until_handled(1)

    assert (await consumer_info(bus))["config"]["ack_wait"] == 7 * 10**9


async def test_a_durable_that_begins_elsewhere_is_refused_with_the_next_step(bus: Bus) -> None:
    recorder = Recorder()
    await put(bus, 1)
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(1)

    with pytest.raises(DeclarationRefused, match="another deliver_policy") as refused:
        await bus.consume(spec(start="new"), recorder)

    assert "nats consumer rm FC_EVENTS group" in (refused.value.next_step or "")


async def test_a_group_shares_its_messages(bus: Bus, open_bus: OpenBus) -> None:
    other = await open_bus("n2")
    one, two = Recorder(lambda _: asyncio.sleep(0.01)), Recorder(lambda _: asyncio.sleep(0.01))
    async with consuming(bus, spec(concurrency=1), one), consuming(other, spec(concurrency=1), two):
        await put(bus, 20)
        await until_settled(bus)

    assert one.seen
    assert two.seen
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
        await asyncio.wait_for(confirmed.wait(), 10)

    [letter] = await dead_letters(bus, 1)
    assert "stopped" in letter.reason


# -- events


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
    async with asyncio.timeout(10):
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
        event, delivery = await asyncio.wait_for(got.get(), 10)

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
        assert [good.id, good.id] == [await asyncio.wait_for(handled.get(), 10) for _ in range(2)]
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
