"""The origin dies while others fetch from it."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.system.faults.conftest import PROMISED_SECONDS
from tests.system.faults.stage import RATE, Change, Stage, both, stage, throttled
from tests.system.faults.variants import broken

from fleetcast.config.settings import Settings

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(0.1, id="10%", marks=pytest.mark.soak),
        pytest.param(0.5, id="50%"),
        pytest.param(0.9, id="90%", marks=pytest.mark.soak),
    ],
)
async def test_an_origin_killed_in_the_middle_costs_its_absence_and_no_byte_twice(
    tmp_path: Path, part: float, bound: float
) -> None:
    async with stage(tmp_path, nodes=3) as s:
        await s.promote("m", "1")
        await s.until_fetched(part, "node-2")
        with s.without_source():
            s.node("node-1").kill()
            s.node("node-1").start()
            await s.fleet.until_ready("node-1")
        await s.until_served()
        await s.check_aftermath(limit_seconds=bound)


NO_SOURCE = "no node that has all of it answers"
QUIET_CORES = 0.3
"""What a node may use while it waits for a source."""


def rests(seconds: float) -> Change:
    """Settings with which a transport that brought nothing rests for so long."""

    def change(_name: str, settings: Settings) -> Settings:
        pauses = {"rest_base_seconds": seconds, "rest_cap_seconds": seconds}
        return settings.model_copy(update={"ladder": settings.ladder.model_copy(update=pauses)})

    return both(throttled(RATE), change)


def says(s: Stage, name: str) -> str:
    """What a node says about its transfer."""
    return "; ".join(f"{status.state}, {status.slow}" for status in s.statuses_of(name))


def cpu_seconds(s: Stage, name: str) -> float:
    process = s.node(name).process
    assert process is not None
    me = psutil.Process(process.pid)
    return sum(sum(p.cpu_times()[:2]) for p in (me, *me.children(recursive=True)))


async def cores_used(s: Stage, seconds: float) -> dict[str, float]:
    """Processors that the receivers keep busy, measured for so long."""
    began, before = time.monotonic(), {name: cpu_seconds(s, name) for name in s.receivers}
    await s.let_pass(seconds)
    took = time.monotonic() - began
    return {name: (cpu_seconds(s, name) - before[name]) / took for name in s.receivers}


@pytest.mark.parametrize("nodes", [3, pytest.param(2, marks=pytest.mark.soak)], ids=["some elsewhere", "nowhere"])
async def test_without_any_source_nodes_say_so_and_rest_and_finish_when_the_origin_is_back(
    tmp_path: Path, nodes: int, bound: float
) -> None:
    async with stage(tmp_path, nodes=nodes, settings=rests(60)) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.3)
        with s.without_source():
            await lose_the_origin(s)
            await until_shown(s)
            used = await cores_used(s, 3)
            assert max(used.values()) < QUIET_CORES, used
            await bring_the_origin_back(s)
        await s.until_served()
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_nodes_that_do_not_notice_that_the_origin_is_back_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: they rest to the end."""
    deaf = broken("rests on", "node-2", "node-3")
    async with stage(tmp_path, nodes=3, settings=rests(60), environment=deaf) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.3)
        with s.without_source():
            await lose_the_origin(s)
            await bring_the_origin_back(s)
        s.record.move("node-2")
        await s.until_still("node-2", PROMISED_SECONDS + 1)
        with pytest.raises(AssertionError, match="node-2 stood still"):
            await s.check_aftermath(limit_seconds=PROMISED_SECONDS)


async def lose_the_origin(s: Stage) -> None:
    """Kill it, and wait until everybody says that nobody has what is missing."""
    s.node("node-1").kill()
    lack = f"fetching, its sources: {NO_SOURCE}"
    await s.fleet.until("it is said", lambda: all(lack in says(s, name) for name in s.receivers), 40)


async def bring_the_origin_back(s: Stage) -> None:
    s.node("node-1").start()
    await s.fleet.until_ready("node-1")


async def until_shown(s: Stage) -> None:
    """Wait until the command line says it as well: it reads heartbeats, which come later."""
    async with asyncio.timeout(60):
        while NO_SOURCE not in await asyncio.to_thread(what_is_shown, s, "transfers"):
            pass


def what_is_shown(s: Stage, *words: str) -> str:
    """What the command line prints."""
    command = [sys.executable, "-m", "fleetcast", *words, "--config", str(s.node("node-2").config)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
