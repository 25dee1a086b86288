"""A node with more models than one message of NATS can name stays one of the fleet."""

import asyncio
from datetime import UTC, datetime

import pytest

from fleetcast.bus import Bus
from fleetcast.bus.errors import PayloadTooLarge
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.daemons.distributor.fitting import fitted
from fleetcast.daemons.testing import heartbeat
from fleetcast.events.payloads import Checks
from fleetcast.events.state import InstalledVersion, ModelStatus, NodeStatus
from fleetcast.registry.nodes import FleetWatch

pytestmark = pytest.mark.asyncio

MODELS = 2500
KEY = "node-1.distributor"


def large() -> NodeStatus:
    now = datetime.now(UTC).isoformat()
    installed = InstalledVersion(
        version="1",
        artifact="a" * 64,
        bytes=1,
        checks=Checks(size="ok", sha256="ok", format="ok"),
        transport="bittorrent",
        seconds=1.0,
        installed_at=now,
    )
    models = (
        ModelStatus(
            model=f"m{n}", generation=1, current="1", path=f"/var/lib/fleetcast/models/m{n}", installed=(installed,)
        )
        for n in range(MODELS)
    )
    return heartbeat("node-1", at=now, models=tuple(models))


async def test_a_node_with_thousands_of_models_is_seen_with_as_many_as_there_is_room_for(bus: Bus) -> None:
    whole = large()
    with pytest.raises(PayloadTooLarge):
        await bus.kv_put(NODES_BUCKET, KEY, whole.model_dump_json().encode())

    _, document = fitted(whole, bus.wire.max_payload)
    await bus.kv_put(NODES_BUCKET, KEY, document)

    fleet = FleetWatch(bus, silent_after_seconds=60)
    watching = asyncio.create_task(fleet.watch())
    try:
        async with asyncio.timeout(30):
            await fleet.known.wait()
        [seen] = fleet.view.sightings
        assert (seen.node, len(seen.status.models) + seen.status.left_out) == ("node-1", MODELS)
        assert 0 < seen.status.left_out < MODELS / 2
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
