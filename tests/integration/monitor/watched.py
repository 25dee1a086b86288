"""Monitors on a real server, in this process; and what serving code, registry and nodes would say to them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetcast.bus import BatchMessage, Bus, connect
from fleetcast.bus.streams import EVENTS, LEASES_BUCKET, PERF
from fleetcast.bus.testing import fast_settings
from fleetcast.config.monitor import MonitorSettings
from fleetcast.config.settings import DistributorSettings, Settings
from fleetcast.daemons.monitor.daemon import Monitor
from fleetcast.daemons.monitor.policy import Mode, ModelPolicy, Policy
from fleetcast.daemons.runtime import Daemon, Grace
from fleetcast.daemons.runtime.notify import Notifier
from fleetcast.daemons.testing import heartbeat
from fleetcast.events.event import Event
from fleetcast.events.state import Cause, ModelStatus, SlotEntry, SlotState, slot_subject
from fleetcast.registry.monitoring import ask
from fleetcast.registry.rules import dump

PATIENCE_SECONDS = 60.0
ARTIFACTS = {"1": "1" * 64, "2": "2" * 64, "3": "3" * 64}
AUTO = ModelPolicy(mode=Mode.AUTO, warm_up_seconds=0.0, stale_after_seconds=3600.0)


@dataclass
class Watching:
    """A monitor that runs."""

    monitor: Monitor
    daemon: Daemon
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """End it in order."""
        self.daemon.stop("the test says so")
        await self.task
        self.daemon.last_resort.disarm()

    async def kill(self) -> None:
        """End it like a process that is killed: nothing is given back and nothing said."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.daemon.last_resort.disarm()


@dataclass
class World:
    """A server with a bus on it, and all monitors that a test started."""

    bus: Bus
    url: str
    folder: Path
    lease_seconds: float = 30.0
    started: list[Watching] = field(default_factory=list)

    # -- monitors

    async def start(self, node: str = "m1", policy: ModelPolicy = AUTO, *, url: str | None = None) -> Watching:
        """A monitor that judges what is its share."""
        settings = Settings(
            bus=fast_settings(url or self.url),
            distributor=DistributorSettings(heartbeat_seconds=0.5),
            monitor=MonitorSettings(replay_minutes=10),
        )
        daemon = Daemon("monitor", node, settings, notifier=Notifier(), grace=Grace(drain_seconds=1.0))
        ready: asyncio.Future[Monitor] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._live(daemon, Policy(policy), ready), name=f"monitor-{node}")
        task.add_done_callback(lambda ended: ready.cancel() if not ready.done() else None)
        watching = Watching(await ready, daemon, task)
        self.started.append(watching)
        return watching

    async def _live(self, daemon: Daemon, policy: Policy, ready: asyncio.Future[Monitor]) -> None:
        async with connect(daemon.settings.bus, node=daemon.node, daemon="monitor") as bus:
            monitor = Monitor(daemon, bus, policy, lease_seconds=self.lease_seconds)
            async with daemon.roots() as roots:
                await monitor.start(roots)
                ready.set_result(monitor)
            await monitor.stopped()

    # -- what others say

    async def order(self, model: str, production: str, *, canary: str | None = None, generation: int = 1) -> None:
        """What is served from now on."""
        previous = None if generation == 1 else SlotEntry(version="1", artifact=ARTIFACTS["1"])
        state = SlotState.model_validate(
            {
                "model": model,
                "generation": generation,
                "production": {"version": production, "artifact": ARTIFACTS[production]},
                "previous": previous,
                "canary": {"version": canary, "artifact": ARTIFACTS[canary], "percent": 10} if canary else None,
                "cause": Cause(event="e", sequence=0, by="/test", correlation="c"),
                "at": "2026-11-21T00:00:00.000Z",
            }
        )
        await self.bus.batch([BatchMessage(slot_subject(model), dump(state))])

    async def serves(self, node: str, model: str, version: str, generation: int) -> None:
        """A node's heartbeat."""
        held = ModelStatus(model=model, generation=generation, current=version, path="/")
        status = heartbeat(node, at="2026-11-21T00:00:00Z", models=(held,))
        await self.bus.kv_put("fc_nodes", f"{node}.distributor", status.model_dump_json().encode())

    async def report(self, model: str, version: str = "1", **said: Any) -> int:
        """A snapshot, as serving code publishes it; its sequence."""
        body = {"version": version, "node": "gpu-1", **said}
        return (await self.bus.publish_raw(f"fc.perf.{model}", json.dumps(body).encode())).sequence

    async def say(self, subject: str, text: str) -> int:
        """Bytes, as `nats pub` sends them."""
        return (await self.bus.publish_raw(subject, text.encode())).sequence

    # -- what comes of it

    async def events(self, *names: str) -> list[Event]:
        """All events of these kinds, `verdict.changed` for example, in their order."""
        subjects = tuple(f"fc.ev.{name.split('.', 1)[0]}.{name.split('.', 1)[1].replace('.', '_')}.*" for name in names)
        return [entry.event() async for entry in self.bus.tail(EVENTS, subjects)]

    async def asked(self, what: str, model: str | None = None) -> dict[str, Any]:
        """The monitors' answer."""
        return await ask(self.bus, {"ask": what, "model": model}, deadline_seconds=PATIENCE_SECONDS)

    async def all_seen(self, model: str) -> dict[str, Any]:
        """How a model stands once everything that was published of it was judged."""
        await self.bus.publish_raw(f"fc.perf.{model}", b'{"version": "mark"}')
        before = await self.bus.last_sequence(PERF)
        await until(lambda: self._reached(before))
        return await self.asked("health", model)

    async def _reached(self, sequence: int) -> bool:
        return any(each.monitor.position >= sequence for each in self.started if not each.task.done())

    async def shorten_leases(self, seconds: float) -> None:
        """Make leases end sooner than in a fleet: nobody wants to wait half a minute here."""
        name = f"KV_{LEASES_BUCKET}"
        config = (await self.bus.js.api(f"STREAM.INFO.{name}"))["config"]
        age = int(seconds * 10**9)
        await self.bus.js.api(f"STREAM.UPDATE.{name}", {**config, "max_age": age, "duplicate_window": age})
        self.lease_seconds = seconds


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110  # what it waits for is behind a server
            await asyncio.sleep(0.02)


@asynccontextmanager
async def world(bus: Bus, url: str, folder: Path) -> AsyncIterator[World]:
    """Everything that a test starts is ended with it."""
    made = World(bus, url, folder)
    try:
        yield made
    finally:
        for each in made.started:
            if not each.task.done():
                await each.kill()
