"""One decision of a trainer, one atomic batch: states by compare-and-swap, and the facts that tell the fleet.

Any number of trainers may decide at once; the expected sequences let one of them win.
"""

from collections.abc import Callable
from datetime import datetime

from fleetcast.bus import Bus
from fleetcast.bus.streams import TRAINING
from fleetcast.events.names import TRAINING_PREFIX
from fleetcast.registry.book import Antecedent, Book, Found, now, read, stored

__all__ = ["Antecedent", "Found", "TrainingLedger", "now", "read", "stored"]


class TrainingLedger(Book):
    """FC_TRAINING: lanes, the runs that they start, and quarantined nodes."""

    def __init__(self, bus: Bus, *, clock: Callable[[], datetime] = now) -> None:
        super().__init__(bus, TRAINING, TRAINING_PREFIX, clock=clock)
