"""Real daemons on a real server, and whoever scrapes them. They run in the loop of the tests, but for those that look
at files on it before they begin: these are processes."""

import asyncio
import contextlib
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from fleetcast.bus import Bus
from fleetcast.config.local import loopback_settings
from fleetcast.config.settings import Settings
from fleetcast.daemons.metrics.catalogue import DAEMONS
from fleetcast.daemons.runtime import Daemon, Grace
from fleetcast.daemons.runtime.notify import Notifier
from fleetcast.daemons.testing import DaemonProcess

READY_SECONDS = 60.0
PROCESSES = frozenset({"trainer", "gateway"})
BODIES = {name: import_module(f"fleetcast.daemons.{name}.daemon").run for name in {*DAEMONS} - PROCESSES}
"""Imported here: on the loop, imports block it."""


@dataclass(frozen=True)
class Scraped:
    """What a daemon showed: the text, the families that it declares, and values by name and labels."""

    text: str
    families: frozenset[str]
    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """The value with exactly these labels; `node` and `daemon` need not be said."""
        wanted = set(labels.items())
        for (found, given), value in self.values.items():
            rest = {pair for pair in given if pair[0] not in {"node", "daemon"} or pair[0] in labels}
            if found == name and rest == wanted:
                return value
        return None


def read(text: str) -> Scraped:
    families = list(text_string_to_metric_families(text))
    # The parser strips `_total` from the family, as the library writes it.
    values = {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}
    return Scraped(text, frozenset(f.name for f in families), values)


async def fetched(url: str) -> str:
    def get() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(get)


@dataclass
class World:
    """Running daemons, all of node-1, with where they say that their metrics are."""

    bus: Bus
    folder: Path
    urls: dict[str, str]
    server: str

    async def scrape(self, daemon: str) -> Scraped:
        return read(await fetched(self.urls[daemon]))

    async def command(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command about this fleet, unless its words name another."""
        where = [] if "--server" in words else ["--server", self.server]
        line = [sys.executable, "-m", "fleetcast", *words, *where]
        done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    async def until(self, daemon: str, name: str, value: float, **labels: str) -> Scraped:
        """What a daemon shows once a metric has a value."""
        seen: Scraped | None = None
        async with asyncio.timeout(READY_SECONDS):
            while seen is None or seen.value(name, **labels) != value:
                await asyncio.sleep(0.1)
                seen = await self.scrape(daemon)
        return seen

    async def promote(self, model: str, version: str) -> None:
        path = self.folder / "publish" / f"{model}-{version}.bin"
        path.write_bytes(version.encode() * 5000)
        body = f'{{"version": "{version}", "path": "{path}", "node": "node-1"}}'
        await self.bus.publish_raw(f"fc.ev.model.promoted.{model}", body.encode())


def settings_of(folder: Path, url: str) -> Settings:
    made = loopback_settings(
        "node-1", url, data=folder / "data", publish_roots=(folder / "publish",), reserve_bytes=1000
    )
    free = {"gateway": made.gateway.model_copy(update={"port": 0})}
    return made.model_copy(update=free)


class _Process(DaemonProcess):
    """Any daemon as a process; its name is that of the daemon."""

    async def until_served(self) -> str:
        async with asyncio.timeout(READY_SECONDS):
            while not (said := self.logged("metrics.served")):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)
        return str(said[-1]["url"])

    def command(self) -> list[str]:
        return [sys.executable, "-m", "fleetcast", "run", self.name, "--config", str(self.config)]


@contextlib.asynccontextmanager
async def running(bus: Bus, folder: Path, url: str, *names: str) -> AsyncIterator[World]:
    """These daemons (default: all), ready; ended on leaving."""
    settings = settings_of(folder, url)
    for each in (settings.store.data, folder / "publish"):
        each.mkdir(parents=True, exist_ok=True)
    tasks: list[asyncio.Task[None]] = []
    daemons: dict[str, Daemon] = {}
    processes: dict[str, _Process] = {}
    try:
        for name in [each for each in names or DAEMONS if each not in BODIES]:
            processes[name] = _Process(name, folder / name, settings)
            processes[name].folder.mkdir()
            processes[name].start()
        for name in [each for each in names or DAEMONS if each in BODIES]:
            daemons[name] = Daemon(name, "node-1", settings, notifier=Notifier(), grace=Grace(drain_seconds=1.0))
            tasks.append(asyncio.create_task(BODIES[name](daemons[name]), name=name))
        async with asyncio.timeout(READY_SECONDS):
            while not all(each.is_ready and each.metrics_url for each in daemons.values()):
                assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
                await asyncio.sleep(0.02)
        urls = {name: str(each.metrics_url) for name, each in daemons.items()}
        for name, process in processes.items():
            await process.until_ready()
            urls[name] = await process.until_served()
        yield World(bus, folder, urls, url)
    finally:
        for process in processes.values():
            process.kill()
        for daemon in daemons.values():
            daemon.stop("the test is over")
        await asyncio.gather(*tasks)
        for daemon in daemons.values():
            daemon.last_resort.disarm()
