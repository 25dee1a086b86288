"""Key-value buckets, objects and leases."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from fleetcast.bus import Bus, declare
from fleetcast.bus.errors import Conflict, LeaseLost, LeaseTaken, NotFound, ObjectDamaged, OperationRefused
from fleetcast.bus.leases import Lease, Leases
from fleetcast.bus.server import LocalServer
from fleetcast.bus.streams import bucket
from fleetcast.bus.testing import Proxy

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]


async def test_a_value_is_stored_read_replaced_and_deleted(bus: Bus) -> None:
    assert await bus.kv_get("fc_nodes", "n1.distributor") is None
    first = await bus.kv_put("fc_nodes", "n1.distributor", b"a")
    second = await bus.kv_put("fc_nodes", "n1.distributor", b"b")
    await bus.kv_put("fc_nodes", "n2.distributor", b"c")

    found = await bus.kv_get("fc_nodes", "n1.distributor")
    assert found is not None
    assert (b"b", second) == (found.data, found.revision)
    assert second > first
    assert {entry.key: entry.data for entry in await bus.kv_entries("fc_nodes")} == {
        "n1.distributor": b"b",
        "n2.distributor": b"c",
    }

    await bus.kv_delete("fc_nodes", "n1.distributor")
    assert await bus.kv_get("fc_nodes", "n1.distributor") is None
    assert [entry.key for entry in await bus.kv_entries("fc_nodes")] == ["n2.distributor"]


async def test_an_absent_bucket_is_an_error_and_not_an_absent_value(bus: Bus) -> None:
    with pytest.raises(NotFound):
        await bus.kv_get("nothing", "a")
    with pytest.raises(OperationRefused):
        await bus.kv_put("fc_nodes", "a b", b"")


async def test_a_value_is_replaced_only_at_the_expected_revision(bus: Bus) -> None:
    revision = await bus.kv.put("fc_nodes", "a", b"1", expected=0)
    await bus.kv.put("fc_nodes", "a", b"2", expected=revision)

    with pytest.raises(Conflict):
        await bus.kv.put("fc_nodes", "a", b"3", expected=revision)
    with pytest.raises(Conflict):
        await bus.kv.put("fc_nodes", "a", b"3", expected=0)


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 700_001])
async def test_an_object_of_any_size_is_read_back(bus: Bus, size: int) -> None:
    data = os.urandom(size)

    await bus.object_put("metainfo/a b.torrent", data)

    assert await bus.object_get("metainfo/a b.torrent") == data


async def test_an_object_put_twice_is_stored_once_and_a_new_one_replaces_it(bus: Bus) -> None:
    for data in (b"a" * 300_000, b"a" * 300_000, b"b"):
        await bus.object_put("x", data)

    assert await bus.object_get("x") == b"b"
    # One chunk and one entry: the old chunks are gone.
    assert (await bus.js.api("STREAM.INFO.OBJ_fc_meta"))["state"]["messages"] == 2


async def test_an_object_that_lost_a_chunk_is_damaged_and_not_shorter(bus: Bus) -> None:
    await bus.object_put("x", b"a" * 300_000)
    await bus.js.api("STREAM.MSG.DELETE.OBJ_fc_meta", {"seq": 2})

    with pytest.raises(ObjectDamaged):
        await bus.object_get("x")
    with pytest.raises(NotFound):
        await bus.object_get("y")


# -- leases

SHORT = bucket("short", "leases that expire soon", max_age_seconds=1, max_bytes=-1)


async def short_leases(bus: Bus) -> Leases:
    await declare(bus, 1, [SHORT])
    return Leases(bus.kv, bucket="short")


async def expired(leases: Leases, name: str, owner: str) -> Lease:
    """Take *name* as soon as its present owner's time is over."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await leases.acquire(name, owner)
            except LeaseTaken:
                await asyncio.sleep(0.05)


async def test_one_of_many_gets_the_lease(bus: Bus) -> None:
    results = await asyncio.gather(*(bus.leases.acquire("rollout", f"n{n}") for n in range(20)), return_exceptions=True)

    [winner] = [r for r in results if isinstance(r, Lease)]
    losers = [r for r in results if isinstance(r, LeaseTaken)]
    assert len(losers) == 19
    assert {winner.owner} == {loser.owner for loser in losers}


async def test_a_renewed_lease_keeps_its_fence_and_a_given_back_one_goes_to_the_next(bus: Bus) -> None:
    lease = await bus.leases.acquire("rollout", "n1")
    renewed = await bus.leases.renew(lease)
    await bus.leases.check(renewed)
    assert renewed.fence == lease.fence

    await bus.leases.release(renewed)
    following = await bus.leases.acquire("rollout", "n2")

    assert following.fence > lease.fence
    with pytest.raises(LeaseLost):
        await bus.leases.renew(renewed)
    await bus.leases.release(renewed)
    await bus.leases.check(following)


async def test_a_renewed_lease_outlives_its_first_period_and_an_abandoned_one_does_not(bus: Bus) -> None:
    leases = await short_leases(bus)
    lease = await leases.acquire("rollout", "n1")
    for _ in range(4):
        await asyncio.sleep(0.4)
        lease = await leases.renew(lease)

    following = await expired(leases, "rollout", "n2")

    assert following.fence > lease.fence


class Resource:
    """Something whose effects must happen once, and that looks at the fence (or does not)."""

    def __init__(self, *, fenced: bool) -> None:
        self.effects: list[str] = []
        self._fenced = fenced
        self._highest = 0

    def act(self, lease: Lease) -> None:
        if self._fenced and lease.fence < self._highest:
            return
        self._highest = max(self._highest, lease.fence)
        self.effects.append(lease.owner)


async def effects_of_a_stalled_owner(bus: Bus, resource: Resource) -> list[str]:
    """An owner stalls until its lease is over, another takes the lease and acts, the first wakes up and acts too."""
    leases = await short_leases(bus)
    stalled = await leases.acquire("start-run-7", "n1")
    following = await expired(leases, "start-run-7", "n2")
    resource.act(following)
    resource.act(stalled)
    return resource.effects


async def test_a_stalled_owner_cannot_act_behind_the_fence(bus: Bus) -> None:
    assert await effects_of_a_stalled_owner(bus, Resource(fenced=True)) == ["n2"]


async def test_control_without_the_fence_both_owners_act(bus: Bus) -> None:
    assert await effects_of_a_stalled_owner(bus, Resource(fenced=False)) == ["n2", "n1"]


async def test_an_owner_whose_claim_got_no_answer_recognises_its_own_claim(
    bus: Bus, open_bus: OpenBus, server: LocalServer
) -> None:
    async with Proxy(server.port) as proxy:
        flaky = await open_bus("n2", url=proxy.url, request_timeout_seconds=0.3)
        proxy.lose(b'"stream":"KV_fc_leases"')
        lease = await flaky.leases.acquire("rollout", "n2")

    assert proxy.lost == 1
    assert lease.fence == 1
    with pytest.raises(LeaseTaken) as taken:
        await bus.leases.acquire("rollout", "n1")
    assert taken.value.owner == "n2"
