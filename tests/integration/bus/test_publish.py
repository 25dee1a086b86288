"""Durable publishing: acknowledged means stored, once."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fleetcast.bus import BatchMessage, Bus, BusUnavailable, OperationRefused, TransportFailed, connect, declare
from fleetcast.bus.errors import Conflict, OutcomeUnknown, PayloadTooLarge, SubjectFull
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy, fast_settings
from fleetcast.client.spool import SpoolReader, SpoolWriter
from fleetcast.events.envelope import Event, new_event, parse
from fleetcast.events.payloads import ModelPromoted

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]


def promoted(version: int = 1) -> Event:
    return new_event(ModelPromoted(model="m", version=str(version), path="/m.pt", node="n1"), source="/test")


async def stored(bus: Bus, stream: str = "FC_EVENTS") -> int:
    await bus.wire.wait_connected(10)
    return int((await bus.js.api(f"STREAM.INFO.{stream}"))["state"]["messages"])


async def test_an_event_is_stored_once_however_often_it_is_published(bus: Bus) -> None:
    event = promoted()

    receipts = [await bus.publish(event) for _ in range(3)]

    assert [r.duplicate for r in receipts] == [False, True, True]
    assert {1} == {r.sequence for r in receipts}
    entry = await bus.last("FC_EVENTS", event.subject)
    assert entry is not None
    assert parse(entry.data, subject=entry.subject, headers=entry.headers) == event


def every_third_receipt_is_lost() -> Callable[[bytes], bytes | None]:
    count = 0

    def lose(frame: bytes) -> bytes | None:
        nonlocal count
        if b'"stream":"FC_EVENTS"' in frame and b'"seq"' in frame:
            count += 1
            return None if count % 3 == 1 else frame
        return frame

    return lose


async def test_lost_receipts_store_nothing_twice(bus: Bus, open_bus: OpenBus, server: LocalServer) -> None:
    async with Proxy(server.port) as proxy:
        flaky = await open_bus("n2", url=proxy.url, request_timeout_seconds=0.3)
        proxy.filter = every_third_receipt_is_lost()
        events = [promoted(n) for n in range(12)]

        receipts = await asyncio.gather(*(flaky.publish(event) for event in events))

        assert any(r.duplicate for r in receipts)
        assert await stored(bus) == len(events)


async def test_bytes_without_an_id_are_stored_once_too(bus: Bus, open_bus: OpenBus, server: LocalServer) -> None:
    async with Proxy(server.port) as proxy:
        flaky = await open_bus("n2", url=proxy.url, request_timeout_seconds=0.3)
        proxy.filter = every_third_receipt_is_lost()

        await flaky.publish_raw("fc.ev.model.promoted.m", b"{}")

        assert await stored(bus) == 1


async def test_the_headers_of_the_caller_are_left_alone(bus: Bus) -> None:
    headers = {"X": "1"}

    await bus.publish_raw("fc.ev.model.promoted.m", b"{}", headers)

    assert headers == {"X": "1"}


async def test_publishing_goes_on_over_a_restart_of_the_server(bus: Bus, server: LocalServer) -> None:
    async def publish_all() -> None:
        for n in range(60):
            await bus.publish(promoted(n))

    publishing = asyncio.create_task(publish_all())
    await asyncio.sleep(0.03)
    await server.restart_async()
    await publishing

    assert await stored(bus) == 60


async def test_a_bus_that_stays_away_is_an_error_at_the_deadline(bus: Bus, server: LocalServer) -> None:
    await server.kill_async()
    began = time.monotonic()

    with pytest.raises(BusUnavailable, match="not stored within the deadline"):
        await bus.publish(promoted(), deadline_seconds=0.5)

    assert 0.4 < time.monotonic() - began < 15  # the deadline of the settings is 20 s


async def test_an_event_that_the_bus_does_not_take_is_spooled_whole(
    bus: Bus, server: LocalServer, tmp_path: Path
) -> None:
    await server.kill_async()
    event = promoted()

    receipt = await bus.emit(event, SpoolWriter(tmp_path / "spool"), deadline_seconds=0.2)

    assert receipt is None
    [record] = await asyncio.to_thread(lambda: list(SpoolReader(tmp_path / "spool").pending()))
    assert json.loads(record.data)["id"] == event.id


async def test_a_message_over_the_limit_is_refused_at_once_and_costs_no_connection(bus: Bus) -> None:
    generation = bus.wire.generation
    limit = bus.wire.max_payload

    with pytest.raises(PayloadTooLarge):
        await bus.publish_raw("fc.ev.model.promoted.m", b"x" * (limit + 1))
    # The server counts headers as payload, and would drop the connection.
    with pytest.raises(PayloadTooLarge):
        await bus.publish_raw("fc.ev.model.promoted.m", b"x" * (limit - 10), {"X": "y" * 100})
    await bus.publish_raw("fc.ev.model.promoted.m", b"x" * (limit - 100))

    assert bus.wire.generation == generation


async def test_a_subject_with_a_line_break_is_refused(bus: Bus) -> None:
    with pytest.raises(OperationRefused):
        await bus.publish_raw("fc.ev.model.promoted.m\r\nPUB x 0", b"")


async def test_a_job_that_is_queued_already_is_not_queued_again(bus: Bus) -> None:
    await bus.publish_raw("fc.work.gpu.m", b"1")

    with pytest.raises(SubjectFull):
        await bus.publish_raw("fc.work.gpu.m", b"2")


async def test_a_batch_is_stored_whole(bus: Bus) -> None:
    last = await bus.batch([BatchMessage(f"fc.reg.state.slot.m{n}", b"{}", 0) for n in range(5)])

    assert last == 5
    assert await stored(bus, "FC_REGISTRY") == 5


async def test_a_batch_that_lost_its_race_stores_nothing(bus: Bus) -> None:
    await bus.batch([BatchMessage("fc.reg.state.slot.m", b"1", 0)])

    with pytest.raises(Conflict):
        await bus.batch(
            [
                BatchMessage("fc.reg.log.m.00000002", b"2", 0),
                BatchMessage("fc.reg.state.slot.m", b"2", 0),
                BatchMessage("fc.reg.fact.slot.ordered.m.1", b"2", 0),
            ]
        )

    assert await stored(bus, "FC_REGISTRY") == 1


async def test_a_batch_with_an_id_that_was_stored_is_a_conflict(bus: Bus) -> None:
    headers = {"Nats-Msg-Id": "same"}
    await bus.batch([BatchMessage("fc.reg.fact.a.b.m.1", b"1", 0, headers)])

    with pytest.raises(Conflict):
        await bus.batch([BatchMessage("fc.reg.fact.a.b.m.2", b"1", 0, headers), BatchMessage("fc.reg.state.x", b"")])


async def test_a_batch_without_an_answer_is_unknown_and_not_failed(
    bus: Bus, open_bus: OpenBus, server: LocalServer
) -> None:
    async with Proxy(server.port) as proxy:
        flaky = await open_bus("n2", url=proxy.url, request_timeout_seconds=0.5)
        proxy.filter = lambda frame: None if b'"batch":' in frame else frame

        with pytest.raises(OutcomeUnknown):
            await flaky.batch([BatchMessage("fc.reg.state.a", b"1", 0), BatchMessage("fc.reg.state.b", b"1", 0)])

        # It was stored all the same: whoever takes it for failed and repeats it would act twice.
        assert await stored(bus, "FC_REGISTRY") == 2


async def test_a_batch_with_one_message_too_large_leaves_no_half_batch(bus: Bus) -> None:
    large = b"x" * (bus.wire.max_payload + 1)
    for _ in range(60):  # a stream has room for 50 batches in progress
        with pytest.raises(PayloadTooLarge):
            await bus.batch([BatchMessage("fc.reg.state.a", b"1"), BatchMessage("fc.reg.state.b", large)])

    assert await bus.batch([BatchMessage("fc.reg.state.a", b"1")]) == 1


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_of_an_impossible_size_is_refused(bus: Bus, count: int) -> None:
    with pytest.raises(OperationRefused):
        await bus.batch([BatchMessage("fc.reg.state.a", b"")] * count)


async def test_too_many_open_batches_are_a_reason_to_try_again_later(bus: Bus) -> None:
    for n in range(50):  # begun by clients that died: the server keeps them for 10 s
        headers = {"Nats-Batch-Id": f"abandoned-{n}", "Nats-Batch-Sequence": "1"}
        await bus.wire.request(f"fc.reg.state.{n}", b"1", headers=headers, timeout_seconds=5)

    with pytest.raises(TransportFailed, match="too many") as refused:
        await bus.batch([BatchMessage("fc.reg.state.a", b"1", 0), BatchMessage("fc.reg.state.b", b"1", 0)])

    assert not isinstance(refused.value, OutcomeUnknown)
    assert await stored(bus, "FC_REGISTRY") == 0


@pytest.mark.soak
async def test_a_minute_of_kills_loses_no_acknowledged_event(tmp_path: Path) -> None:
    server = LocalServer(tmp_path / "nats")
    await server.start_async()
    acknowledged: set[str] = set()
    async with connect(fast_settings(server.url, publish_deadline_seconds=60), node="n1", daemon="test") as bus:
        await declare(bus, 1)
        ending = asyncio.Event()

        async def publisher() -> None:
            while not ending.is_set():
                event = promoted()
                await bus.publish(event)
                acknowledged.add(event.id)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(publisher())
            until = time.monotonic() + 60
            while time.monotonic() < until:
                await asyncio.sleep(2)
                await server.restart_async()
            ending.set()
        ids = [entry.headers["Nats-Msg-Id"] async for entry in bus.tail("FC_EVENTS", [])]
    await server.stop_async()

    assert acknowledged <= set(ids)
    assert len(ids) == len(set(ids))
