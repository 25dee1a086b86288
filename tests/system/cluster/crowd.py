"""`python -m tests.system.cluster.crowd URL FIRST COUNT MOVING_FILE`: so many distributors, as far as NATS can tell.

Each has a connection, a canary, a heartbeat, watches, consumers and services like a real one, through the same code and
with the settings of a fleet; it has no files and does not read what it is sent. While MOVING_FILE is there, each has a
transfer under way and says how far it is. One line of JSON when all of them are connected; one at the end of stdin,
with what they did.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks._report import quiet_logs

from fleetcast.bus import Bus, InSync, Service, connect, pull
from fleetcast.bus.consume import Delivery
from fleetcast.bus.errors import BusError
from fleetcast.config.settings import BusSettings, DistributorSettings, NodeSettings, Settings
from fleetcast.daemons.distributor import rollcall
from fleetcast.daemons.distributor.intake import INTAKE, submissions_to
from fleetcast.daemons.distributor.neighbours import ANSWERS, NOTICES
from fleetcast.daemons.distributor.report import GC_SUBJECT, STATUS_SUBJECT, VERIFY_SUBJECT
from fleetcast.daemons.runtime import Daemon, Grace
from fleetcast.daemons.runtime.beat import Heartbeat, _now
from fleetcast.daemons.runtime.notify import Notifier
from fleetcast.events import names
from fleetcast.events.lifecycle import drain_subject
from fleetcast.events.payloads import Checks, Endpoints
from fleetcast.events.state import InstalledVersion, ModelStatus, TransferStatus, progress_subject
from fleetcast.registry import OriginRegistry
from fleetcast.registry.slots import ALL_SLOTS, SlotsSince, watch_slots

MODELS = 4
"""That each node reports in its heartbeat, with two versions of each."""
SIZE = 2**30
DIALS_AT_ONCE = 4
PATIENCE_SECONDS = 60.0
"""Hundreds of nodes share one event loop here: that it is late says nothing of the server, and a node that took that
for a fault would dial again, with all its watches, which makes the loop later still."""


@dataclass
class Counts:
    """What a crowd saw and said."""

    beats_heard: int = 0
    slots_heard: int = 0
    progress_said: int = 0
    not_ready: int = 0


def artifact(number: int) -> str:
    """The name of any content."""
    return f"{number:064x}"


def installed(version: str, number: int) -> InstalledVersion:
    return InstalledVersion(
        version=version,
        artifact=artifact(number),
        bytes=SIZE,
        checks=Checks(size="ok", sha256="ok", format="ok"),
        transport="bittorrent",
        seconds=12.5,
        installed_at="2026-01-01T00:00:00.000Z",
    )


def models() -> tuple[ModelStatus, ...]:
    """What a node holds."""
    return tuple(
        ModelStatus(
            model=f"model_{n}",
            generation=n + 2,
            current="2",
            artifact=artifact(2 * n + 1),
            follows="production",
            previous="1",
            path=f"/var/lib/fleetcast/models/model_{n}",
            installed=(installed("1", 2 * n), installed("2", 2 * n + 1)),
        )
        for n in range(MODELS)
    )


@dataclass
class Simulated:
    """One node."""

    name: str
    bus: Bus
    settings: Settings
    counts: Counts

    def tasks(self, moving: Callable[[], bool]) -> "Sequence[asyncio.Task[None]]":
        """All that a distributor does over the bus."""
        daemon = Daemon("distributor", self.name, self.settings, notifier=Notifier.from_environment(), grace=Grace())
        beat = Heartbeat(daemon, self.bus, lambda: "4 models in sync", more=self._more)
        subject = names.find
        watched = (
            ("FC_REGISTRY", drain_subject(self.name)),
            ("FC_EVENTS", subject("artifact.available").subject("*")),
            ("FC_EVENTS", subject("archive.changed").subject("*")),
            ("FC_EVENTS", subject("node.reclaim.notice").subject(self.name)),
        )
        work = [
            beat.run(),
            self._hear_beats(),
            self._slots(),
            self._resync(),
            self._distributions(),
            self._rollouts(),
            self._intake(),
            self._submissions(),
            self._progress(moving),
            *(self._watch(stream, subject) for stream, subject in watched),
        ]
        return [asyncio.create_task(each) for each in work]

    def _more(self) -> dict[str, object]:
        number = int(self.name.removeprefix("n"))
        address = f"10.77.{number // 250}.{number % 250 + 1}"
        capability = artifact(number)[-32:]
        endpoints = Endpoints(bt=f"{address}:6881", http=f"http://{address}:8760/{capability}")
        return {
            "models": models(),
            "endpoints": endpoints,
            "transports": ("bittorrent", "aria2", "rsync"),
            "disk_free": 10**12,
            "labels": {"gpu": "nvidia", "zone": "a"},
        }

    async def serve(self) -> None:
        """Answer and listen as a distributor does."""

        async def answer(_body: bytes) -> bytes:
            return b"{}"

        await self.bus.listen(NOTICES, lambda _: None)
        await self.bus.listen(ANSWERS.format(node=self.name), lambda _: None)
        await self.bus.serve(
            Service(
                name="fleetcast-distributor",
                version="1.0.0",
                description="stands for one",
                metadata={"node": self.name},
                endpoints={
                    "status": (STATUS_SUBJECT, answer),
                    "verify": (VERIFY_SUBJECT, answer),
                    "gc": (GC_SUBJECT, answer),
                },
            )
        )

    async def _hear_beats(self) -> None:
        async for _ in rollcall.heartbeats(self.bus):
            self.counts.beats_heard += 1

    async def _slots(self) -> None:
        async for item in watch_slots(self.bus, ALL_SLOTS, lambda _: True):
            if not isinstance(item, InSync):
                self.counts.slots_heard += 1

    async def _resync(self) -> None:
        since = SlotsSince(self.bus)
        await asyncio.sleep(random.uniform(0, self.settings.distributor.resync_seconds))
        while True:
            with contextlib.suppress(BusError):
                await since.read(ALL_SLOTS, lambda _: True)
            await asyncio.sleep(self.settings.distributor.resync_seconds)

    async def _distributions(self) -> None:
        async for _ in OriginRegistry(self.bus).watch_distributions():
            pass

    async def _rollouts(self) -> None:
        async for _ in OriginRegistry(self.bus).watch_rollouts():
            pass

    async def _watch(self, stream: str, subject: str) -> None:
        async for _ in self.bus.watch(stream, (subject,)):
            pass

    async def _intake(self) -> None:
        await self.bus.consume(INTAKE, _handle)

    async def _submissions(self) -> None:
        await self.bus.consume(submissions_to(self.name), _handle)

    async def _progress(self, moving: Callable[[], bool]) -> None:
        interval = self.settings.distributor.progress_interval_seconds
        done = 0
        while True:
            await asyncio.sleep(interval)
            if moving():
                done += SIZE // 240
                self.counts.progress_said += 1
                await self.bus.send(progress_subject(self.name), self._transfer(done % SIZE).model_dump_json().encode())

    def _transfer(self, done: int) -> TransferStatus:
        return TransferStatus(
            transfer=artifact(7)[-26:],
            artifact=artifact(7),
            model="model_0",
            version="3",
            node=self.name,
            state="fetching",
            transport="bittorrent",
            bytes_total=SIZE,
            bytes_done=done,
            bytes_verified=done,
            rate_bytes_per_second=1e8,
            eta_seconds=5.0,
            peers=8,
            bytes_by_source={f"n{n:03}": done // 8 for n in range(8)},
            started_at=_now(),
            seconds=3.25,
        )


async def _handle(_delivery: Delivery) -> None:
    return


async def crowd(url: str, first: int, count: int, moving: Path) -> None:
    """Live until stdin ends."""
    counts, gate = Counts(), asyncio.Semaphore(DIALS_AT_ONCE)
    replicas = 3 if "," in url else 1
    async with contextlib.AsyncExitStack() as stack:
        simulated = await asyncio.gather(
            *(_join(stack, gate, url, f"n{n:03}", replicas, counts) for n in range(first, first + count))
        )
        state = [False]
        tasks = [task for node in simulated for task in node.tasks(lambda: state[0])]
        tasks.append(asyncio.create_task(_follow(moving, state)))
        for node in simulated:
            await node.bus.proven.wait()
        print(json.dumps({"connected": count}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        counts.not_ready = sum(node.bus.state.value != "ready" for node in simulated)
        ended = [str(task.exception()) for task in tasks if task.done() and not task.cancelled()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(json.dumps({**counts.__dict__, "ended": ended[:3]}), flush=True)
        # Three hundred orderly goodbyes would take longer than the measurement.
        os._exit(0)


async def _join(
    stack: contextlib.AsyncExitStack, gate: asyncio.Semaphore, url: str, name: str, replicas: int, counts: Counts
) -> Simulated:
    settings = Settings(node=NodeSettings(id=name), bus=_patient(url, replicas), distributor=DistributorSettings())
    async with gate:
        bus = await stack.enter_async_context(connect(settings.bus, node=name, daemon="distributor"))
        node = Simulated(name, bus, settings, counts)
        await node.serve()
    return node


def _patient(url: str, replicas: int) -> BusSettings:
    return BusSettings(
        url=url,
        replicas=replicas,
        connect_timeout_seconds=PATIENCE_SECONDS,
        request_timeout_seconds=PATIENCE_SECONDS,
        canary_timeout_seconds=PATIENCE_SECONDS,
    )


async def _follow(moving: Path, state: list[bool]) -> None:
    while True:
        state[0] = await asyncio.to_thread(moving.exists)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    quiet_logs(logging.CRITICAL)
    pull.MISSED_HEARTBEATS = int(PATIENCE_SECONDS / pull.HEARTBEAT_SECONDS)
    asyncio.run(crowd(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
