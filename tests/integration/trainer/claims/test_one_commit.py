"""Nodes stall beyond their leases and die: every run is done, and each has its effect once. The long form kills the
server too."""

from pathlib import Path

import pytest
from tests.integration.trainer.claims.racing import race

FIRST = 26
"""Of five runs from here on one is killed before it has said its result, one after it, two stall, and one goes well."""

TURNS = 4


@pytest.mark.asyncio
async def test_stalls_and_crashes_lose_no_run_and_have_no_effect_twice(tmp_path: Path) -> None:
    made = await race(tmp_path, jobs=5, nodes=3, first=FIRST)
    assert made.killed
    assert made.stalled
    assert made.refused
    assert made.double_commits == 0
    assert made.lost_jobs == []


@pytest.mark.asyncio
@pytest.mark.soak
async def test_without_the_fence_the_same_stalls_have_effects_twice(tmp_path: Path) -> None:
    # On a busy machine a stalled owner may come back when nobody has spoken for the run yet.
    for turn in range(TURNS):
        made = await race(tmp_path / str(turn), jobs=2, nodes=2, first=FIRST + 2, fenced=False)
        if made.double_commits:
            return
    raise AssertionError(f"{TURNS} races without a fence had no effect twice")


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.asyncio
@pytest.mark.parametrize("fenced", [True, False])
async def test_a_hundred_and_fifty_runs_over_six_nodes(tmp_path: Path, fenced: bool) -> None:
    made = await race(tmp_path, jobs=150, nodes=6, fenced=fenced, server_kills=3)
    assert made.lost_jobs == []
    assert (made.double_commits == 0) is fenced
