"""NATS goes away while bytes flow: the bytes go on flowing."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.system.faults.stage import MIB, Stage, stage, throttled

pytestmark = pytest.mark.asyncio


@contextlib.asynccontextmanager
async def nats_down(s: Stage) -> AsyncIterator[None]:
    await s.fleet.server.kill_async()
    try:
        yield
    finally:
        await s.fleet.server.start_async()


async def test_nats_restarted_in_the_middle_costs_no_byte_and_no_pause(tmp_path: Path, bound: float) -> None:
    async with stage(tmp_path, nodes=3) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.3)
        async with nats_down(s):
            pass
        await s.until_served()
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(8, id="8s"),
        pytest.param(70, id="70s", marks=(pytest.mark.soak, pytest.mark.timeout(300))),
    ],
)
async def test_all_bytes_come_while_nats_is_down_and_are_served_when_it_is_back(
    tmp_path: Path, bound: float, seconds: int
) -> None:
    async with stage(tmp_path, nodes=3, settings=throttled(4 * MIB)) as s:
        await s.promote("m", "1", size=16 * MIB)
        await s.until_fetched(0.2)
        async with nats_down(s):
            ends = time.monotonic() + seconds
            await s.fleet.until("every byte is there", lambda: all(s.fetched(n) == 1.0 for n in s.receivers), 60)
            # What is fetched cannot be served before the registry has confirmed it: nothing moves, and rightly so.
            with s.without_source():
                await s.fleet.until(f"{seconds} s are over", lambda: time.monotonic() > ends, seconds + 5)
            assert not any(s.fleet.current("m")[n] for n in s.receivers), "NATS was not away"
        with s.without_source():
            await s.until_served(seconds=90)
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_a_transfer_that_needs_nats_for_its_bytes_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: what carries the bytes stops together with NATS."""
    async with stage(tmp_path, nodes=2) as s:
        await s.promote("m", "1")
        await s.until_fetched(0.2)
        async with nats_down(s):
            s.node("node-1").kill()
            await s.let_pass(3)
        s.node("node-1").start()
        await s.fleet.until_ready("node-1")
        await s.until_served()
        with pytest.raises(AssertionError, match="stood still"):
            await s.check_aftermath(limit_seconds=2.5)
