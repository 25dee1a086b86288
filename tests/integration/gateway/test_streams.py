"""Event streams: nothing is missed by whoever comes back, nobody is held up by whoever is slow, and the gateway's end
hurts no one."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.gateway.gateways import LOOPBACK, GatewayProcess, gateway_of
from tests.integration.registry.small_fleet import SECONDS

from fleetcast.bus import Bus, connect
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import EVENTS
from fleetcast.config.settings import BusSettings
from fleetcast.daemons.testing import node_settings

pytestmark = pytest.mark.asyncio

SUBJECT = "fc.ev.model.registered.streamed"
STREAM_EVENTS = 64
MAX_STREAMS = 230


@dataclass
class Watched:
    """What one client was sent."""

    ids: list[int] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    ended: bool = False


class Client:
    """A client of an event stream, over a bare socket."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self.seen = Watched()
        self._task: asyncio.Task[None] | None = None
        self.opened = asyncio.Event()

    async def open(self, query: str = "", *, last: int | None = None) -> "Client":
        self._task = asyncio.create_task(self._read(query, last))
        async with asyncio.timeout(SECONDS):
            await self.opened.wait()
        return self

    async def _read(self, query: str, last: int | None) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._gateway.port)
        resumed = f"Last-Event-ID: {last}\r\n" if last is not None else ""
        writer.write(f"GET /api/events{query} HTTP/1.1\r\nHost: localhost\r\n{resumed}\r\n".encode())
        event = ""
        try:
            async for raw in reader:
                line = raw.decode().strip()
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                    self.seen.notices.append(event)
                    self.opened.set()
                elif line.startswith("id: "):
                    self.seen.ids.append(int(line.removeprefix("id: ")))
        except ConnectionError:
            pass
        finally:
            self.seen.ended = True
            writer.close()

    async def until(self, what: str, count: int) -> None:
        await _until(what, lambda: len(self.seen.ids) >= count)

    async def close(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def _until(what: str, holds: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.01)
    assert holds(), what


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, GatewayProcess]]:
    folder: Path = tmp_path_factory.mktemp("streams")
    with LocalServer(folder / "nats") as server:
        settings = node_settings(folder, "node-1", server.url)
        limits = {"stream_events": STREAM_EVENTS, "stalled_seconds": 2.0, "max_streams": MAX_STREAMS}
        gateway = gateway_of(folder, settings, "gateway", **limits)
        try:
            gateway.start()
            gateway.until_ready()
            yield server, gateway
        finally:
            gateway.kill()


@pytest.fixture
def gateway(served: tuple[LocalServer, GatewayProcess]) -> GatewayProcess:
    """The gateway, which a test may have stopped."""
    if served[1].ended:
        served[1].start()
        served[1].until_ready()
    return served[1]


@pytest_asyncio.fixture
async def bus(served: tuple[LocalServer, GatewayProcess]) -> AsyncIterator[Bus]:
    async with connect(BusSettings(url=served[0].url), node="tests", daemon="tests") as made:
        yield made


async def say(bus: Bus, count: int, size: int = 10) -> list[int]:
    """Events, and their places in the log."""
    body = {"path": "/x", "node": "n", "metadata": {"note": "x" * size}}
    said = [json.dumps({**body, "version": f"v{number}"}).encode() for number in range(count)]
    return [(await bus.publish_raw(SUBJECT, each)).sequence for each in said]


@contextlib.asynccontextmanager
async def watching(gateway: GatewayProcess, query: str = "", *, last: int | None = None) -> AsyncIterator[Client]:
    client = await Client(gateway).open(query, last=last)
    try:
        yield client
    finally:
        await client.close()


async def test_whoever_comes_back_misses_nothing_and_sees_nothing_twice(gateway: GatewayProcess, bus: Bus) -> None:
    async with watching(gateway) as client:
        first = await say(bus, 5)
        await client.until("five events", 5)
    missed = await say(bus, 5)
    async with watching(gateway, last=client.seen.ids[-1]) as again:
        later = await say(bus, 3)
        await again.until("all that was missed", 8)
    assert client.seen.ids == first
    assert again.seen.ids == missed + later


async def test_what_is_not_at_hand_any_more_comes_from_the_log(gateway: GatewayProcess, bus: Bus) -> None:
    """More events than a gateway keeps; the client takes them in as they come, more than may wait for a slow one."""
    begin = await bus.last_sequence("FC_EVENTS")
    body = json.dumps({"version": "v", "path": "/x", "node": "n"}).encode()
    for _ in range(25):
        await asyncio.gather(*(bus.publish_raw(SUBJECT, body) for _ in range(100)))
    async with watching(gateway, last=begin) as client:
        more = await say(bus, 3)
        await client.until("the past and what came meanwhile", 2503)
    assert client.seen.ids == list(range(begin + 1, more[-1] + 1))


async def test_a_client_gets_what_it_asked_for(gateway: GatewayProcess, bus: Bus) -> None:
    async with watching(gateway, "?type=MODEL_REGISTERED&model=streamed&tail=0") as wanted:
        async with watching(gateway, "?type=model.promoted") as other:
            told = await say(bus, 3)
            promoted = await bus.publish_raw(
                "fc.ev.model.promoted.other", b'{"version": "1", "path": "/x", "node": "n"}'
            )
            await wanted.until("all", 3)
            await other.until("what it asked for", 1)
        assert wanted.seen.ids == told
        assert other.seen.ids == [promoted.sequence]
    async with watching(gateway, "?tail=3") as newest:
        await newest.until("the newest", 3)
    assert len(newest.seen.ids) == 3


async def test_a_client_that_takes_nothing_in_is_dropped_and_holds_nobody_up(gateway: GatewayProcess, bus: Bus) -> None:
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((LOOPBACK, gateway.port))
        slow.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with watching(gateway) as quick:
            said = []
            for _ in range(40):
                said += await say(bus, 10, size=12_000)
            await quick.until("all of them", len(said))
            assert quick.seen.ids[-len(said) :] == said
        # Read at last, it finds out why, or that the connection was cut: it is not served as if nothing was.
        slow.settimeout(SECONDS)
        received = await asyncio.to_thread(_all, slow)
    assert received.count(b"\nid: ") < len(said)
    assert b"event: dropped" in received or not received.endswith(b"0\r\n\r\n")


def _all(connection: socket.socket) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return bytes(received)


async def test_many_watch_in_bounded_memory_and_one_too_many_is_told(gateway: GatewayProcess, bus: Bus) -> None:
    clients = [Client(gateway) for _ in range(200)]
    before = gateway.rss_bytes
    try:
        await asyncio.gather(*(each.open() for each in clients))
        told = await say(bus, 50, size=1000)
        await _until("everybody has all", lambda: all(each.seen.ids[-1:] == told[-1:] for each in clients))
        assert all(each.seen.ids[-50:] == told for each in clients)
        assert gateway.rss_bytes - before < 64 * 2**20
        spare = [await Client(gateway).open() for _ in range(MAX_STREAMS - len(clients))]
        clients += spare
        answer = await asyncio.to_thread(gateway.curl, "GET", "/api/events")
        assert (answer.status, answer.body["code"]) == (503, "too-many-streams")
        assert answer.headers["retry-after"]
    finally:
        await asyncio.gather(*(each.close() for each in clients))


async def test_wrong_places_in_the_log_are_named(gateway: GatewayProcess) -> None:
    wrong = await asyncio.to_thread(gateway.curl, "GET", "/api/events", None, "-H", "Last-Event-ID: one")
    assert (wrong.status, wrong.body["code"]) == (400, "invalid")
    unknown = await asyncio.to_thread(gateway.curl, "GET", "/api/events?type=model.exploded")
    assert unknown.status == 400
    async with watching(gateway, last=10**15) as beyond:
        await _until("it is told", lambda: "reset" in beyond.seen.notices)


async def test_clients_of_a_gateway_that_was_killed_go_on_with_the_next_one(gateway: GatewayProcess, bus: Bus) -> None:
    async with watching(gateway) as client:
        first = await say(bus, 3)
        await client.until("the first", 3)
        await asyncio.to_thread(gateway.kill)
        await _until("the stream ended", lambda: client.seen.ended)
    meanwhile = await say(bus, 3)
    await asyncio.to_thread(gateway.start)
    await asyncio.to_thread(gateway.until_ready)
    async with watching(gateway, last=client.seen.ids[-1]) as again:
        later = await say(bus, 3)
        await again.until("the rest", 6)
    assert client.seen.ids + again.seen.ids == first + meanwhile + later


async def test_a_gateway_starts_behind_a_log_that_was_purged(gateway: GatewayProcess, bus: Bus) -> None:
    last = (await say(bus, 5))[-1]
    await asyncio.to_thread(gateway.kill)
    await bus.js.api(f"STREAM.PURGE.{EVENTS}")
    await asyncio.to_thread(gateway.start)
    await asyncio.to_thread(gateway.until_ready)
    async with watching(gateway, last=last - 2) as client:
        told = await say(bus, 2)
        await client.until("what came later", 2)
    assert client.seen.ids == told


async def test_a_gateway_that_stops_says_so_to_those_who_watch(gateway: GatewayProcess) -> None:
    async with watching(gateway) as client:
        assert await asyncio.to_thread(gateway.stop) == 0
        await _until("it is told", lambda: "restarting" in client.seen.notices and client.seen.ended)
