"""Remedy and registry daemons as processes, killed by SIGKILL in the middle of a rollback of real nodes: it ends, once,
and the nodes serve the former version. The default suite does the same within one process, at every point."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.remedy.test_playbook_kills import END, SIDES, STEPS
from tests.system.registry.daemons import start_again

from fleetcast.bus.streams import REMEDY
from fleetcast.config.remedy import RemedySettings
from fleetcast.daemons.testing import DaemonProcess, Fleet, RegistryProcess, RemedyProcess, fleet, node_settings
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunState, RunPhase, run_subject

pytestmark = [pytest.mark.asyncio, pytest.mark.soak, pytest.mark.timeout(1200)]

MANY = 1_000_000
SECONDS = 120.0


@asynccontextmanager
async def daemon(kind: type[DaemonProcess], name: str, folder: Path, url: str) -> AsyncIterator[DaemonProcess]:
    """A daemon that is ready."""
    remedy = RemedySettings(rollbacks_per_fleet=MANY, look_seconds=0.2)
    settings = node_settings(folder, name, url).model_copy(update={"remedy": remedy})
    await asyncio.to_thread((folder / name).mkdir, parents=True)
    made = kind(name, folder / name, settings, {})
    try:
        made.start()
        await made.until_ready()
        yield made
    finally:
        made.kill()


async def served(f: Fleet, model: str) -> None:
    """Versions 1 and 2, one after the other."""
    for version in ("1", "2"):
        path = await asyncio.to_thread(f.publish, f"{model}-{version}.bin", f"{model}{version}".encode())
        await f.promote(model, version, path)
        await f.until_served(model, version)


async def ended(f: Fleet, model: str) -> PlaybookRunState:
    async with asyncio.timeout(SECONDS):
        while True:
            entries = await f.bus.newest(REMEDY, (run_subject("*"),))
            runs = [PlaybookRunState.model_validate_json(entry.data) for entry in entries]
            mine = [run for run in runs if run.resource_id == model]
            if mine and all(run.phase in RUN_ENDED for run in mine):
                assert len(mine) == 1
                return mine[0]
            await asyncio.sleep(0.05)


async def until_dead(process: DaemonProcess) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if process.ended:
                return
            await asyncio.sleep(0.01)


async def rolled_back(f: Fleet, model: str) -> None:
    """It ended well, the slot moved once, and the nodes follow."""
    run = await ended(f, model)
    await f.until_served(model, "1")
    orders = await f.events(f"fc.ev.slot.ordered.{model}")
    assert (run.phase, run.to) == (RunPhase.SUCCEEDED, "1"), run.phase_detail
    assert len(orders) == 3


async def test_a_rollback_ends_whole_whatever_process_is_killed_in_it(tmp_path: Path) -> None:
    async with (
        fleet(tmp_path, nodes=2) as f,
        daemon(RegistryProcess, "registry", tmp_path, f.server.url) as registry,
        daemon(RemedyProcess, "remedy", tmp_path, f.server.url) as remedy,
    ):
        points = [*(f"playbook.{step}{side}" for step in STEPS for side in SIDES), *END]
        for number, point in enumerate(points):
            await served(f, f"m{number}")
            remedy.kill()
            remedy.environment = {"FLEETCAST_FAILPOINTS": f"{point}=kill"}
            remedy.start()
            await remedy.until_ready()
            await f.say(f"fc.ev.model.rollback_requested.m{number}", {"version": "2", "reasons": ["bad"]})
            await until_dead(remedy)
            remedy.environment = {}
            await start_again(remedy)
            await rolled_back(f, f"m{number}")
        for number in range(5):
            model = f"r{number}"
            await served(f, model)
            await f.say(f"fc.ev.model.rollback_requested.{model}", {"version": "2", "reasons": ["bad"]})
            await asyncio.sleep(0.02 * number)
            await asyncio.to_thread(registry.kill)
            await start_again(registry)
            await rolled_back(f, model)
