"""A cap on receiving with the real aria2c: neither more nor less than it allows, over the steady part of a transfer."""

import asyncio
import os
import shutil
from pathlib import Path
from statistics import linear_regression

import pytest

from fleetcast.config.limits import LimitsSettings
from fleetcast.config.settings import Aria2Settings
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.transport.aria2 import Aria2Transport
from fleetcast.transport.aria2.child import Nursery
from fleetcast.transport.aria2.testing import MirrorServer
from fleetcast.transport.capped import Receiving
from fleetcast.transport.protocol import FetchRequest
from fleetcast.transport.testing import Witness, thing_of

MIB = 2**20
CAP = 4 * MIB
SECONDS = 16
"""How long the transfer takes under the cap: longer than aria2's own limiter remembers."""

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(shutil.which("aria2c") is None, reason="aria2c is not installed: apt-get install aria2"),
]


async def test_cap_on_what_aria2_receives_is_held_and_used_up(tmp_path: Path) -> None:
    assert 0.9 < await rate_over_cap(tmp_path) < 1.05


@pytest.mark.soak
async def test_broken_variant_in_which_aria2_is_not_told_what_changed_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts with an equal part, before anything has moved, and would keep to that."""
    monkeypatch.setattr(Nursery, "limit", nobody_listens)
    assert await rate_over_cap(tmp_path, seconds=4) < 0.9


async def nobody_listens(nursery: Nursery, download: int) -> None:
    nursery._limit = nursery._limit or download


async def rate_over_cap(folder: Path, seconds: int = SECONDS) -> float:
    """From 25 to 95 % of a transfer: without its first moment and end. aria2 receives in bursts of a second, so that
    it is the slope of the line of least squares."""
    model = thing_of({"model.pt": os.urandom(seconds * CAP)})
    transport = Aria2Transport(Aria2Settings(), staging=folder / "staging")
    await transport.start()
    others = {name: Receiving(lambda: 0, lambda _: None) for name in ("bittorrent", "borrowing", "more")}
    allowance = Allowance(LimitsSettings(download_bytes_per_second=CAP), {**others, "aria2": transport})
    allowance.look(0.0)
    holding = asyncio.create_task(allowance.run())
    try:
        async with MirrorServer(model.files) as mirror, asyncio.timeout(20 * seconds):
            request = FetchRequest("t", model.artifact, model.content, model.metainfo, folder / "to", (mirror.source,))
            fetching = asyncio.create_task(transport.fetch(request, Witness(model, folder / "to")))
            seen = await watched(transport, model.size, fetching)
            await fetching
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await transport.close()
    return linear_regression([at for at, _ in seen], [count for _, count in seen]).slope / CAP


async def watched(transport: Aria2Transport, size: int, fetching: asyncio.Task[None]) -> list[tuple[float, int]]:
    """Moments, and how many bytes had been received by then, between 25 and 95 %."""
    seen = []
    while (received := transport.moved().received) < 0.95 * size and not fetching.done():
        if received >= 0.25 * size:
            seen.append((asyncio.get_running_loop().time(), received))
        await asyncio.sleep(0.05)
    return seen
