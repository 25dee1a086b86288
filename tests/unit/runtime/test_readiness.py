"""Ready after a round trip over the bus, and alive as long as somebody looks after it."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from fleetcast.bus import Bus, BusState, Service
from fleetcast.config.settings import Settings
from fleetcast.daemons.runtime import Daemon, Grace
from fleetcast.daemons.runtime.notify import Notifier
from fleetcast.daemons.runtime.progress import unproven
from fleetcast.daemons.runtime.readiness import TRY_SECONDS, say_ready, with_bus


@dataclass
class Tried:
    """What a bus shows of itself."""

    proven: asyncio.Event = field(default_factory=asyncio.Event)
    tried_at: float = 0.0
    state: BusState = BusState.READY
    served: list[str] = field(default_factory=list)

    async def serve(self, service: Service) -> None:
        self.served.append(service.name)


def daemon_of(manager: Any) -> Daemon:
    return Daemon("tester", "n1", Settings(), notifier=Notifier(address=manager.address), grace=Grace())


@pytest.mark.asyncio
async def test_daemon_says_what_it_waits_for_until_the_first_round_trip(manager: Any) -> None:
    bus = Tried()
    saying = asyncio.create_task(say_ready(daemon_of(manager), cast("Bus", bus), lambda: "in sync"))
    await asyncio.sleep(0)
    before = manager.waiting()
    bus.proven.set()
    await saying

    assert before == [b"STATUS=waiting for NATS to store a message and give it back"]
    assert manager.waiting() == [b"READY=1\nSTATUS=in sync"]


@pytest.mark.asyncio
async def test_bus_that_nobody_tries_any_more_starves_the_watchdog_and_one_that_is_away_does_not(manager: Any) -> None:
    bus, daemon = Tried(tried_at=time.monotonic(), state=BusState.DEGRADED), daemon_of(manager)
    bus.proven.set()
    await say_ready(daemon, cast("Bus", bus), lambda: "in sync")

    away = unproven(daemon._proofs)
    bus.tried_at -= TRY_SECONDS + 1
    abandoned = unproven(daemon._proofs)

    assert (away, abandoned) == ([], ["bus"])


def test_status_says_first_that_nats_is_away() -> None:
    assert with_bus(cast("Bus", Tried(state=BusState.DEGRADED)), "2 models") == "NATS is away; 2 models"
    assert with_bus(cast("Bus", Tried()), "2 models") == "2 models"
