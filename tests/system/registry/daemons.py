"""Registry daemons as processes, which a test may kill."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from fleetcast.config.settings import BusSettings, RegistrySettings, Settings
from fleetcast.daemons.testing import DaemonProcess, FleetProblem, RegistryProcess, node_settings

STARTS = 10
"""Of a daemon that may die by itself before it is ready."""


async def start_again(daemon: DaemonProcess) -> None:
    """Start a daemon, and again when it ends before it is ready, as a service manager does.

    Raises:
        FleetProblem: it does not become ready.
    """
    for _ in range(STARTS):
        daemon.start()
        try:
            await daemon.until_ready()
            return
        except FleetProblem:
            if not daemon.ended:
                raise
    raise FleetProblem(f"{daemon.name} ended {STARTS} times\n{daemon.tail()}")


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
