"""Registry daemons as processes, which a test may kill."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from fleetcast.config.settings import BusSettings, RegistrySettings, Settings
from fleetcast.daemons.testing import NodeProcess, node_settings

READY_SECONDS = 60.0
"""A daemon whose servers come and go may need several elections; the machine may be busy."""


class RegistryProcess(NodeProcess):
    """One `fleetcast run registry`."""

    @property
    def log(self) -> Path:
        return self.folder / "registry.log"

    def command(self) -> list[str]:
        """What is started."""
        return [sys.executable, "-m", "fleetcast", "run", "registry", "--config", str(self.config)]

    @property
    def ended(self) -> bool:
        """Whether it ended by itself, or was killed."""
        return self.process is not None and self.process.poll() is not None

    async def until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it answers requests.

        Raises:
            TimeoutError: not in time; holds the end of its log.
        """
        deadline = time.monotonic() + seconds
        while len(self.logged("daemon.ready")) <= self.was_ready:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is not ready after {seconds} s\n{self.tail()}")
            await asyncio.sleep(0.02)

    async def start_again(self) -> None:
        """Start it, and again whenever it ended before it was ready: it may be one that dies by itself."""
        self.start()
        while True:
            try:
                await self.until_ready(1.0 if self.environment else READY_SECONDS)
                return
            except TimeoutError:
                if not self.ended:
                    continue
                self.start()


def _settings(folder: Path, name: str, bus: BusSettings) -> Settings:
    base = node_settings(folder, name, bus.url)
    return base.model_copy(update={"bus": bus, "registry": RegistrySettings(look_seconds=0.2)})


@contextlib.asynccontextmanager
async def registries(
    folder: Path, bus: BusSettings, *names: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[list[RegistryProcess]]:
    """Registry daemons that are ready. All are killed on leaving."""
    made = []
    for name in names:
        (folder / name).mkdir(parents=True)
        made.append(RegistryProcess(name, folder / name, _settings(folder, name, bus), environment or {}))
    try:
        for each in made:
            each.start()
        for each in made:
            await each.until_ready()
        yield made
    finally:
        for each in made:
            each.kill()
