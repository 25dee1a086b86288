"""One decision of a remedy daemon, one atomic batch: states by compare-and-swap, and the facts that tell the fleet. Any
number of remedy daemons may work at once; the expected sequences let one of them win."""

from collections.abc import Callable
from datetime import datetime

from fleetcast.bus import Bus
from fleetcast.bus.streams import REMEDY
from fleetcast.events.names import REMEDY_PREFIX
from fleetcast.registry.book import Antecedent, Book, Found, now, read, stored

__all__ = ["Antecedent", "Found", "RemedyLedger", "now", "read", "stored"]


class RemedyLedger(Book):
    """FC_REMEDY: incidents, silences and playbook runs."""

    def __init__(self, bus: Bus, *, clock: Callable[[], datetime] = now) -> None:
        super().__init__(bus, REMEDY, REMEDY_PREFIX, clock=clock)
