"""What the steps of the demo work with, and what they leave to each other."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleetcast.bus import Bus
from fleetcast.cli.demo.material import Material
from fleetcast.cli.live import Fleet
from fleetcast.cli.local.fleet import LocalFleet
from fleetcast.cli.output import Output
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.payloads import Payload

if TYPE_CHECKING:
    from fleetcast.cli.demo.circle import Circle

SOURCE = "/fleet/node-1/demo"
ORIGIN, HEALTHY, SLOW = "node-1", "node-2", "node-3"
"""Node 1 holds what is published; node 3 sits behind a thin line, so that there is a middle to be killed in."""
SLOW_BYTES_PER_SECOND = 25_000_000
STEP_SECONDS = 60.0
MIDDLE = range(1, 96)
"""Percent of a transfer that count as its middle."""


@dataclass
class Stage:
    """What the steps work with, and what they leave to each other."""

    out: Output
    local: LocalFleet
    bus: Bus
    fleet: Fleet
    models: dict[str, Material] = field(default_factory=dict)
    judged: dict[str, Material] = field(default_factory=dict)
    data_set: Material | None = None
    interrupted: "Interruption | None" = None
    canary_at: str | None = None
    """When the canary was ordered, by the registry."""
    circle: "Circle | None" = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the nodes."""
        return tuple(self.local.nodes)

    @property
    def gpu_nodes(self) -> tuple[str, ...]:
        """Names of the nodes that train."""
        return tuple(self.local.trainers)


@dataclass(frozen=True)
class Interruption:
    """A promotion that has not reached a killed node yet."""

    event: Event
    sequence: int
    at_percent: int


async def publish(stage: Stage, payload: Payload) -> tuple[Event, int]:
    """Publish *payload*; the event, and its sequence in the log."""
    event = new_event(payload, source=SOURCE)
    receipt = await stage.bus.publish(event)
    return event, receipt.sequence
