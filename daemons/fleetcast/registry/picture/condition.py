"""Whether all is well with a fleet: everything that is worse than it should be, in sentences. The command line and the
gateway say the same, because both read it here."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleetcast.bus import Bus
from fleetcast.events.incidents import IncidentState, Severity
from fleetcast.events.lifecycle import AuthorityState
from fleetcast.events.quarantine import NodeQuarantine
from fleetcast.registry.picture.attendants import MISSED, Attendants
from fleetcast.registry.picture.keeping import Keeping, authority
from fleetcast.registry.picture.live import Fleet
from fleetcast.registry.picture.nodes import Rollout, problems
from fleetcast.registry.picture.training import TrainingNodes, records
from fleetcast.registry.picture.truth import Truth, look, rooms, short_of_room

Incidents = Callable[[Bus], Awaitable[Sequence[IncidentState]]]
"""Gives the incidents that have not ended; their reader lives with the daemon that writes them."""


@dataclass(frozen=True)
class Beside:
    """What no heartbeat tells: how many dead letters there are, who keeps the registry, what is wrong, how the streams
    are, and what is kept of nodes that had a fault."""

    dead: int = 0
    authority: AuthorityState | None = None
    incidents: Sequence[IncidentState] = ()
    truth: Truth = field(default_factory=Truth)
    faults: Mapping[str, NodeQuarantine] = field(default_factory=dict)


async def look_beside(bus: Bus, fleet: Fleet, incidents: Incidents) -> Beside:
    """Look once; the questions do not wait for each other.

    Raises:
        TransportFailed: the bus does not answer.
    """
    keeps = any(keeper.alive for keeper in fleet.keepers)
    dead, writes, found, truth, faults = await asyncio.gather(
        _dead_letters(bus), authority(bus), incidents(bus), look(bus, read_model=keeps), records(bus)
    )
    return Beside(dead, writes, found, truth, faults)


async def _dead_letters(bus: Bus) -> int:
    return len(await bus.dead.list())


class Condition:
    """A fleet as of one look.

    Attributes:
        keeping, attendants, training: who keeps the registry, who serves the whole fleet, and who trains.
        room: free bytes by node.
        wrong: what is worse than it should be, one sentence each; empty: all is well.
    """

    def __init__(self, fleet: Fleet, beside: Beside, rollouts: Sequence[Rollout]) -> None:
        self.keeping = Keeping(beside.authority, fleet.keepers)
        self.attendants = Attendants(fleet.attendants(MISSED))
        self.training = TrainingNodes(fleet.attendants(("trainer",))["trainer"], beside.faults)
        self.room = rooms(fleet.statuses)
        self.wrong: tuple[str, ...] = (
            *problems(fleet.nodes, rollouts, beside.dead),
            *self.keeping.problems,
            *self.attendants.problems,
            *self.training.problems,
            *beside.truth.problems,
            *short_of_room(self.room),
            *degrading(beside.incidents),
        )


def degrading(states: Iterable[IncidentState]) -> list[str]:
    """Why open incidents make the fleet degraded: they matter, and nothing has helped so far."""
    return [
        f"{each.severity} incident {each.incident}: {each.title}"
        for each in states
        if each.severity.rank >= Severity.HIGH.rank and each.mitigated_at is None
    ]
