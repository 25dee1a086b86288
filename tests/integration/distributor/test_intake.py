"""What the intake refuses, and how often."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleetcast.bus import Bus, Reject
from fleetcast.daemons.distributor.intake import IntakeDesk
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.runs import RunCheckpointSaved


def saved(epoch: int) -> Event:
    said = RunCheckpointSaved(run_id="hex8-1", claim=1, node="gpu-1", epoch=epoch, path="/data/c.pt", size=1)
    return new_event(said, source="/gpu-1/job")


@pytest.mark.asyncio
async def test_a_refusal_that_was_not_written_down_is_made_again_and_only_for_that_event(bus: Bus) -> None:
    desk = IntakeDesk(cast("Any", SimpleNamespace(bus=bus, node="n1")), cast("Any", SimpleNamespace(nodes={})))
    first = saved(1)
    for _delivery in range(2):
        with pytest.raises(Reject, match="no lane started a run hex8-1"):
            await desk.handle(first, cast("Any", None))

    await desk.handle(saved(2), cast("Any", None))
