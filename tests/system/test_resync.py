"""A watch that has fallen silent: nodes ask the stream itself, every few seconds, for slot orders and all else that
they follow."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleetcast.bus.testing import Proxy
from fleetcast.config.settings import DistributorSettings
from fleetcast.daemons.testing import Fleet, FleetProblem, fleet

pytestmark = pytest.mark.asyncio


class Blindfold:
    """Hides from a node what its watches of one kind of record deliver, those that are there when it is put on; all
    else passes. From time to time a server does so by itself, after a restart."""

    def __init__(self, kind: str) -> None:
        self.hidden = 0
        self._kind = f"state.{kind}"
        self.watches: set[bytes] = set()
        """Names of the consumers that there were so far."""
        self._covered: set[bytes] = set()

    def put_on(self) -> None:
        """From now on."""
        self._covered = set(self.watches)

    def __call__(self, frame: bytes) -> bytes | None:
        if b"consumer_create_response" in frame:
            self._note(json.loads(frame[frame.index(b"{") : frame.rindex(b"}") + 1]))
        if any(b"$JS.ACK.FC_REGISTRY." + name + b"." in frame for name in self._covered):
            self.hidden += 1
            return None
        return frame

    def _note(self, answer: dict[str, Any]) -> None:
        config = answer.get("config", {})
        filters = [*config.get("filter_subjects", []), config.get("filter_subject", "")]
        if config.get("deliver_policy") == "last_per_subject" and any(self._kind in f for f in filters):
            self.watches.add(str(answer["name"]).encode())


async def blind_node(f: Fleet, proxy: Proxy, resync_seconds: float, name: str = "node-1") -> None:
    """Start all nodes, one of them behind the proxy, where silence is looked into that often."""
    node = f.nodes[name]
    bus = node.settings.bus.model_copy(update={"url": proxy.url, "resync_seconds": resync_seconds})
    quick = DistributorSettings(heartbeat_seconds=1.0, resync_seconds=resync_seconds)
    node.settings = node.settings.model_copy(update={"bus": bus, "distributor": quick})
    for each in f.nodes.values():
        each.start()
    await f.until_ready()


async def test_a_slot_order_that_the_watch_does_not_deliver_is_found_by_the_resync(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=1, start=False) as f, Proxy(f.server.port) as proxy:
        proxy.filter = blindfold = Blindfold("slot")
        await blind_node(f, proxy, resync_seconds=2.0)
        await f.promote("seen", "1", f.publish("seen.bin", b"1" * 1000))
        await f.until_served("seen", "1")
        blindfold.put_on()
        await f.promote("seen", "2", f.publish("seen-2.bin", b"2" * 1000))
        await f.until_served("seen", "2", seconds=60)
        assert blindfold.hidden
        seen = f.nodes["node-1"]
        assert seen.logged("slot.found_by_resync") or seen.logged("watch.fell_silent")


@pytest.mark.soak
async def test_without_the_resync_the_order_would_stay_unseen(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=1, start=False) as f, Proxy(f.server.port) as proxy:
        proxy.filter = blindfold = Blindfold("slot")
        await blind_node(f, proxy, resync_seconds=3600.0)
        await f.promote("seen", "1", f.publish("seen.bin", b"1" * 1000))
        await f.until_served("seen", "1")
        blindfold.put_on()
        await f.promote("seen", "2", f.publish("seen-2.bin", b"2" * 1000))
        await f.until("the new version is installed", (f.nodes["node-1"].data / "models/seen/2").exists, 60)
        with pytest.raises(FleetProblem):
            await f.until_served("seen", "2", seconds=8.0)
        assert blindfold.hidden


@contextlib.asynccontextmanager
async def half_blind(folder: Path, resync_seconds: float) -> AsyncIterator[tuple[Fleet, Path]]:
    """Two nodes, of which the second does not hear that a version shall be brought to it; and where that would be."""
    async with fleet(folder, nodes=2, start=False) as f, Proxy(f.server.port) as proxy:
        proxy.filter = blindfold = Blindfold("distribution")
        await blind_node(f, proxy, resync_seconds, "node-2")
        await f.until("the node follows distributions", lambda: blindfold.watches)
        blindfold.put_on()
        body = {"version": "1", "path": str(f.publish("brought.bin", b"1" * 1000)), "node": "node-1", "to": ["node-2"]}
        await f.say("fc.ev.distribution.requested.brought", body)
        await f.until("the order is hidden", lambda: blindfold.hidden)
        yield f, f.nodes["node-2"].data / "models/brought/1"


@pytest.mark.soak
async def test_a_distribution_that_the_watch_does_not_deliver_is_found_by_asking_the_stream(tmp_path: Path) -> None:
    async with half_blind(tmp_path, resync_seconds=2.0) as (f, brought):
        await f.until("it is brought all the same", brought.is_dir)
        assert [e["stream"] for e in f.nodes["node-2"].logged("watch.fell_silent")] == ["FC_REGISTRY"]


@pytest.mark.soak
async def test_without_asking_the_stream_the_distribution_would_stay_unseen(tmp_path: Path) -> None:
    async with half_blind(tmp_path, resync_seconds=3600.0) as (f, brought):
        with pytest.raises(FleetProblem):
            await f.until("it is brought", brought.is_dir, seconds=15)
        assert not f.nodes["node-2"].logged("watch.fell_silent")
