"""rsync, the last rung, carries a transfer and is killed."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from tests.system.faults.rsync_source import by_rsync, needs_rsync, rsync_source
from tests.system.faults.stage import MIB, Stage, stage

pytestmark = [pytest.mark.asyncio, needs_rsync]


def kill_rsync(s: Stage, name: str) -> None:
    """Kill every rsync of a node, and nothing else."""
    process = s.node(name).process
    assert process is not None
    carriers = [p.pid for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "rsync"]
    assert carriers, "rsync does not carry it"
    for pid in carriers:
        os.kill(pid, signal.SIGKILL)


async def lose_rsync(s: Stage) -> None:
    await s.promote("m", "1", size=16 * MIB)
    await s.until_fetched(0.5, "node-2")
    kill_rsync(s, "node-2")
    await s.until_served()
    assert s.node("node-2").logged("transfer.failed"), "it was not killed in the middle"


async def test_an_rsync_killed_in_the_middle_costs_no_byte_twice(tmp_path: Path, bound: float) -> None:
    with rsync_source(tmp_path, "node-1") as endpoint:
        async with stage(tmp_path, nodes=2, settings=by_rsync(endpoint)) as s:
            await lose_rsync(s)
            await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_an_rsync_that_begins_anew_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: no file is small enough for what is proven of it to be kept."""
    with rsync_source(tmp_path, "node-1") as endpoint:
        async with stage(tmp_path, nodes=2, settings=by_rsync(endpoint, delta_limit_bytes=0)) as s:
            await lose_rsync(s)
            with pytest.raises(AssertionError, match=r"node-2 received \d+ bytes"):
                await s.check_aftermath()
