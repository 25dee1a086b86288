"""Several monitors: each model has one of them, nothing is decided twice, and nothing is said by one that lost its
models."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.integration.monitor.watched import World, until

from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy
from fleetcast.client.ulid import new_ulid
from fleetcast.daemons.monitor.shards import SHARDS, shard_of
from fleetcast.daemons.monitor.telling import Teller
from fleetcast.events.envelope import Event

MODELS = tuple(f"m{n}" for n in range(8))
BAD: dict[str, Any] = {"num_requests": 1000, "errors": 300}


async def shared(fleet: World, *nodes: str) -> None:
    """Wait until every shard is judged by one of these."""

    async def whole() -> bool:
        live = [each.monitor.live for each in fleet.started if not each.task.done()]
        return sum(map(len, live)) == SHARDS and sum(1 for each in live if each) == len(nodes)

    await until(whole)


async def requests(fleet: World) -> list[str]:
    """Models that were asked to be rolled back, in order."""
    return [event.key for event in await fleet.events("model.rollback.requested")]


@pytest.mark.asyncio
async def test_two_monitors_share_the_models_and_either_answers_for_all(fleet: World) -> None:
    for model in MODELS:
        await fleet.order(model, "1")
    await fleet.start("a")
    await fleet.start("b")
    await shared(fleet, "a", "b")
    for model in MODELS:
        for node in ("gpu-1", "gpu-2", "gpu-3"):
            await fleet.report(model, node=node, **BAD)

    async def all_asked() -> bool:
        return len(await requests(fleet)) >= len(MODELS)

    await until(all_asked)
    assert sorted(await requests(fleet)) == sorted(MODELS)
    summary = await fleet.asked("health")
    assert (summary["total_models"], summary["failing"], summary["unanswered"]) == (len(MODELS), len(MODELS), [])
    assert summary["monitors"] == ["a", "b"]
    judged_by = {line["model_id"]: line["node"] for line in summary["models"]}
    held = {each.daemon.node: each.monitor.live for each in fleet.started}
    assert all(shard_of(model) in held[node] for model, node in judged_by.items())
    for model in MODELS:
        assert (await fleet.asked("triggers", model))["should_rollback"] is True


@pytest.mark.asyncio
async def test_the_models_of_a_monitor_that_died_are_judged_by_the_other(fleet: World) -> None:
    for model in MODELS:
        await fleet.order(model, "1")
    doomed = await fleet.start("a")
    await fleet.start("b")
    await shared(fleet, "a", "b")
    await fleet.shorten_leases(2.0)
    orphans = [model for model in MODELS if shard_of(model) in doomed.monitor.live]
    assert orphans
    await doomed.kill()
    # Nobody judges them now.
    for model in orphans:
        for node in ("gpu-1", "gpu-2", "gpu-3"):
            await fleet.report(model, node=node, **BAD)
    await shared(fleet, "b")

    async def all_asked() -> bool:
        return len(await requests(fleet)) >= len(orphans)

    await until(all_asked)
    assert sorted(await requests(fleet)) == sorted(orphans)


async def stored_by_anybody(
    teller: Teller, shard: int, word: object, facts: Sequence[Event], models: Mapping[str, Any]
) -> None:
    """What a teller without fence would do: say what it decided, whoever judges the shard by now."""
    for fact in facts:
        await teller._bus.publish(replace(fact, id=new_ulid()))


async def stalled_and_taken_over(fleet: World, server: LocalServer, patch: pytest.MonkeyPatch) -> list[str]:
    """A monitor is stopped between its decision and the write, loses its models to another one that decides the same,
    and goes on, not knowing: who asked for a rollback."""
    await fleet.shorten_leases(2.0)
    async with Proxy(server.port) as proxy:
        # Our own clock must not be what stops it, nor the sight of the other one: only the fence.
        fleet.lease_seconds = 3600.0
        await fleet.order("hex8", "1")
        stalled = (await fleet.start("a", url=proxy.url)).monitor
        fleet.lease_seconds = 2.0
        patch.setattr(stalled._shards, "_members", tuple)
        store = stalled._teller._store
        stopped, goes_on, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def stop_and_store(*given: Any) -> None:
            stopped.set()
            await goes_on.wait()
            try:
                await store(*given)
            finally:
                over.set()

        patch.setattr(stalled._teller, "_store", stop_and_store)
        await shared(fleet, "a")
        await fleet.report("hex8", node="gpu-1", **BAD)
        await stopped.wait()
        proxy.go_silent()
        await fleet.start("b")

        async def asked() -> bool:
            return bool(await requests(fleet))

        await until(asked)
        proxy.recover()
        await stalled._bus.wire.wait_connected(60.0)
        goes_on.set()
        await over.wait()
    return [event.source for event in await fleet.events("model.rollback.requested")]


@pytest.mark.asyncio
async def test_a_monitor_that_goes_on_after_its_models_were_taken_over_says_nothing(
    fleet: World, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await stalled_and_taken_over(fleet, server, monkeypatch) == ["/fleet/b/monitor"]


@pytest.mark.asyncio
async def test_without_the_fence_it_would_have_decided_a_second_time(
    fleet: World, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: a teller that stores whatever it decided."""
    monkeypatch.setattr(Teller, "_store", stored_by_anybody)
    assert await stalled_and_taken_over(fleet, server, monkeypatch) == ["/fleet/b/monitor", "/fleet/a/monitor"]
