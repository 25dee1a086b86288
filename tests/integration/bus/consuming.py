"""What tests of consumers share: handlers that take notes, and conditions to wait for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fleetcast.bus import Bus, ConsumerSpec, DeadLetter, Delivery
from fleetcast.bus.errors import NotFound
from fleetcast.bus.retry import Backoff

QUICK = Backoff(base_seconds=0.02, cap_seconds=0.1)
WAIT_SECONDS = 30.0
"""How long a test waits for what takes milliseconds: the machine may be busy with other things."""


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

    async def until(self, condition: Callable[["Recorder"], bool], seconds: float = WAIT_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_handled(self, count: int, seconds: float = WAIT_SECONDS) -> None:
        await self.until(lambda r: len(r.seen) >= count and r.running == 0, seconds)

    @property
    def sequences(self) -> list[int]:
        return [d.sequence for d in self.seen]


@contextlib.asynccontextmanager
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


async def until_settled(bus: Bus, name: str = "group") -> dict[str, Any]:
    """The consumer's information once it exists and nothing waits for an acknowledgement any more."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(NotFound):
                info = await consumer_info(bus, name)
                if info["num_ack_pending"] == 0 and info["num_pending"] == 0:
                    return info
            await asyncio.sleep(0.02)


async def consumers(bus: Bus) -> list[str]:
    """Names of the consumers of FC_EVENTS."""
    return (await bus.js.api("CONSUMER.NAMES.FC_EVENTS"))["consumers"] or []


async def until_consumers(bus: Bus, count: int) -> list[str]:
    """The names once FC_EVENTS has so many consumers."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            names = await consumers(bus)
            if len(names) == count:
                return names
            await asyncio.sleep(0.01)


async def dead_letters(bus: Bus, count: int) -> list[DeadLetter]:
    """The dead letters, once there are so many."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            letters = await bus.dead.list()
            if len(letters) >= count:
                return letters
            await asyncio.sleep(0.02)
