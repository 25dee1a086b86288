"""Where a consumer begins, and where it goes on when it or its connection was lost."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from tests.integration.bus.consuming import (
    WAIT_SECONDS,
    Recorder,
    consumer_info,
    consumers,
    consuming,
    put,
    spec,
    until_consumers,
)

from fleetcast.bus import Bus
from fleetcast.bus.consumption import Consumption
from fleetcast.bus.errors import DeclarationRefused
from fleetcast.bus.server import LocalServer
from fleetcast.bus.testing import Proxy

pytestmark = pytest.mark.asyncio

OpenBus = Callable[..., Awaitable[Bus]]


@pytest.mark.parametrize("durable", ["group", None])
@pytest.mark.parametrize("rounds", [2])
async def test_consuming_goes_on_after_restarts_without_loss_or_repetition(
    bus: Bus, server: LocalServer, durable: str | None, rounds: int
) -> None:
    recorder = Recorder(lambda _: asyncio.sleep(0.01))
    async with consuming(bus, spec(durable), recorder):
        for n in range(rounds):
            await put(bus, 10, 10 * n)
            await recorder.until(lambda r, n=n: len(set(r.sequences)) >= 10 * n + 4)  # type: ignore[misc]
            await server.restart_async()
        await put(bus, 10, 10 * rounds)
        await recorder.until(lambda r: len(set(r.sequences)) == 10 * (rounds + 1) and r.running == 0, seconds=60)

    # One process never handles one message twice, even when the server does not know that it was answered.
    assert set(Counter(recorder.sequences).values()) == {1}


async def test_an_ephemeral_consumer_that_vanished_is_made_anew_where_it_was(bus: Bus) -> None:
    recorder = Recorder()
    await put(bus, 3)
    async with consuming(bus, spec(None, name="mine"), recorder):
        await recorder.until_handled(3)
        [name] = await consumers(bus)
        assert name.startswith("mine-")
        await bus.js.api(f"CONSUMER.DELETE.FC_EVENTS.{name}")
        await put(bus, 3, 3)
        await recorder.until_handled(6)

    assert sorted(recorder.sequences) == [1, 2, 3, 4, 5, 6]
    await until_consumers(bus, 0)


async def test_only_what_comes_is_delivered_to_a_new_consumer_that_asks_for_it(bus: Bus) -> None:
    recorder = Recorder()
    await put(bus, 3)
    async with consuming(bus, spec(None, start="new"), recorder):
        await until_consumers(bus, 1)
        await put(bus, 1, 3)
        await recorder.until_handled(1)

    assert recorder.sequences == [4]


@pytest.mark.parametrize("before", [0, 2])
async def test_what_comes_while_a_consumer_is_away_is_not_passed_over(
    bus: Bus, open_bus: OpenBus, server: LocalServer, before: int
) -> None:
    recorder = Recorder()
    await put(bus, before)
    async with Proxy(server.port) as proxy:
        away = await open_bus("n2", url=proxy.url)
        async with consuming(away, spec(None, start="new"), recorder):
            [name] = await until_consumers(bus, 1)
            proxy.go_silent()
            proxy.cut()
            await bus.js.api(f"CONSUMER.DELETE.FC_EVENTS.{name}")
            await put(bus, 3)
            proxy.recover()
            await recorder.until_handled(3)

    assert [before + 1, before + 2, before + 3] == sorted(recorder.sequences)


async def handled_when_nobody_hears_that_there_is_a_consumer(
    bus: Bus, open_bus: OpenBus, server: LocalServer
) -> list[int]:
    """What a consumer of "what comes" handles of 3 to 6: the answer to its creation is lost, 3 to 5 are stored, the
    connection ends, a second one is made, 6 is stored.
    """
    recorder = Recorder()
    unheard = asyncio.Event()

    def lose_answer(frame: bytes) -> bytes | None:
        if b"consumer_create_response" not in frame:
            return frame
        unheard.set()
        return None

    await put(bus, 2)
    async with Proxy(server.port) as proxy:
        proxy.filter = lose_answer
        # Only the end of the connection ends the wait for the answer.
        away = await open_bus("n2", url=proxy.url, request_timeout_seconds=2 * WAIT_SECONDS)
        async with consuming(away, spec(None, start="new"), recorder):
            async with asyncio.timeout(WAIT_SECONDS):
                await unheard.wait()
            await put(bus, 3)
            proxy.filter = lambda frame: frame
            proxy.cut()
            await until_consumers(bus, 2)
            await put(bus, 1)
            await recorder.until(lambda r: 6 in r.sequences and r.running == 0)
    return sorted(recorder.sequences)


async def test_what_comes_is_not_passed_over_when_nobody_hears_that_there_is_a_consumer(
    bus: Bus, open_bus: OpenBus, server: LocalServer
) -> None:
    assert await handled_when_nobody_hears_that_there_is_a_consumer(bus, open_bus, server) == [3, 4, 5, 6]


async def test_control_without_learning_where_it_stands_a_consumer_passes_over_what_came(
    bus: Bus, open_bus: OpenBus, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: Consumption) -> None:
        return

    monkeypatch.setattr(Consumption, "_stand", nothing)

    assert await handled_when_nobody_hears_that_there_is_a_consumer(bus, open_bus, server) == [6]


async def test_only_the_newest_of_every_subject_is_delivered_to_who_asks_for_it(bus: Bus) -> None:
    recorder = Recorder()
    for _ in range(3):
        await put(bus, 2)
    async with consuming(bus, spec(None, start="last_per_subject"), recorder):
        await recorder.until_handled(2)

    assert sorted(recorder.sequences) == [5, 6]


async def test_a_durable_with_other_settings_is_updated_and_reported(bus: Bus) -> None:
    for ack_wait in (5.0, 7.0):
        recorder = Recorder()
        await put(bus, 1)
        async with consuming(bus, spec(ack_wait_seconds=ack_wait), recorder):
            await recorder.until_handled(1)

    assert (await consumer_info(bus))["config"]["ack_wait"] == 7 * 10**9


async def test_a_durable_that_begins_elsewhere_is_refused_with_the_next_step(bus: Bus) -> None:
    recorder = Recorder()
    await put(bus, 1)
    async with consuming(bus, spec(), recorder):
        await recorder.until_handled(1)

    with pytest.raises(DeclarationRefused, match="another deliver_policy") as refused:
        await bus.consume(spec(start="new"), recorder)

    assert "nats consumer rm FC_EVENTS group" in (refused.value.next_step or "")
