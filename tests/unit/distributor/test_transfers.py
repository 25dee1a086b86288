"""Which transfers are begun, and begun again."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from tests.unit.distributor.test_rules import A, offer

from fleetcast.config.settings import DistributorSettings
from fleetcast.daemons.distributor.acquire import Acquisition
from fleetcast.daemons.distributor.board import Board
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.rules import Offer, Urgency
from fleetcast.daemons.distributor.transfers import Transfers
from fleetcast.transport.errors import FormatRefused


class Refusing:
    """An acquisition whose content never loads."""

    def __init__(self) -> None:
        self.tries = 0

    async def acquire(self, _: Offer) -> None:
        self.tries += 1
        raise FormatRefused("it does not load")


@pytest.mark.asyncio
async def test_what_was_refused_is_tried_again_when_another_event_asks_for_it() -> None:
    settings = SimpleNamespace(distributor=DistributorSettings())
    parts = cast("Parts", SimpleNamespace(node="n1", settings=settings, board=Board()))
    refusing = Refusing()
    transfers = Transfers(parts, cast("Acquisition", refusing))
    wanted = offer("1", A, 5)

    async def pursue() -> int:
        transfers.pursue({A: (Urgency.OFFERED, wanted)})
        for _ in range(20):
            await asyncio.sleep(0)
        return refusing.tries

    running = asyncio.create_task(transfers.run())
    await asyncio.sleep(0)
    try:
        assert await pursue() == 1
        assert await pursue() == 1, "what does not load was fetched again for nothing"
        transfers.ask_again(A, {wanted.cause})
        assert await pursue() == 1, "the event that brought it is no new decision"
        transfers.ask_again(A, {"a person"})
        assert await pursue() == 2
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
