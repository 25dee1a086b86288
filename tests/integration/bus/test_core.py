"""Core messages, requests, services."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from fleetcast.bus import Bus, BusState, Message, Service, ServiceError, connect, services
from fleetcast.bus.errors import BusTimeout, NoResponder, ServiceFailed
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]


async def test_whoever_listens_hears_what_is_sent_until_they_stop(bus: Bus) -> None:
    heard: asyncio.Queue[Message] = asyncio.Queue()
    stop = await bus.listen("fc.progress.*", heard.put_nowait)

    assert await bus.send("fc.progress.n1", b"50 %") is True
    message = await asyncio.wait_for(heard.get(), 30)
    await stop()
    await bus.send("fc.progress.n1", b"60 %")
    await bus.rtt()

    assert (message.subject, message.data) == ("fc.progress.n1", b"50 %")
    assert heard.empty()


async def test_what_was_sent_before_the_end_is_sent(bus: Bus, server: LocalServer) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    await bus.listen("x", lambda message: heard.put_nowait(message.data))
    await bus.wire.flush(30)

    async with connect(fast_settings(server.url), node="n2", daemon="test", wait=False) as other:
        for n in range(200):
            await other.send("x", b"%d" % n)

    assert [await asyncio.wait_for(heard.get(), 30) for _ in range(200)] == [b"%d" % n for n in range(200)]


async def test_a_listener_that_fails_goes_on_listening(bus: Bus) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    def listen(message: Message) -> None:
        if message.data == b"bad":
            raise ValueError("a fault of the listener")
        heard.put_nowait(message.data)

    await bus.listen("x", listen)
    await bus.send("x", b"bad")
    await bus.send("x", b"good")

    assert await asyncio.wait_for(heard.get(), 30) == b"good"


async def test_listeners_that_begin_and_end_while_the_connection_is_replaced_are_all_in_order(bus: Bus) -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    stops = [await bus.listen(f"early.{n}", lambda m: None) for n in range(50)]

    async def begin(n: int) -> None:
        await bus.listen(f"late.{n}", lambda m: heard.put_nowait(n))

    bus.wire.replace("test")
    for n in range(50):
        await asyncio.gather(begin(n), stops[n]())
    await bus.wire.wait_connected(10)
    await bus.wire.flush(30)
    for n in range(50):
        await bus.send(f"late.{n}", b"")

    assert {await asyncio.wait_for(heard.get(), 30) for _ in range(50)} == set(range(50))
    assert heard.empty()
    for n in range(50):
        with pytest.raises(NoResponder):
            await bus.request(f"early.{n}", b"")


async def test_nobody_to_ask_is_told_apart_from_no_answer(bus: Bus) -> None:
    await bus.listen("mute", lambda message: None)
    began = time.monotonic()

    with pytest.raises(NoResponder):
        await bus.request("nobody", b"", timeout_seconds=60)
    assert time.monotonic() - began < 30
    with pytest.raises(BusTimeout):
        await bus.request("mute", b"", timeout_seconds=0.1)
    assert await bus.request_many("nobody", b"", timeout_seconds=5) == []


def service(node: str) -> Service:
    async def status(data: bytes) -> bytes:
        return json.dumps({"node": node, "asked": data.decode()}).encode()

    async def refuse(data: bytes) -> bytes:
        raise ServiceError(409, "not while\ndraining")

    async def fail(data: bytes) -> bytes:
        raise KeyError("a fault")

    return Service(
        name="fleetcast-distributor",
        version="0.1.0",
        description="test",
        metadata={"daemon": "distributor"},
        endpoints={
            "status": ("fc.svc.distributor.status", status),
            "refuse": ("fc.svc.distributor.refuse", refuse),
            "fail": ("fc.svc.distributor.fail", fail),
        },
        data=lambda: {"transfers": 2},
    )


async def test_every_node_answers_a_question_to_all(bus: Bus, open_bus: OpenBus) -> None:
    nodes = [bus, await open_bus("n2"), await open_bus("n3")]
    for each in nodes:
        await each.serve(service(each.node))
        await each.wire.flush(30)
    began = time.monotonic()

    answers = await bus.request_many("fc.svc.distributor.status", b"x", timeout_seconds=60, expect=3)

    assert {"n1", "n2", "n3"} == {json.loads(a)["node"] for a in answers}
    # Without an expectation, the silence after the last answer ends it.
    settled = await bus.request_many("fc.svc.distributor.status", b"x", timeout_seconds=60, settle_seconds=1)
    assert len(settled) == 3
    assert time.monotonic() - began < 30


async def test_errors_of_a_service_reach_who_asked_with_code_and_reason(bus: Bus) -> None:
    await bus.serve(service("n1"))

    with pytest.raises(ServiceFailed, match="not while draining") as refused:
        await bus.request("fc.svc.distributor.refuse", b"")
    assert refused.value.code == 409
    with pytest.raises(ServiceFailed, match="KeyError") as failed:
        await bus.request("fc.svc.distributor.fail", b"")
    assert failed.value.code == 500
    assert await bus.request_many("fc.svc.distributor.fail", b"", timeout_seconds=2, expect=1) == []


async def test_who_asked_does_not_wait_until_the_trace_of_a_fault_is_written(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, written = threading.Event(), threading.Event()

    class SlowLog:
        def error(self, event: str, **fields: object) -> None:
            told.set()
            written.wait(60)

    monkeypatch.setattr(services, "log", SlowLog())
    await bus.serve(service("n1"))
    try:
        with pytest.raises(ServiceFailed, match="KeyError"):
            await bus.request("fc.svc.distributor.fail", b"", timeout_seconds=30)
        assert await asyncio.to_thread(told.wait, 30)
    finally:
        written.set()


async def test_a_service_shows_itself_to_the_services_protocol(bus: Bus) -> None:
    running = await bus.serve(service("n1"))
    await bus.request("fc.svc.distributor.status", b"")
    with pytest.raises(ServiceFailed):
        await bus.request("fc.svc.distributor.refuse", b"")

    for suffix in ("", ".fleetcast-distributor", f".fleetcast-distributor.{running.id}"):
        ping = json.loads(await bus.request(f"$SRV.PING{suffix}", b""))
        assert ("io.nats.micro.v1.ping_response", "fleetcast-distributor", running.id, "0.1.0") == (
            ping["type"],
            ping["name"],
            ping["id"],
            ping["version"],
        )
    info = json.loads(await bus.request("$SRV.INFO", b""))
    stats = json.loads(await bus.request("$SRV.STATS", b""))

    assert info["metadata"] == {"node": "n1", "daemon": "distributor"}
    assert {"fc.svc.distributor.status", "fc.svc.distributor.refuse", "fc.svc.distributor.fail"} == {
        endpoint["subject"] for endpoint in info["endpoints"]
    }
    counts = {e["name"]: (e["num_requests"], e["num_errors"], e["last_error"]) for e in stats["endpoints"]}
    assert counts == {"status": (1, 0, ""), "refuse": (1, 1, "409:not while draining"), "fail": (0, 0, "")}
    assert stats["endpoints"][0]["data"] == {"transfers": 2}


async def test_a_service_answers_again_after_a_restart_and_no_more_after_its_stop(
    bus: Bus, server: LocalServer
) -> None:
    running = await bus.serve(service("n1"))
    ready = asyncio.Event()
    bus.on_state(lambda state: ready.set() if state is BusState.READY else None)
    await server.restart_async()
    await asyncio.wait_for(ready.wait(), 30)

    assert await bus.request("fc.svc.distributor.status", b"")
    await running.stop()
    with pytest.raises(NoResponder):
        await bus.request("fc.svc.distributor.status", b"")
