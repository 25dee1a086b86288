"""The clock on the wall jumps while a daemon works."""

import datetime
import os
import signal
from pathlib import Path

import pytest
from tests.system.faults.stage import Stage, stage

pytestmark = pytest.mark.asyncio
SHIFTED = str(Path(__file__).parent / "shifted")
TROUBLE = ("transfer.failed", "transfer.again", "ladder.moved", "root.failed", "bus.dial_failed")


def moved_by(hours: int, **more: str) -> dict[str, dict[str, str]]:
    """Environments in which SIGUSR2 moves the clocks of both nodes."""
    path = os.pathsep.join(filter(None, (SHIFTED, os.environ.get("PYTHONPATH"))))
    clock = {"PYTHONPATH": path, "FAULT_CLOCK_HOURS": str(hours), **more}
    return {"node-1": clock, "node-2": clock}


def logged_hours(s: Stage, name: str) -> float:
    """How far the newest line of a node's log is from now, in hours."""
    line = s.node(name).tail(1)
    at = datetime.datetime.fromisoformat(line.split('"timestamp": "')[1].split('"')[0])
    return (at - datetime.datetime.now(datetime.UTC)).total_seconds() / 3600


@pytest.mark.parametrize("hours", [pytest.param(48, id="+48h"), pytest.param(-48, id="-48h", marks=pytest.mark.soak)])
async def test_a_clock_that_jumps_decides_nothing(tmp_path: Path, hours: int, bound: float) -> None:
    async with stage(tmp_path, nodes=2, environment=moved_by(hours)) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.3)
        for node in s.fleet.nodes.values():
            node.send(signal.SIGUSR2)
        await s.until_served()
        await s.fleet.until("the jump shows", lambda: abs(logged_hours(s, "node-2") - hours) < 1)
        assert not [e for n in s.fleet.nodes.values() for what in TROUBLE for e in n.logged(what)]
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_a_daemon_that_decides_by_the_clock_on_the_wall_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: the clock that must never move does."""
    async with stage(tmp_path, nodes=2, environment=moved_by(48, FAULT_CLOCK_ALL="1")) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.3)
        s.node("node-2").send(signal.SIGUSR2)

        def troubled() -> bool:
            ended = s.node("node-2").process
            logged = [e for what in (*TROUBLE, "bus.state") for e in s.node("node-2").logged(what)]
            lost = [e for e in logged if e.get("event") != "bus.state" or e.get("state") == "degraded"]
            return bool(lost) or (ended is not None and ended.poll() is not None)

        await s.fleet.until("it takes the jump for lost time", troubled, 30)
