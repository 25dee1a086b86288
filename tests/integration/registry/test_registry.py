"""The registry on a real server: one winner, one record, one fact, whatever happens in between."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from fleetcast.bus import Bus, InSync, connect
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy, fast_settings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.envelope import parse
from fleetcast.events.payloads import Endpoints, Origin, SlotOrdered, VersionReserved
from fleetcast.events.state import Cause, DistributionState, SlotEntry, SlotState, VersionState, slot_subject
from fleetcast.registry import RecordDamaged, Registry, SlotOutcome, VersionTaken

pytestmark = pytest.mark.asyncio


@pytest.fixture
def registry(bus: Bus) -> Registry:
    return Registry(bus)


def content(size: int, kind: Kind = Kind.MODEL) -> Content:
    file = ContentFile(path="m.pt", size=size, sha256="0" * 64, pieces_root="0" * 64)
    return Content(kind=kind, format=Format.OPAQUE, files=(file,))


def cause(sequence: int) -> Cause:
    return Cause(event=f"event-{sequence}", sequence=sequence, by="/test", correlation="correlation-1")


def version(number: str, size: int = 1, node: str = "n1", kind: Kind = Kind.MODEL) -> VersionState:
    made = content(size, kind)
    return VersionState(
        model="m",
        version=number,
        artifact=made.artifact,
        content=made,
        origin=Origin(node=node, endpoints=Endpoints()),
        metainfo_b64="bWV0YQ==",
        cause=cause(1),
        at="2026-11-20T10:00:00.000Z",
    )


async def order(registry: Registry, number: int, sequence: int, request: str | None = None) -> SlotOutcome:
    return await registry.order_slot(
        "m",
        SlotEntry(version=str(number), artifact=content(number).artifact),
        cause=cause(sequence),
        request=request or f"order/event-{sequence}",
        actor="/test",
    )


async def facts(bus: Bus, count: int) -> list[SlotOrdered | VersionReserved]:
    """The registry's facts, once so many have reached FC_EVENTS."""
    found: list[SlotOrdered | VersionReserved] = []
    async with asyncio.timeout(20):
        async for entry in bus.tail("FC_EVENTS", [], follow=True):
            event = parse(entry.data, subject=entry.subject, headers=entry.headers)
            assert event.correlationid == "correlation-1"
            assert isinstance(event.payload, SlotOrdered | VersionReserved)
            found.append(event.payload)
            if len(found) == count:
                return found
    raise AssertionError("unreachable")


async def test_a_version_is_reserved_once_with_its_record_and_its_fact(bus: Bus, registry: Registry) -> None:
    first = await registry.reserve_version(version("43"), request="r1", actor="/fleet/n1/distributor")
    again = await registry.reserve_version(version("43"), request="r2", actor="/fleet/n1/distributor")

    assert (first.created, again.created) == (True, False)
    assert await registry.version("m", "43") == version("43")
    [record] = await registry.history("m")
    assert (record.action, record.request, record.actor) == ("version.reserved", "r1", "/fleet/n1/distributor")
    assert [VersionReserved(model="m", version="43", artifact=content(1).artifact, origin="n1")] == await facts(bus, 1)


async def test_two_origins_cannot_give_one_version_two_contents(
    registry: Registry, server: LocalServer, stack: AsyncExitStack
) -> None:
    other = Registry(await stack.enter_async_context(connect(fast_settings(server.url), node="n2", daemon="test")))

    results = await asyncio.gather(
        registry.reserve_version(version("43", 1, "n1"), request="r1", actor="a"),
        other.reserve_version(version("43", 2, "n2"), request="r2", actor="b"),
        return_exceptions=True,
    )

    [loser] = [r for r in results if isinstance(r, VersionTaken)]
    kept = await registry.version("m", "43")
    assert loser.winner == kept
    assert len(await registry.history("m")) == 1


async def test_a_data_set_and_a_model_of_one_name_do_not_meet(registry: Registry) -> None:
    await registry.reserve_version(version("1"), request="r1", actor="a")
    await registry.reserve_version(version("1", 2, kind=Kind.DATASET), request="r2", actor="a")
    await order(registry, 1, 1)
    entry = SlotEntry(version="1", artifact=content(2, Kind.DATASET).artifact)
    await registry.order_slot("m", entry, cause=cause(2), request="q", actor="a", kind=Kind.DATASET)

    model, lane = await registry.slot("m"), await registry.slot("m", Kind.DATASET)

    assert model is not None
    assert lane is not None
    assert (model.generation, lane.generation) == (1, 1)
    assert lane.production == entry
    assert {Kind.MODEL, Kind.DATASET} == {v.kind for v in await registry.versions("m")}
    assert len(await registry.versions()) == 2
    assert len(await registry.slots()) == 2


async def test_an_order_moves_the_slot_and_the_next_one_keeps_the_previous(bus: Bus, registry: Registry) -> None:
    await order(registry, 1, 10)
    second = await order(registry, 2, 11)

    assert second.kind == "moved"
    slot = await registry.slot("m")
    assert slot == second.state
    assert slot is not None
    assert slot.production is not None
    assert slot.previous is not None
    assert (slot.generation, slot.production.version, slot.previous.version) == (2, "2", "1")
    assert [(fact.generation, fact.previous) for fact in await facts(bus, 2) if isinstance(fact, SlotOrdered)] == [
        (1, None),
        (2, "1"),
    ]


async def test_the_same_request_again_changes_nothing_and_says_so(registry: Registry) -> None:
    await order(registry, 1, 10)

    repeated = await order(registry, 1, 10)
    under_another_cause = await order(registry, 5, 99, request="order/event-10")

    assert (repeated.kind, under_another_cause.kind) == ("repeated", "repeated")
    assert repeated.state.generation == 1
    assert len(await registry.history("m")) == 1


async def test_a_slow_earlier_promotion_does_not_take_back_a_later_one_and_is_on_record(registry: Registry) -> None:
    await order(registry, 2, 20)

    late, again = await order(registry, 1, 10), await order(registry, 1, 10)

    assert (late.kind, again.kind) == ("superseded", "superseded")
    slot = await registry.slot("m")
    assert slot is not None
    assert slot.generation == 1
    _, record = await registry.history("m")
    assert record.action == "slot.superseded"
    assert "event 20" in (record.reason or "")


async def test_an_older_version_promoted_later_is_served_again(registry: Registry) -> None:
    for number, sequence in ((1, 10), (2, 11), (1, 12)):
        await order(registry, number, sequence)

    slot = await registry.slot("m")

    assert slot is not None
    assert slot.production is not None
    assert (slot.generation, slot.production.version) == (3, "1")


async def test_a_hundred_promoters_at_once_make_one_unbroken_history(
    bus: Bus, registry: Registry, server: LocalServer, stack: AsyncExitStack
) -> None:
    others = [
        Registry(
            await stack.enter_async_context(
                connect(fast_settings(server.url, publish_deadline_seconds=60), node=f"n{n}", daemon="test")
            )
        )
        for n in range(2, 5)
    ]
    writers = [registry, *others]

    outcomes = await asyncio.gather(*(order(writers[n % 4], n, n) for n in range(1, 101)))

    kinds = Counter(outcome.kind for outcome in outcomes)
    slot = await registry.slot("m")
    assert slot is not None
    assert slot.production is not None
    # The latest cause is served, each generation has one winner, and everybody is on record.
    assert slot.production.version == "100"
    assert kinds["moved"] == slot.generation
    assert kinds["moved"] + kinds["superseded"] == 100
    moved = [outcome.state.generation for outcome in outcomes if outcome.kind == "moved"]
    assert sorted(moved) == list(range(1, slot.generation + 1))
    assert len(await registry.history("m")) == 100
    assert await registry.broken_links("m") == []
    assert len(await facts(bus, slot.generation)) == slot.generation


async def test_an_order_whose_answer_is_lost_is_carried_out_once(
    bus: Bus, registry: Registry, server: LocalServer, stack: AsyncExitStack
) -> None:
    async with Proxy(server.port) as proxy:
        settings = fast_settings(proxy.url, request_timeout_seconds=0.4)
        flaky = Registry(await stack.enter_async_context(connect(settings, node="n2", daemon="test")))
        proxy.lose(b'"batch":')
        outcome = await order(flaky, 1, 10)

        assert proxy.lost == 1
        assert outcome.kind == "moved"
        assert len(await registry.history("m")) == 1
        proxy.lost = 0
        reserved = await flaky.reserve_version(version("43"), request="r", actor="a")
        assert (proxy.lost, reserved.created) == (1, True)
        assert len(await registry.history("m")) == 2
        await stack.aclose()


async def test_an_order_waits_for_a_server_that_comes_back(registry: Registry, server: LocalServer) -> None:
    await order(registry, 1, 10)
    await server.kill_async()
    ordering = asyncio.create_task(order(registry, 2, 11))
    await asyncio.sleep(0.2)
    await server.start_async()

    outcome = await asyncio.wait_for(ordering, 20)

    assert outcome.kind == "moved"
    assert outcome.state.generation == 2
    assert await registry.broken_links("m") == []


async def test_slots_are_watched_from_the_first_to_every_change(registry: Registry, server: LocalServer) -> None:
    seen: asyncio.Queue[SlotState | InSync] = asyncio.Queue()

    async def watch() -> None:
        async for item in registry.watch_slots():
            seen.put_nowait(item)

    async def next_slot(generation: int) -> SlotState:
        while True:
            item = await asyncio.wait_for(seen.get(), 20)
            if isinstance(item, SlotState) and item.generation == generation:
                return item

    await order(registry, 1, 10)
    watching = asyncio.create_task(watch())
    await next_slot(1)
    assert isinstance(await asyncio.wait_for(seen.get(), 10), InSync)
    await order(registry, 2, 11)
    await next_slot(2)
    await server.restart_async()
    await order(registry, 3, 12)
    assert (await next_slot(3)).model == "m"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_slot_that_cannot_be_read_is_named_and_hides_no_other(bus: Bus, registry: Registry) -> None:
    await bus.publish_raw(slot_subject("broken"), b'{"schema":99}')
    await order(registry, 1, 10)

    with pytest.raises(RecordDamaged, match=r"fc\.reg\.state\.slot\.broken"):
        await registry.slot("broken")
    async for item in registry.watch_slots():
        if isinstance(item, SlotState):
            assert item.model == "m"
        else:
            break


async def test_a_model_that_nobody_knows_has_no_slot_no_version_and_no_history(registry: Registry) -> None:
    assert await registry.slot("unknown") is None
    assert await registry.version("unknown", "1") is None
    assert await registry.history("unknown") == []
    assert await registry.broken_links("unknown") == []
    assert await registry.slots() == []


async def test_the_audit_holds_the_same_records_as_the_truth(bus: Bus, registry: Registry) -> None:
    for n in range(1, 4):
        await order(registry, n, n)
    truth = [entry.data async for entry in bus.tail("FC_REGISTRY", ["fc.reg.log.m.*"])]
    copies: list[bytes] = []
    async with asyncio.timeout(20):
        async for entry in bus.tail("FC_AUDIT", ["fc.reg.log.m.*"], follow=True):
            copies.append(entry.data)
            if len(copies) == 3:
                break

    assert copies == truth


def distribution(sequence: int, *to: str) -> DistributionState:
    return DistributionState(
        model="m",
        version="1",
        artifact=content(1).artifact,
        origin="n1",
        to=to,
        cause=cause(sequence),
        at="2026-11-20T10:00:00.000Z",
    )


async def test_a_distribution_is_kept_for_nodes_that_come_later_and_a_later_one_replaces_it(registry: Registry) -> None:
    await registry.order_distribution(distribution(5, "gpu-*"), request="r5", actor="/test")
    await registry.order_distribution(distribution(7, "cpu-*"), request="r7", actor="/test")
    late = await registry.order_distribution(distribution(6, "tpu-*"), request="r6", actor="/test")
    assert late.to == ("cpu-*",)
    found = []
    async for state in registry.watch_distributions():
        if isinstance(state, InSync):
            break
        found.append(state)
    assert [each.to for each in found] == [("cpu-*",)]
    assert await registry.broken_links("m") == []
    assert [record.action for record in await registry.history("m")] == ["distribution.ordered"] * 2
