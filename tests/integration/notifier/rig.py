"""A notifier in this process, and one as a process of its own that can be killed."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.notifier.servers import HttpServer
from tests.unit.notifier.builders import changed, opened

from fleetcast.bus import Bus, connect
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import fast_settings
from fleetcast.client.ulid import new_ulid
from fleetcast.config.notifier import NotifierSettings
from fleetcast.config.settings import LogSettings, NodeSettings, Settings, StoreSettings
from fleetcast.config.template import render
from fleetcast.daemons.notifier.channels import Channel, open_channel
from fleetcast.daemons.notifier.desk import NotifierDesk
from fleetcast.daemons.notifier.intake import Intake
from fleetcast.daemons.notifier.ledger import Ledger
from fleetcast.daemons.notifier.sender import Sender
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import Payload

LIMIT_SECONDS = 60.0
BROKEN = Path(__file__).parent / "broken"
FAST: dict[str, Any] = {
    "group_wait_seconds": 0.05,
    "group_interval_seconds": 0.1,
    "retry_base_seconds": 0.05,
    "retry_cap_seconds": 0.2,
    "attempt_seconds": 10.0,
}


def fresh(stem: str) -> str:
    """A name that no other test has: they share a server."""
    return f"{stem}-{new_ulid().lower()[-12:]}"


def settings(channels: Mapping[str, Any], **changes: Any) -> NotifierSettings:
    return NotifierSettings.model_validate({"channels": dict(channels), **FAST, **changes})


def webhook(server: HttpServer) -> dict[str, Any]:
    return {"kind": "webhook", "url": server.url, "messages_per_hour": 1000}


def about(server: HttpServer) -> list[str]:
    """What the requests that were accepted tell of, in their order, repetitions included."""
    return [topic for request in server.accepted for topic in request.document["about"]]


async def publish(bus: Bus, payload: Payload) -> Event:
    event = new_event(payload, source="/fleet/test/remedy")
    await bus.publish(event)
    return event


async def raise_incident(bus: Bus, **changes: Any) -> str:
    name = fresh("inc")
    await publish(bus, opened(name, resource_id=name, **changes))
    return name


async def resolve(bus: Bus, name: str) -> None:
    await publish(bus, changed("resolved", "resolved", incident=name, resource_id=name))


@dataclass
class Rig:
    """A notifier that runs in this process."""

    bus: Bus
    ledger: Ledger
    desk: NotifierDesk
    tasks: list[asyncio.Task[None]]

    def state(self, channel: str) -> dict[str, Any]:
        return self.desk.status(channel)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something that is stored holds."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not holds():
                await self.ledger.changed(self.ledger.sequence, 0.1)

    async def until_told(self, channel: str) -> None:
        await self.until(lambda: (row := self.state(channel))["waiting"] == 0 and row["under_way"] is None)


@asynccontextmanager
async def notifier(
    server: LocalServer,
    chosen: NotifierSettings,
    *,
    node: str = "n1",
    wrap: Callable[[Channel], Channel] = lambda channel: channel,
) -> AsyncIterator[Rig]:
    """A notifier with these settings."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(fast_settings(server.url), node=node, daemon="notifier"))
        ledger = Ledger(bus)
        channels = {name: wrap(open_channel(name, chosen)) for name in chosen.channels}
        tasks = [asyncio.create_task(ledger.watch(), name="watch")]
        await ledger.known.wait()
        for name, channel in channels.items():
            tasks.append(asyncio.create_task(Sender(bus, ledger, chosen, name, channel).run(), name=name))
        intake = Intake(bus, ledger, chosen)
        tasks.append(asyncio.create_task(intake.run(), name="intake"))
        try:
            await intake.listening()
            yield Rig(bus, ledger, NotifierDesk(ledger, chosen, channels, node), tasks)
        finally:
            for task in reversed(tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


class NotifierProcess:
    """`fleetcast run notifier`, or a broken variant of it."""

    def __init__(self, folder: Path, server: LocalServer, chosen: NotifierSettings) -> None:
        self.log = folder / "notifier.log"
        self._config = folder / "fleetcast.toml"
        self._process: subprocess.Popen[bytes] | None = None
        chosen_settings = Settings().model_copy(
            update={
                "node": NodeSettings(id="n1"),
                "bus": fast_settings(server.url),
                "store": StoreSettings(data=folder / "data"),
                "notifier": chosen,
                "log": LogSettings(format="json"),
            }
        )
        self._config.write_text(render(chosen_settings, comments=False))
        self._command = [sys.executable, "-m", "fleetcast", "run", "notifier", "--config", str(self._config)]

    def start(self, *, variant: str = "") -> None:
        """Start it; with a variant, broken in that way."""
        environment = {**os.environ, "PYTHONPATH": str(BROKEN), "FAULT_VARIANT": variant} if variant else os.environ
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(LIMIT_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def logged(self, event: str) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text(errors="replace").splitlines() if self.log.exists() else []:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found

    async def until_logged(self, event: str, count: int = 1) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(self.logged(event)) < count:
                assert self._process is None or self._process.poll() is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.02)
