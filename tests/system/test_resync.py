"""A watch that has fallen silent: nodes ask the stream itself for slot orders, every few seconds."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleetcast.bus.testing import Proxy
from fleetcast.config.settings import DistributorSettings
from fleetcast.daemons.testing import Fleet, FleetProblem, fleet

pytestmark = pytest.mark.asyncio


class Blindfold:
    """Hides from a node what its watches of slots deliver; all else passes. From time to time a server does so by
    itself, after a restart."""

    def __init__(self) -> None:
        self.on = False
        self.hidden = 0
        self._watches: set[bytes] = set()

    def __call__(self, frame: bytes) -> bytes | None:
        if b"consumer_create_response" in frame:
            self._note(json.loads(frame[frame.index(b"{") : frame.rindex(b"}") + 1]))
        if self.on and any(b"$JS.ACK.FC_REGISTRY." + name + b"." in frame for name in self._watches):
            self.hidden += 1
            return None
        return frame

    def _note(self, answer: dict[str, Any]) -> None:
        config = answer.get("config", {})
        filters = [*config.get("filter_subjects", []), config.get("filter_subject", "")]
        if config.get("deliver_policy") == "last_per_subject" and any("state.slot" in f for f in filters):
            self._watches.add(str(answer["name"]).encode())


async def blind_node(f: Fleet, proxy: Proxy, resync_seconds: float) -> None:
    """Start the only node behind the proxy."""
    node = f.nodes["node-1"]
    bus = node.settings.bus.model_copy(update={"url": proxy.url})
    quick = DistributorSettings(heartbeat_seconds=1.0, resync_seconds=resync_seconds)
    node.settings = node.settings.model_copy(update={"bus": bus, "distributor": quick})
    node.start()
    await f.until_ready()


async def test_a_slot_order_that_the_watch_does_not_deliver_is_found_by_the_resync(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=1, start=False) as f, Proxy(f.server.port) as proxy:
        proxy.filter = blindfold = Blindfold()
        await blind_node(f, proxy, resync_seconds=2.0)
        await f.promote("seen", "1", f.publish("seen.bin", b"1" * 1000))
        await f.until_served("seen", "1")
        blindfold.on = True
        await f.promote("seen", "2", f.publish("seen-2.bin", b"2" * 1000))
        await f.until_served("seen", "2", seconds=60)
        assert blindfold.hidden
        assert f.nodes["node-1"].logged("slot.found_by_resync")


@pytest.mark.soak
async def test_without_the_resync_the_order_would_stay_unseen(tmp_path: Path) -> None:
    async with fleet(tmp_path, nodes=1, start=False) as f, Proxy(f.server.port) as proxy:
        proxy.filter = blindfold = Blindfold()
        await blind_node(f, proxy, resync_seconds=3600.0)
        await f.promote("seen", "1", f.publish("seen.bin", b"1" * 1000))
        await f.until_served("seen", "1")
        blindfold.on = True
        await f.promote("seen", "2", f.publish("seen-2.bin", b"2" * 1000))
        await f.until("the new version is installed", (f.nodes["node-1"].data / "models/seen/2").exists, 60)
        with pytest.raises(FleetProblem):
            await f.until_served("seen", "2", seconds=8.0)
        assert blindfold.hidden
