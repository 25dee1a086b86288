"""What `fleetcast why` tells of a lane: its ledger, from a trainer or from the stream."""

from fleetcast.bus import Bus
from fleetcast.cli.training.lane_tables import told
from fleetcast.cli.training.lanes import view_of


async def lane_facts(bus: Bus, lane: str) -> list[str]:
    """A lane's ledger in sentences; none: there is no lane of that name.

    Raises:
        TransportFailed: the bus does not answer.
    """
    view = await view_of(bus, lane)
    return told(view) if view is not None else []
