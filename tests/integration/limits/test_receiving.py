"""A cap on receiving with the real aria2c: neither more nor less than it allows, over the steady part of a transfer.

From our file servers, which keep to a rate, and from mirrors that know no rates: there aria2's own limiter holds it.
"""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

import pytest
from tests.integration.limits.rates import slope

from fleetcast.config.limits import LimitsSettings
from fleetcast.config.settings import Aria2Settings, HttpSettings
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.transport.aria2 import Aria2Transport
from fleetcast.transport.aria2.child import Nursery
from fleetcast.transport.aria2.testing import MirrorServer
from fleetcast.transport.capped import Pacer, Receiving
from fleetcast.transport.pacing import Paced
from fleetcast.transport.protocol import FetchRequest, Source
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.testing import Thing, Witness, thing_of

MIB = 2**20
CAP = 4 * MIB
SECONDS = 13
"""How long the transfer takes under the cap: longer than aria2's own limiter remembers."""

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(shutil.which("aria2c") is None, reason="aria2c is not installed: apt-get install aria2"),
]


async def test_cap_on_what_aria2_receives_from_strangers_is_held_and_used_up(tmp_path: Path) -> None:
    assert 0.9 < await rate_over_cap(tmp_path) < 1.05


@pytest.mark.soak
async def test_broken_variant_in_which_aria2_is_not_told_what_changed_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts with an equal part, before anything has moved, and would keep to that."""
    monkeypatch.setattr(Nursery, "limit", nobody_listens)
    assert await rate_over_cap(tmp_path, seconds=4) < 0.9


async def nobody_listens(nursery: Nursery, download: int, *, cap: int) -> None:
    nursery._limit = nursery._limit or download
    nursery._cap = cap


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
            rate = await slope(transport, (model.size // 4, model.size * 19 // 20), fetching)
            await fetching
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await transport.close()
    return rate / CAP


async def test_two_nodes_keep_to_the_cap_of_a_third_and_to_another_one_while_bytes_flow(tmp_path: Path) -> None:
    low, high = await rates_from_nodes(tmp_path)
    # What is below depends on what else this machine does.
    assert 0.85 < low < 1.05
    assert 0.85 < high < 1.05


@pytest.mark.soak
async def test_broken_variant_in_which_nodes_send_what_they_like_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say that they obey. aria2 holds them, in bursts of a second, as soon as too much has come."""
    monkeypatch.setattr(Paced, "pacer", property(lambda _: Pacer(), lambda _, __: None), raising=False)
    low, high = await rates_from_nodes(tmp_path)
    assert not (0.85 < low < 1.05 and 0.85 < high < 1.05)


async def rates_from_nodes(folder: Path) -> tuple[float, float]:
    """Over the cap: under a low one, then under twice as much, without the moments in which one begins."""
    model = thing_of({"model.pt": os.urandom(12 * CAP)})
    model.put(folder / "from")
    transport = Aria2Transport(Aria2Settings(), staging=folder / "staging")
    await transport.start()
    transport.limit(CAP, None)
    async with contextlib.AsyncExitStack() as to_the_end:
        to_the_end.push_async_callback(transport.close)
        sources = [await node(to_the_end, model, folder / "from") for _ in range(2)]
        request = FetchRequest("t", model.artifact, model.content, model.metainfo, folder / "to", tuple(sources))
        fetching = asyncio.create_task(transport.fetch(request, Witness(model, folder / "to")))
        low = await slope(transport, (CAP, 4 * CAP), fetching)
        transport.limit(2 * CAP, None)
        high = await slope(transport, (5 * CAP, 11 * CAP), fetching)
        await fetching
    print(low / CAP, high / (2 * CAP))  # shown when the test fails
    return low / CAP, high / (2 * CAP)


async def node(to_the_end: contextlib.AsyncExitStack, model: Thing, folder: Path) -> Source:
    """One that holds it all, with the file server that nodes have."""
    contents = {model.artifact: model.content}
    server = StoreServer(
        HttpSettings(port=0),
        bind="127.0.0.1",
        advertise="127.0.0.1",
        find=lambda _: model.path(folder),
        content_of=contents.get,
    )
    await server.start()
    to_the_end.push_async_callback(server.close)
    return Source(server.endpoint, http=server.endpoint, complete=True)
