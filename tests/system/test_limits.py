"""A fleet that leaves room: seeds rest when nobody needs them, and old versions go when the disk is full."""

import random
from pathlib import Path

import pytest

from fleetcast.config.settings import BittorrentSettings, Settings
from fleetcast.daemons.testing import fleet

MIB = 2**20


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.asyncio
async def test_seeds_of_what_no_slot_names_rest_when_the_fleet_is_complete_and_return_with_a_slot(
    tmp_path: Path,
) -> None:
    def settings(_: str, given: Settings) -> Settings:
        return given.model_copy(update={"bittorrent": BittorrentSettings(port=0, seed_seconds=0.0)})

    async with fleet(tmp_path, nodes=3, settings=settings) as f:
        first = f.publish("1.bin", random_bytes(MIB, 1))
        await f.promote("m", "1", first)
        await f.until_served("m", "1")
        for version in ("2", "3"):
            await f.promote("m", version, f.publish(f"{version}.bin", random_bytes(MIB, int(version))))
            await f.until_served("m", version)
        nodes = list(f.nodes.values())
        await f.until("every seed of version 1 rests", lambda: all(n.logged("seeding.rests") for n in nodes), 60)
        assert all(len(n.logged("seeding.rests")) == 1 for n in nodes)
        await f.promote("m", "1", first)
        # The origin itself seeds what it offers at once.
        others = [node for node in nodes if node.name != "node-1"]
        await f.until("every seed of version 1 returns", lambda: all(n.logged("seeding.resumed") for n in others), 60)


@pytest.mark.asyncio
async def test_full_disk_loses_what_nothing_pins_the_oldest_first_and_says_so(tmp_path: Path, small_disk: Path) -> None:
    def settings(name: str, given: Settings) -> Settings:
        store = {"keep_versions": 2, "reserve_bytes": 0}
        if name == "node-2":
            store["data"] = small_disk / "data"  # type: ignore[assignment]
        return given.model_copy(update={"store": given.store.model_copy(update=store)})

    async with fleet(tmp_path, nodes=2, settings=settings) as f:
        for version in ("1", "2", "3", "4", "5"):
            await f.promote("m", version, f.publish(f"{version}.bin", random_bytes(4 * MIB, int(version))))
            await f.until_served("m", version, seconds=60)
        removed = [e.payload for e in await f.events("fc.ev.version.removed.*")]
        assert {getattr(p, "node", "") for p in removed} == {"node-2"}
        assert getattr(removed[0], "version", "") == "1"
        assert "disk pressure" in getattr(removed[0], "reason", "")
        assert f.current("m")["node-2"] == "5"
