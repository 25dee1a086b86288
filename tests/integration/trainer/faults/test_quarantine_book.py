"""Nodes that had a fault, as they are kept on a real server: noted once, ended once, seen by every trainer."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.trainer.faults.builders import ABORTED, APERTURE, NOW, ended, lane, run

from fleetcast.bus import Bus, connect, declare
from fleetcast.bus.server import LocalServer
from fleetcast.bus.services import ServiceError
from fleetcast.bus.streams import EVENTS
from fleetcast.bus.testing import fast_settings
from fleetcast.daemons.trainer.faults.answering import QuarantineService
from fleetcast.daemons.trainer.faults.book import QuarantineBook
from fleetcast.daemons.trainer.faults.desk import FaultDesk
from fleetcast.daemons.trainer.faults.probe import Probed
from fleetcast.daemons.trainer.faults.ward import Ward
from fleetcast.daemons.trainer.ledger import TrainingLedger
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import NodeQuarantined

CARD = Gpu(index=0, vendor="amd", arch="gfx1012", pci="0000:03:00.0")
LIMIT_SECONDS = 60.0


@dataclass
class Clock:
    """The server's time, as a test sets it."""

    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    def goes_on(self, **times: float) -> None:
        self.time += timedelta(**times)


@dataclass
class Trainer:
    """What one trainer knows."""

    node: str
    book: QuarantineBook
    desk: FaultDesk
    ward: Ward
    said: list[Probed] = field(default_factory=list)
    """What the next probes find; the last one again and again."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalServer(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@asynccontextmanager
async def trainer(url: str, node: str, clock: Clock, *probes: Probed, env: Any = None) -> AsyncIterator[Trainer]:
    async with connect(fast_settings(url), node=node, daemon="trainer") as bus:
        await declare(bus, 1)
        book = QuarantineBook(TrainingLedger(bus, clock=clock.now), now=clock.now)
        said = list(probes)

        async def ask() -> Probed:
            return said.pop(0) if len(said) > 1 else said[0]

        async def read() -> tuple[Gpu, ...]:
            return (CARD,)

        ward = Ward(book, node=node, now=clock.now, busy=lambda: False, read=read, ask=ask, env=env or {})
        desk = FaultDesk(
            book,
            node=node,
            now=clock.now,
            gpus=lambda: ward.gpus,
            arch_list=lambda: ward.arch_list,
            read_kernel=lambda _: (),
        )
        following = asyncio.create_task(book.watch())
        try:
            await asyncio.wait_for(book.known.wait(), LIMIT_SECONDS)
            yield Trainer(node, book, desk, ward, said)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


WELL, BROKEN = Probed(True, "1 GPU computed as it should", ("gfx1012",)), Probed(False, "killed by signal 6")


async def told(url: str, node: str, count: int) -> list[NodeQuarantined]:
    """What the log says of a node's quarantine, once it says so much."""
    async with connect(fast_settings(url), node="watcher", daemon="test") as bus, asyncio.timeout(LIMIT_SECONDS):
        while True:
            found = await _told(bus, node)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def _told(bus: Bus, node: str) -> list[NodeQuarantined]:
    found: list[NodeQuarantined] = []
    last = int((await bus.js.api(f"STREAM.INFO.{EVENTS}"))["state"]["last_seq"])
    for sequence in range(1, last + 1):
        entry = await bus.js.message(EVENTS, seq=sequence)
        if entry is not None and entry.subject == f"fc.ev.node.quarantined.{node}":
            found.append(NodeQuarantined.model_validate(json.loads(entry.data)["data"]))
    return found


@pytest.mark.asyncio
async def test_a_fault_that_is_judged_twice_quarantines_the_gpus_once_and_every_trainer_sees_it(url: str) -> None:
    clock = Clock()
    async with trainer(url, "gpu-a", clock, WELL) as mine, trainer(url, "gpu-b", clock, WELL) as other:
        await mine.ward.look()
        exit_ = ended(*ABORTED, signal=6)
        made = [
            await mine.desk.judge(run(owner="gpu-a"), lane(), exit_, env={"HSA_OVERRIDE_GFX_VERSION": "10.3.0"})
            for _ in range(2)
        ]

        assert made[0] == made[1]
        assert "HSA_OVERRIDE_GFX_VERSION=10.3.0" in made[0].guidance
        assert "gfx1012" in made[0].guidance
        (gpu,) = mine.ward.gpus
        assert APERTURE in gpu.fault
        assert mine.ward.quarantine == ""
        async with asyncio.timeout(LIMIT_SECONDS):
            while (seen := other.book.of("gpu-a")) is None:  # noqa: ASYNC110  # it is told of nothing
                await asyncio.sleep(0.01)
        assert (seen.times, seen.gpu, seen.run) == (1, True, "hex8_2p-1")

    (fact,) = await told(url, "gpu-a", 1)
    assert (fact.quarantined, fact.gpu, fact.signature) == (True, True, APERTURE)


@pytest.mark.asyncio
async def test_a_quarantine_ends_after_a_probe_that_passes_and_not_by_time_alone(url: str) -> None:
    clock = Clock()
    async with trainer(url, "gpu-c", clock, WELL, BROKEN, WELL) as mine:
        await mine.ward.look()
        await mine.desk.judge(run(owner="gpu-c"), lane(), ended(*ABORTED, signal=6), env={})
        clock.goes_on(minutes=59)
        mine.ward._next_probe = 0.0
        mine.said[:] = [BROKEN, WELL]
        clock.goes_on(minutes=2)
        await mine.ward.look()

        record = mine.book.of("gpu-c")
        assert record is not None
        assert record.until is not None
        assert datetime.fromisoformat(record.until) > clock.now()
        assert "failed the probe" in mine.ward.gpus[0].fault

        clock.goes_on(hours=2)
        mine.ward._next_probe = 0.0
        await mine.ward.look()
        assert mine.ward.gpus[0].fault == ""
        assert mine.ward.gpus[0].proven_at

    facts = await told(url, "gpu-c", 3)
    assert [each.quarantined for each in facts] == [True, True, False]


@pytest.mark.asyncio
async def test_two_trainers_that_end_a_quarantine_tell_of_it_once(url: str) -> None:
    clock = Clock()
    async with trainer(url, "gpu-d", clock, WELL) as mine, trainer(url, "gpu-e", clock, WELL) as other:
        await mine.desk.judge(run(owner="gpu-d"), lane(), ended("OSError: [Errno 28] No space left on device"), env={})
        assert "disk full" in mine.ward.quarantine
        await asyncio.gather(*(each.book.leave("gpu-d", by="ana") for each in (mine, other) for _ in range(5)))
        assert mine.ward.quarantine == ""

    facts = await told(url, "gpu-d", 2)
    assert [each.quarantined for each in facts] == [True, False]


@pytest.mark.asyncio
async def test_an_override_is_flagged_in_what_the_node_says_of_its_gpus(url: str) -> None:
    env = {"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}
    async with trainer(url, "gpu-f", Clock(), WELL, env=env) as mine:
        await mine.ward.look()

        assert "HSA_OVERRIDE_GFX_VERSION=10.3.0" in mine.ward.gpus[0].warning
        assert mine.ward.gpus[0].fault == ""
        assert mine.ward.arch_list == ("gfx1012",)


@pytest.mark.asyncio
async def test_a_person_keeps_runs_away_from_a_node_and_gives_it_some_again(url: str) -> None:
    clock = Clock()
    async with trainer(url, "gpu-g", clock, WELL) as mine:
        service = QuarantineService(mine.book)

        async def asked(**fields: Any) -> dict[str, Any]:
            request = {"node": "gpu-g", "reason": "rack is moved", "by": "ana", **fields}
            found: dict[str, Any] = json.loads(await service.answer(json.dumps(request).encode()))
            return found

        assert (await asked(node="gpu-z", quarantined=False))["known"] is False
        until = "2026-11-21T14:00:00.000Z"
        would = await asked(quarantined=True, seconds=7200, dry_run=True)
        assert (would["before"], would["until"], await mine.book.find("gpu-g")) == (None, until, None)
        said = await asked(quarantined=True, seconds=7200)
        assert said["until"] == until
        assert mine.ward.quarantine == f"quarantined until {until}: rack is moved"
        assert (await asked(quarantined=False, dry_run=True))["before"] == until
        assert mine.ward.quarantine
        await asked(quarantined=False)
        assert mine.ward.quarantine == ""
        for wrong in ({"quarantined": True, "seconds": -1}, {"node": "A B", "quarantined": True}, {}):
            with pytest.raises(ServiceError) as refused:
                await asked(**wrong)
            assert refused.value.code == 400


@pytest.mark.asyncio
async def test_a_driver_that_was_mute_for_a_moment_speaks_against_its_gpu_until_that_has_computed_again(
    url: str,
) -> None:
    clock = Clock()

    async def read() -> tuple[Gpu, ...]:
        raise TimeoutError

    async with trainer(url, "gpu-mute", clock, WELL) as mine:
        await mine.ward.look()
        assert mine.ward.gpus[0].proven_at
        usual, mine.ward._read = mine.ward._read, read
        await mine.ward.look()
        assert mine.ward.gpus[0].fault == "the driver does not answer"
        assert not mine.ward.gpus[0].proven_at
        mine.ward._read, mine.ward._next_probe = usual, 0.0
        await mine.ward.look()
        assert (mine.ward.gpus[0].fault, bool(mine.ward.gpus[0].proven_at)) == ("", True)
