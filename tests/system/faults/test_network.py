"""The network between nodes fails: what is sent is lost, and nobody says so."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.system.faults import aftermath
from tests.system.faults.conftest import PROMISED_SECONDS
from tests.system.faults.hosts import Switch, switch
from tests.system.faults.stage import MIB, SIZE, Change, Stage, both, carried_by, stage, throttled
from tests.system.faults.test_mirrors import needs_aria2c
from tests.system.faults.test_peers import join, offered
from tests.system.faults.variants import unwatched

from fleetcast.events.payloads import Endpoints

pytestmark = pytest.mark.asyncio
CUT_SECONDS = 20
"""Much longer than any gap that a transfer may have: less of it shows as one on a busy machine."""
NODES = tuple(f"node-{n}" for n in range(1, 5))
CUT = NODES[2:]


@pytest.mark.timeout(240)  # 20 s of it are the fault, and five processes start
async def test_half_of_the_nodes_cut_off_go_on_from_where_they_were_when_they_are_back(
    tmp_path: Path, bound: float
) -> None:
    with switch(NODES) as on:
        async with stage(tmp_path, nodes=len(NODES), on=on) as s:
            # What is under way when the cables are pulled comes twice: some MiB, however large the file is.
            await s.promote("m", "1", size=2 * SIZE)
            await s.until_fetched(0.3)
            began = time.monotonic()
            with s.without_source(*CUT), on.pulled(*CUT):
                await s.until_served(*NODES[:2])
                held = {name: s.fetched(name) for name in CUT}
                # Of the machine's time: a busy one would give less, and no gap would show below.
                await s.fleet.until("it is over", lambda: s.machine.given(began, time.monotonic()) > CUT_SECONDS, 90)
                assert {name: s.fetched(name) for name in CUT} == held, "the cables were not pulled"
                assert not any(s.fleet.current("m")[name] for name in CUT)
            await s.until_served()
            # Broken variant: nodes that stand still for so long although they have a source would be caught.
            unexcused = [aftermath.Moves(name, s.record.moved[name]) for name in NODES]
            assert {line.split()[0] for line in aftermath.gaps(unexcused, bound)} >= set(CUT)
            await s.check_aftermath(limit_seconds=bound)


FROM_TWO = both(carried_by("aria2", "bittorrent"), throttled(4 * MIB, "node-1", "node-2"))
"""HTTP comes first, from two nodes that are not fast."""


async def join_from_nowhere(s: Stage, on: Switch) -> None:
    """Let peers be known whose address drops all packets."""
    offer = await offered(s)
    for n in range(4):
        hole = Endpoints(bt=f"{on.nowhere}:{7000 + n}", http=f"http://{on.nowhere}:{8000 + n}/{'0' * 32}")
        await join(s, offer.artifact, f"hole-{n}", hole)


@contextlib.asynccontextmanager
async def late_and_half_fed(folder: Path, settings: Change) -> AsyncIterator[Stage]:
    """node-3 comes when the others have it all, and is fed by both when the cable of one is pulled, for good."""
    with switch(NODES[:3]) as on:
        async with stage(folder, nodes=3, on=on, settings=settings) as s:
            late = s.node("node-3")
            late.kill()
            await s.promote("m", "1", size=16 * MIB)
            await join_from_nowhere(s, on)
            await s.until_served("node-1", "node-2")
            late.start()
            await s.until_fetched(0.2, "node-3")
            with on.pulled("node-2"):
                yield s


@needs_aria2c
async def test_a_source_whose_packets_are_dropped_is_left_for_another_one(tmp_path: Path, bound: float) -> None:
    async with late_and_half_fed(tmp_path, FROM_TWO) as s:
        await s.until_served("node-3")
        await s.check_aftermath("node-1", "node-3", limit_seconds=bound)


@needs_aria2c
@pytest.mark.soak
async def test_a_transfer_that_waits_for_packets_that_are_dropped_would_be_caught(tmp_path: Path) -> None:
    """The broken variant."""
    async with late_and_half_fed(tmp_path, both(FROM_TWO, unwatched("node-3"))) as s:
        await s.until_still("node-3", PROMISED_SECONDS + 1)
        with pytest.raises(AssertionError, match="node-3 stood still"):
            await s.check_aftermath("node-1", "node-3", limit_seconds=PROMISED_SECONDS)
