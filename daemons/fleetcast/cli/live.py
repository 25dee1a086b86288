"""The fleet as it changes, for commands: what goes wrong is told with the next command to type."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleetcast.bus import Bus
from fleetcast.cli.problems import Problem
from fleetcast.registry.picture import live
from fleetcast.registry.picture.live import Fleet, FleetSilent, NoFleet

__all__ = ["Fleet", "watched"]


@asynccontextmanager
async def watched(bus: Bus, heartbeat_seconds: float, *, streams_seconds: float = 0.0) -> AsyncIterator[Fleet]:
    """As `fleetcast.registry.picture.live.watched`.

    Raises:
        Problem: the server has no streams of fleetcast, or does not answer.
    """
    try:
        async with live.watched(bus, heartbeat_seconds, streams_seconds=streams_seconds) as fleet:
            yield fleet
    except NoFleet as error:
        raise Problem(
            "no_fleet",
            str(error),
            why="no daemon of fleetcast has ever been connected to it",
            next_step="fleetcast run distributor (on a node), or name another server with --server",
        ) from error
    except FleetSilent as error:
        raise Problem("no_answer", str(error), next_step="fleetcast doctor") from error
