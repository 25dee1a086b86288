"""The registry daemon is killed at any moment, and two of them work at once."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.system.registry.checker import problems, read_streams
from tests.system.registry.daemons import registries, start_again
from tests.system.registry.storm import Told, reserve, storm

from fleetcast.bus import connect, patience
from fleetcast.bus.testing import fast_settings, nats_server
from fleetcast.config.settings import BusSettings
from fleetcast.daemons.testing import RegistryProcess
from fleetcast.registry import Registry

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that ask again soon after a daemon died under their question."""
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 2.0)


BROKEN = str(Path(__file__).parent / "broken")


def broken(variant: str) -> dict[str, str]:
    """An environment that breaks a daemon in the way that `broken/sitecustomize.py` describes."""
    path = os.pathsep.join(filter(None, (BROKEN, os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "FAULT_VARIANT": variant}


async def kill_at_random(daemon: RegistryProcess, kills: int, told: Told, seed: int) -> None:
    """Kill it in the midst of its work, so often, each time after some more decisions."""
    chance = random.Random(seed)
    for _ in range(kills):
        await told.more(5, unless=lambda: daemon.ended)
        await asyncio.sleep(chance.uniform(0, 0.05))
        await asyncio.to_thread(daemon.kill)
        await start_again(daemon)


async def verify(url: str) -> int:
    """Exit code of `fleetcast audit verify`."""
    command = [sys.executable, "-m", "fleetcast", "audit", "verify", "--server", url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
    return done.returncode


async def killed_in_a_storm(
    folder: Path, kills: int, *, environment: dict[str, str] | None = None
) -> tuple[list[str], Told]:
    """What is wrong after a daemon was killed so often, and what its clients were told."""
    told = Told()
    async with nats_server(folder / "nats") as server:
        settings = fast_settings(server.url)
        async with registries(folder, settings, "reg-1") as [sound], connect(settings, node="t", daemon="test") as bus:
            await reserve(bus, told)
            await asyncio.to_thread(sound.stop)
            async with registries(folder / "under-fault", settings, "reg-1", environment=environment) as [daemon]:
                async with storm(settings, told):
                    await kill_at_random(daemon, kills, told, seed=kills)
                await asyncio.to_thread(daemon.stop)
            found = problems(await read_streams(bus), told)
            for model in ("m1", "m2"):
                found += await Registry(bus).broken_links(model)
            if await verify(server.url) != 0:
                found.append("`fleetcast audit verify` says that it is broken")
            return found, told


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
async def test_a_daemon_that_is_killed_at_any_moment_leaves_no_half_transition(tmp_path: Path, kills: int) -> None:
    found, told = await killed_in_a_storm(tmp_path, kills)

    assert found == []
    assert told.unanswered == {}
    assert len(told.accepted) > 5 * kills


@pytest.mark.soak
async def test_a_transition_written_piece_by_piece_would_be_seen(tmp_path: Path) -> None:
    """The broken variant: no batch, one publish after the other."""
    found, _ = await killed_in_a_storm(tmp_path, 3, environment=broken("piece by piece"))

    assert any("belongs to no decision" in f or "without" in f for f in found)


@pytest.mark.soak
async def test_a_request_that_is_carried_out_again_after_a_kill_would_be_seen(tmp_path: Path) -> None:
    """The broken variant: no request is remembered; the daemon dies between a decision and its answer."""
    found, _ = await killed_in_a_storm(tmp_path, 2, environment=broken("remembers nothing"))

    # Asked a second time, it is done a second time, or refused although it was done.
    assert any("carried out" in f for f in found)


async def two_in_a_storm(folder: Path, settings: BusSettings) -> tuple[list[str], Told]:
    """What is wrong after two daemons answered a storm, and what was told."""
    told = Told()
    async with (
        registries(folder, settings, "reg-1", "reg-2") as daemons,
        connect(settings, node="t", daemon="test") as bus,
    ):
        await reserve(bus, told)
        async with storm(settings, told, clients=6):
            await told.more(50)
            # Records that come while it reads are no fault.
            code = await verify(settings.url)
            await told.more(25)
        assert code == 0
        for each in daemons:
            assert each.logged("transition.answered"), f"{each.name} answered nothing"
        return problems(await read_streams(bus), told), told


async def test_two_registry_daemons_at_once_decide_everything_once(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats") as server:
        found, told = await two_in_a_storm(tmp_path, fast_settings(server.url))

    assert found == []
    assert told.unanswered == {}
    assert len(told.accepted) > 15
