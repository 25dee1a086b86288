"""Readers that wait for what comes, and are not told of it: the last message was lost on its way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from fleetcast.bus import Bus, Entry, declare, lookout
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]
SUBJECT = "fc.ev.model.promoted.m"
DELIVERED = b"$JS.ACK.FC_EVENTS."
"""In every message that a consumer of the stream delivers, and in nothing else."""


async def watched(bus: Bus) -> AsyncIterator[Entry]:
    async for item in bus.watch("FC_EVENTS", ["fc.ev.model.>", "fc.ev.export.>"]):
        if isinstance(item, Entry):
            yield item


async def followed(bus: Bus) -> AsyncIterator[Entry]:
    async for entry in bus.tail("FC_EVENTS", [], follow=True):
        yield entry


async def batched(bus: Bus) -> AsyncIterator[Entry]:
    start = datetime.now(UTC) - timedelta(hours=1)
    async for entries in bus.batches("FC_EVENTS", [], start_time=start):
        for entry in entries:
            yield entry


READERS = {"watch": watched, "tail": followed, "batches": batched}


class Heard:
    """What a reader was given."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self._more = asyncio.Event()

    async def follow(self, entries: AsyncIterator[Entry]) -> None:
        async for entry in entries:
            self.data.append(entry.data)
            self._more.set()

    async def until(self, data: bytes, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while data not in self.data:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def hearing(entries: AsyncIterator[Entry]) -> AsyncIterator[Heard]:
    heard = Heard()
    task = asyncio.create_task(heard.follow(entries))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def lose_the_last(
    open_bus: OpenBus, stack: AsyncExitStack, server: LocalServer, how: str, *, resync_seconds: float
) -> tuple[Heard, Proxy]:
    """A reader from which the newest message was kept back."""
    proxy = await stack.enter_async_context(Proxy(server.port))
    bus = await open_bus(url=proxy.url, resync_seconds=resync_seconds)
    await declare(bus, 1)
    await bus.publish_raw(SUBJECT, b"heard")
    heard = await stack.enter_async_context(hearing(READERS[how](bus)))
    await heard.until(b"heard")
    proxy.lose(DELIVERED)
    await bus.publish_raw(SUBJECT, b"lost")
    return heard, proxy


@pytest.mark.parametrize("how", READERS)
async def test_what_was_lost_as_the_last_is_found_by_asking_the_stream(
    open_bus: OpenBus, stack: AsyncExitStack, server: LocalServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(lookout, "OVERDUE_SECONDS", 0.3)
    heard, proxy = await lose_the_last(open_bus, stack, server, how, resync_seconds=0.2)

    await heard.until(b"lost")

    assert proxy.lost == 1
    assert heard.data == [b"heard", b"lost"]


@pytest.mark.soak
@pytest.mark.parametrize("how", READERS)
async def test_without_asking_what_was_lost_as_the_last_is_never_heard(
    open_bus: OpenBus, stack: AsyncExitStack, server: LocalServer, how: str
) -> None:
    heard, proxy = await lose_the_last(open_bus, stack, server, how, resync_seconds=3600.0)

    with contextlib.suppress(TimeoutError):
        await heard.until(b"lost", seconds=8)

    assert proxy.lost == 1
    assert heard.data == [b"heard"]


@pytest.mark.parametrize("how", READERS)
async def test_a_reader_that_has_missed_nothing_is_left_alone_however_often_it_asks(
    open_bus: OpenBus, server: LocalServer, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(lookout, "OVERDUE_SECONDS", 2.0)
    bus = await open_bus(resync_seconds=0.005)
    await declare(bus, 1)
    asked, enough, ask = list[object](), asyncio.Event(), bus.js.message

    async def counted(stream: str, **query: object) -> Entry | None:
        asked.extend(filter(None, [query.get("next_by_subj")]))
        if len(asked) >= 20:
            enough.set()
        return await ask(stream, **query)

    monkeypatch.setattr(bus.js, "message", counted)
    heard = await stack.enter_async_context(hearing(READERS[how](bus)))
    said = [str(n).encode() for n in range(60)]
    for each in said:
        await bus.publish_raw(SUBJECT, each)
        await bus.publish_raw("fc.ev.node.started.n", b"others")
        await heard.until(each)
    asked.clear()
    enough.clear()
    async with asyncio.timeout(30):
        await enough.wait()

    assert [each for each in heard.data if each != b"others"] == said, "nothing was lost, and nothing told twice"
