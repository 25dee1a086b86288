"""Publishers and workers that go on through every fault, and what became of their events."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.cluster.machines import child
from tests.system.cluster.tally import Tally, tally
from tests.system.cluster.worker import EFFECTS, SUBJECT, cause_of

from fleetcast.bus import Bus, BusError, connect
from fleetcast.bus.errors import TransportFailed
from fleetcast.bus.forwarding import Forwarder
from fleetcast.client.spool import SpoolWriter
from fleetcast.config.settings import BusSettings
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import ModelPromoted

PUBLISHERS = 4
PAUSE_SECONDS = 0.02
"""Between two events of a publisher: a load that leaves the servers time for elections."""
GROUP = "campaign"
REST_SECONDS = 120.0
"""How long everything may take to come to rest after the last fault."""


@dataclass
class Told:
    """What publishers were told.

    Attributes:
        acknowledged: ids of events that are said to be stored, or to be kept until they are (a job's spool).
        refused: how many were given up, each with an error.
        longest_seconds: the longest that one publisher waited for an answer.
    """

    acknowledged: list[str] = field(default_factory=list)
    refused: int = 0
    longest_seconds: float = 0.0

    async def more(self, count: int, seconds: float = REST_SECONDS) -> None:
        """Wait until so many more are acknowledged.

        Raises:
            TimeoutError: they are not.
        """
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - one of many publishers makes the last one
                await asyncio.sleep(0.02)


def promoted(publisher: str, number: int) -> Event:
    """One event."""
    said = ModelPromoted(model=publisher, version=str(number), path="/m.pt", node="n1")
    return new_event(said, source="/campaign")


async def _publish(bus: Bus, name: str, told: Told, over: asyncio.Event, *, trusting: bool) -> None:
    number = 0
    while not over.is_set():
        number += 1
        event = promoted(name, number)
        began = time.monotonic()
        if trusting:
            # The broken variant: what was sent is taken for stored.
            told.acknowledged.append(event.id)
            with contextlib.suppress(BusError):
                await bus.publish(event, deadline_seconds=0.01)
        else:
            try:
                await bus.publish(event)
                told.acknowledged.append(event.id)
            except TransportFailed:
                told.refused += 1
        told.longest_seconds = max(told.longest_seconds, time.monotonic() - began)
        await asyncio.sleep(PAUSE_SECONDS)


async def _spool(writer: SpoolWriter, told: Told, over: asyncio.Event) -> None:
    """A training job: what its spool has taken is promised."""
    number = 0
    while not over.is_set():
        number += 1
        event = promoted("job", number)
        await asyncio.to_thread(writer.append, event.encode()[0])
        told.acknowledged.append(event.id)
        await asyncio.sleep(10 * PAUSE_SECONDS)


async def _forward(forwarder: Forwarder, told_over: asyncio.Event) -> None:
    """As a distributor does it; ends when nothing waits any more."""
    with await forwarder.open() as reader:
        while True:
            sent = await forwarder.forward(reader)
            if told_over.is_set() and not sent.waiting and not sent.records:
                return
            if sent.problem or not sent.records:
                await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def publishing(
    settings: BusSettings, folder: Path, *, job: bool = True, trusting: bool = False
) -> AsyncIterator[Told]:
    """Publish until the context is left; then every event has its answer.

    Args:
        settings: of every publisher; each has a connection of its own.
        folder: for the spool of a job.
        job: whether a training job writes to its spool as well, which is forwarded.
        trusting: the broken variant, which counts what it was not told.
    """
    told, over = Told(), asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        buses = [
            await stack.enter_async_context(connect(settings, node=f"p{n}", daemon="campaign"))
            for n in range(PUBLISHERS)
        ]
        spool = folder / f"spool{random.randrange(10**9)}"
        forwarder = Forwarder(buses[0], str(spool), node="n1", deadline_seconds=settings.publish_deadline_seconds)
        async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
            for n, bus in enumerate(buses):
                group.create_task(_publish(bus, f"m{n}", told, over, trusting=trusting))
            if job:
                group.create_task(_spool(SpoolWriter(spool), told, over))
                group.create_task(_forward(forwarder, over))
            yield told
            over.set()
            limit.reschedule(asyncio.get_running_loop().time() + REST_SECONDS)


class Workers:
    """Processes that handle what is published; each can be killed, and another one takes its place."""

    def __init__(self, url: str, how: str) -> None:
        self._url = url
        self._how = how
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Start one more, and wait until it works."""
        words = child("tests.system.cluster.worker", self._url, GROUP, self._how)
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL", *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        self._running.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(REST_SECONDS):
            await process.stdout.readline()

    async def kill(self, number: int) -> None:
        """SIGKILL one."""
        process = self._running.pop(number % len(self._running))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def end(self) -> None:
        while self._running:
            await self.kill(0)


@contextlib.asynccontextmanager
async def working(url: str, *, count: int = 2, how: str = "rightly") -> AsyncIterator[Workers]:
    """Workers for the duration."""
    workers = Workers(url, how)
    try:
        await asyncio.gather(*(workers.start() for _ in range(count)))
        yield workers
    finally:
        await workers.end()


async def _read(bus: Bus, subject: str) -> list[Event]:
    return [entry.event() async for entry in bus.tail("FC_EVENTS", [subject])]


async def count(bus: Bus, acknowledged: Sequence[str], *, effects: bool, seconds: float = REST_SECONDS) -> Tally:
    """Read the stream until nothing acknowledged is missing and everything has its effect, or the time is over."""
    deadline, found = time.monotonic() + seconds, tally(acknowledged, (), ())
    while True:
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(max(deadline - time.monotonic(), 1.0)):
                stored = [event.id for event in await _read(bus, SUBJECT)]
                done = [cause_of(event) for event in await _read(bus, EFFECTS)] if effects else stored
                found = tally(acknowledged, stored, done)
        if not (found.lost or found.unhandled or found.doubled) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)
