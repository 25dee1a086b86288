"""What every daemon shows: what it is, how its bus is, and what its handlers do."""

import platform
from collections.abc import Awaitable, Callable

from fleetcast.bus import Bus, BusState
from fleetcast.bus.handled import Handled
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.metrics.tally import QUICK_SECONDS, Distribution, Tally
from fleetcast.daemons.runtime.beat import VERSION
from fleetcast.events import names

Read = Callable[[Sheet], Awaitable[None]]
"""Fills in what one kind of daemon shows. Runs on the daemon's loop: gives way where it has much to look at."""


async def nothing(_sheet: Sheet) -> None:
    """A daemon that shows what every daemon shows."""


class Vitals:
    """Counts what the bus of one daemon goes through."""

    def __init__(self, bus: Bus, ready: Callable[[], bool]) -> None:
        self._bus = bus
        self._ready = ready
        self._was = bus.state
        self._interruptions = 0
        self._events: Tally[tuple[str, str]] = Tally()
        self._duration = Distribution(QUICK_SECONDS)
        self._lag = Distribution(QUICK_SECONDS)
        bus.on_state(self._changed)
        bus.on_handled = self._handled

    def read(self, sheet: Sheet) -> None:
        """Fill in all of it."""
        sheet.put("fleetcast_build_info", 1, version=VERSION, python=platform.python_version())
        sheet.put("fleetcast_daemon_ready", self._ready())
        sheet.put("fleetcast_bus_ready", self._bus.state is BusState.READY)
        sheet.put("fleetcast_bus_interruptions_total", self._interruptions)
        for (kind, outcome), count in self._events.counts.items():
            sheet.put("fleetcast_events_total", count, type=kind, outcome=outcome)
        sheet.spread("fleetcast_handler_duration_seconds", self._duration)
        sheet.spread("fleetcast_event_lag_seconds", self._lag)

    def _changed(self, state: BusState) -> None:
        self._interruptions += self._was is BusState.READY
        self._was = state

    def _handled(self, handled: Handled) -> None:
        self._events.note((kind_of(handled.subject), handled.outcome))
        self._duration.observe(handled.seconds)
        self._lag.observe(handled.age_seconds)


def kind_of(subject: str) -> str:
    """The event's name in the catalogue, `job`, or `other`: never a word that a sender chose."""
    if subject.startswith("fc.work."):
        return "job"
    try:
        return names.from_subject(subject)[0].name
    except names.UnknownEventType:
        return "other"
