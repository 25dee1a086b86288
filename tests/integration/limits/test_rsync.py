"""A cap on receiving with the real rsync, which is told no rate: neither more nor less than it allows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from tests.integration.limits.rates import slope
from tests.integration.rsync.conftest import ModuleMaker, Server, forced, module, put_in_store, receiver
from tests.integration.rsync.receiver import KIB, MIB, Receiver, model

from fleetcast.config.limits import LimitsSettings, Window
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.transport.capped import Capped, Receiving
from fleetcast.transport.rsync.relay import Traffic
from fleetcast.transport.testing import Thing, Witness, until

__all__ = ["forced", "module", "receiver"]
pytestmark = pytest.mark.asyncio

CAP = 4 * MIB
NIGHT = Window.model_validate({"from": "22:00", "to": "06:00", "download_bytes_per_second": CAP})
EVENING = datetime(2026, 11, 16, 21, 59)  # noqa: DTZ001 - the clock on the wall


@contextlib.asynccontextmanager
async def held(
    limits: LimitsSettings, receiver: Receiver, clock: list[datetime], **others: Capped
) -> AsyncIterator[None]:
    """While the caps hold, with parts beside rsync that move nothing, and *others*."""
    still = {name: Receiving(lambda: 0, lambda _: None) for name in ("bittorrent", "borrowing", "aria2", "http")}
    allowance = Allowance(limits, {**still, "rsync": receiver.transport, **others}, now=lambda: clock[0])
    allowance.look(0.0)
    holding = asyncio.create_task(allowance.run())
    try:
        yield
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


def fetching(receiver: Receiver, thing: Thing, server: Server) -> asyncio.Task[None]:
    put_in_store(thing, server.store)

    async def fetch() -> None:
        await receiver.fetch(thing, server.source, witness=Witness(thing, receiver.folder))

    return asyncio.create_task(fetch())


async def alone(server: Server, folder: Path) -> float:
    """Rate over the cap when nobody else wants any of it, without the first moment and the end."""
    receiver, thing = Receiver(folder, server.settings), model(5 * CAP // 2)
    async with held(LimitsSettings(download_bytes_per_second=CAP), receiver, [EVENING]):
        moving = fetching(receiver, thing, server)
        rate = await slope(receiver.transport, (thing.size // 4, thing.size * 19 // 20), moving)
        await moving
    return rate / CAP


async def test_cap_is_held_and_used_up_by_rsync_alone(module: ModuleMaker, tmp_path: Path) -> None:
    assert 0.9 < await alone(module("s1"), tmp_path / "r") < 1.05


async def test_cap_is_held_and_used_up_by_rsync_over_ssh(forced: Server, tmp_path: Path) -> None:
    assert 0.9 < await alone(forced, tmp_path / "r") < 1.05


@pytest.mark.soak
async def test_broken_variant_with_half_of_it_is_caught(
    module: ModuleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rsync was told when it could not be told again."""
    monkeypatch.setattr(Traffic, "limit", lambda self, down, _up: self.down.limit(down and CAP // 2))
    assert await alone(module("s1"), tmp_path / "r") < 0.6


async def through_a_window(module: ModuleMaker, receiver: Receiver) -> tuple[float, float, float]:
    """The rates over the cap before it begins, while it holds, and after its end; the source sends at twice the cap."""
    clock, thing, server = [EVENING], model(6 * CAP), module("s1", f"--bwlimit={2 * CAP // KIB}")
    async with held(LimitsSettings(windows=(NIGHT,)), receiver, clock):
        moving = fetching(receiver, thing, server)
        before = await slope(receiver.transport, (CAP // 4, CAP), moving)
        clock[0] = EVENING.replace(hour=22, minute=0)
        within = await slope(receiver.transport, (2 * CAP, 4 * CAP), moving)
        clock[0] = EVENING.replace(day=17, hour=6, minute=0)
        after = await slope(receiver.transport, (9 * CAP // 2, 6 * CAP), moving)
        await moving
    return before / CAP, within / CAP, after / CAP


async def test_window_holds_for_an_rsync_that_runs_when_it_begins_and_ends(
    module: ModuleMaker, receiver: Receiver
) -> None:
    before, within, after = await through_a_window(module, receiver)
    assert before > 1.3
    assert 0.85 < within < 1.05
    assert after > 1.3


@pytest.mark.soak
async def test_broken_variant_that_keeps_to_what_it_was_told_first_is_caught(
    module: ModuleMaker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Traffic, "limit", lambda *_: None)
    _, within, _ = await through_a_window(module, receiver)
    assert within > 1.3


async def test_rsync_shares_with_who_begins_and_has_it_all_again_at_its_end(
    module: ModuleMaker, receiver: Receiver, tmp_path: Path
) -> None:
    """The other one is an rsync too, as a part of its own."""
    server, other = module("s1"), Receiver(tmp_path / "other", receiver.settings)
    long, short = model(5 * CAP), model(CAP, seed=2)
    async with held(LimitsSettings(download_bytes_per_second=CAP), receiver, [EVENING], other=other.transport):
        moving = fetching(receiver, long, server)
        await until(lambda: receiver.transport.moved().received > CAP, 60)
        beside = fetching(other, short, server)
        shared = await slope(other.transport, (CAP // 4, CAP), beside)
        await beside
        at = receiver.transport.moved().received
        again = await slope(receiver.transport, (at + CAP // 2, long.size), moving)
        await moving
    # What is below depends on what else this machine does.
    assert 0.35 < shared / CAP < 0.65
    assert 0.7 < again / CAP < 1.05
