"""The origin dies while others fetch from it."""

from pathlib import Path

import pytest
from tests.system.faults.stage import stage

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
