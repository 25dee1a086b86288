"""How old the newest backup is, by what the event log says of it: no daemon looks at files."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fleetcast.bus import Bus, BusState
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.events.backups import BackupTaken
from fleetcast.events.errors import EventInvalid
from fleetcast.events.names import find

FRESH_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest backup: as of when it is, in seconds since 1970, and how large. Zeros: there is none."""

    taken_at: float = 0.0
    size: int = 0


async def newest_backup(bus: Bus) -> Newest:
    """Look in the event log, which goes back 90 days.

    Raises:
        BusError: the bus does not answer.
    """
    found = Newest()
    for entry in await bus.newest(EVENTS, (find("backup.taken").subject("*"),)):
        try:
            payload = entry.event().payload
        except EventInvalid:
            continue
        assert isinstance(payload, BackupTaken)
        taken_at = datetime.fromisoformat(payload.taken_at).timestamp()
        if taken_at > found.taken_at:
            found = Newest(taken_at, payload.size)
    return found


class BackupWatch:
    """Looks when somebody asks; while the bus is away nothing is known, and nothing shown."""

    def __init__(self, bus: Bus, recovery_point_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._recovery_point_seconds = recovery_point_seconds
        self._clock = clock
        self._newest: Newest | None = None
        self._looked_at = float("-inf")

    async def read(self, sheet: Sheet) -> None:
        """Show it."""
        if self._bus.state is not BusState.READY:
            return
        if self._clock() - self._looked_at > FRESH_SECONDS:
            try:
                self._newest = await newest_backup(self._bus)
            except BusError:
                return
            self._looked_at = self._clock()
        if self._newest is not None:
            sheet.put("fleetcast_backup_taken_timestamp_seconds", self._newest.taken_at)
            sheet.put("fleetcast_backup_bytes", self._newest.size)
            sheet.put("fleetcast_backup_recovery_point_seconds", self._recovery_point_seconds)
