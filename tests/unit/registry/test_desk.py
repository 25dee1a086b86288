"""The desk of the registry daemon answers before whoever asks gives up on it."""

import asyncio
import json

import pytest

from fleetcast.bus import patience
from fleetcast.bus.services import ServiceError
from fleetcast.daemons.registry.desk import DECIDE_SECONDS, TransitionDesk
from fleetcast.daemons.runtime.requests import AWAY
from fleetcast.registry.commands import Answer, Transition

REQUEST = json.dumps({"request": "r", "actor": "/t", "reason": "x", "command": {"do": "freeze"}}).encode()


class CutOff:
    """An engine whose server is away: it would try for a minute."""

    def __init__(self) -> None:
        self.given_up = False

    async def handle(self, transition: Transition) -> Answer:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.given_up = True
            raise
        raise AssertionError(transition)


@pytest.mark.asyncio
async def test_daemon_that_is_cut_off_says_so_before_it_is_asked_again_elsewhere() -> None:
    engine = CutOff()
    desk = TransitionDesk(engine, decide_seconds=0.05)  # type: ignore[arg-type]
    with pytest.raises(ServiceError) as refused:
        await desk.answer(REQUEST)
    assert refused.value.code == AWAY == patience.NOT_NOW
    assert engine.given_up, "it would go on beside the daemon that is asked next"


def test_a_decision_has_less_time_than_whoever_asks_waits_for_it() -> None:
    assert 1.0 < DECIDE_SECONDS < patience.ANSWER_SECONDS - 1.0
