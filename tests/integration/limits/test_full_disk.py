"""A disk that fills in the middle of a transfer."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from fleetcast.transport.errors import StoreFull
from fleetcast.transport.testing import Swarm, thing_of

MIB = 2**20


@pytest.mark.asyncio
async def test_disk_that_fills_in_the_middle_fails_this_transfer_alone_and_room_heals_it(
    swarm: Swarm, small_disk: Path
) -> None:
    small, large = thing_of({"a.pt": os.urandom(4 * MIB)}), thing_of({"b.pt": os.urandom(24 * MIB)})
    origin, node = await swarm.node(), await swarm.node()
    node.folder = small_disk
    await origin.seed(small)
    await origin.seed(large)
    await node.fetch(small, origin.source)
    with pytest.raises(StoreFull, match="No space left"):
        await node.fetch(large, origin.source)
    assert small.lies_in(small_disk)
    assert [t.artifact for t in node.transport.stats().torrents] == [small.artifact]
    await asyncio.to_thread(subprocess.check_call, ["mount", "-o", "remount,size=64m", str(small_disk)])
    seen = await node.fetch(large, origin.source)
    assert large.lies_in(small_disk)
    assert seen.last.bytes_by_source["n0"] < large.size
