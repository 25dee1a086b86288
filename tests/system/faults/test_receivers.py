"""A receiver dies in the middle, and its disk is not what it was when it comes back."""

import shutil
from pathlib import Path

import pytest
from tests.system.faults import aftermath
from tests.system.faults.stage import MIB, Promoted, stage, throttled

from fleetcast.daemons.testing import NodeProcess

pytestmark = pytest.mark.asyncio
BLOCK = 16 * 1024


def flip_a_byte_that_came(node: NodeProcess, promoted: Promoted) -> tuple[Path, int]:
    """Flip a byte in the unfinished file of a dead node; returns where."""
    (partial,) = (node.data / "swarm").rglob(f"{promoted.model}.bin")
    have = partial.read_bytes()
    came = [o for o in range(0, len(have), BLOCK) if have[o : o + BLOCK] == promoted.data[o : o + BLOCK]]
    offset = came[len(came) // 2] + 5
    with partial.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([promoted.data[offset] ^ 0xFF]))
    return partial, offset


@pytest.mark.parametrize(
    ("part", "victim"),
    [
        pytest.param(0.1, "node-3", id="10%", marks=pytest.mark.soak),
        pytest.param(0.5, "node-2", id="50%"),
        pytest.param(0.9, "node-3", id="90%", marks=pytest.mark.soak),
    ],
)
async def test_a_killed_receiver_proves_again_what_it_had_and_repairs_a_byte_that_changed_meanwhile(
    tmp_path: Path, part: float, victim: str, bound: float
) -> None:
    async with stage(tmp_path, nodes=3) as s:
        promoted = await s.promote("m", "1")
        await s.until_fetched(part, victim)
        node = s.node(victim)
        with s.without_source(victim):
            node.kill()
            partial, offset = flip_a_byte_that_came(node, promoted)
            node.start()
            await s.fleet.until_ready(victim)
        await s.until_served()
        assert partial.read_bytes()[offset] == promoted.data[offset]
        await s.check_aftermath(limit_seconds=bound)


@pytest.mark.soak
async def test_a_receiver_that_forgot_what_it_had_would_be_caught(tmp_path: Path) -> None:
    """The broken variant: all that had come is gone, and is fetched a second time."""
    async with stage(tmp_path, nodes=2, settings=throttled(4 * MIB)) as s:
        await s.promote("m", "1", size=16 * MIB)
        await s.until_fetched(0.5, "node-2")
        # What nobody heard of before it is killed cannot be counted twice.
        await s.fleet.until("it is told", lambda: s.received_bytes("node-2") > 6 * MIB)
        node = s.node("node-2")
        with s.without_source():
            node.kill()
            shutil.rmtree(node.data / "swarm")
            node.start()
            await s.fleet.until_ready("node-2")
        await s.until_served()
        with pytest.raises(AssertionError, match=r"node-2 received \d+ bytes"):
            await s.check_aftermath()
        assert aftermath.leftovers(node.data) == []
