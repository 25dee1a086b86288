"""Whether the record of decisions is whole: every record of FC_AUDIT follows from the one before it, by its digest.

A registry daemon reads all of it once, quietly, and then what is new. `fleetcast audit verify` says more, and compares
with FC_REGISTRY.
"""

import asyncio
import time
from typing import Final

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import AUDIT
from fleetcast.events.state import ChainState
from fleetcast.registry.rules import NO_CHAIN, checked_link, link_of

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.metrics")

LOG: Final = "fc.reg.log."
LOOK_SECONDS: Final = 60.0
AT_ONCE: Final = 100
"""Records that are checked before everybody else has a turn."""


class Chains:
    """The newest record of every model, and how many records do not follow from the one before."""

    def __init__(self) -> None:
        self.records = 0
        self.broken = 0
        self._ends: dict[str, ChainState] = {}

    def take(self, model: str, data: bytes) -> str:
        """Check the next record of a model; what is wrong with it, empty: nothing."""
        problems, self._ends[model] = checked_link(self._ends.get(model, NO_CHAIN), link_of(data))
        self.records += 1
        self.broken += bool(problems)
        return "; ".join(problems)


class AuditWatch:
    """Reads FC_AUDIT to its end, again and again.

    Attributes:
        checked_at: when that was done last, in seconds since 1970; None: not yet.
    """

    def __init__(self, bus: Bus, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._bus = bus
        self._look_seconds = look_seconds
        self._chains = Chains()
        self._next = 1
        self.checked_at: float | None = None

    @property
    def records(self) -> int:
        """Records that were checked."""
        return self._chains.records

    @property
    def broken(self) -> int:
        """Records that do not follow from the one before."""
        return self._chains.broken

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look()
            except BusError as away:
                log.debug("audit.not_checked", reason=str(away))
            await asyncio.sleep(self._look_seconds)

    async def _look(self) -> None:
        async for entry in self._bus.tail(AUDIT, [f"{LOG}>"], start_sequence=self._next):
            self._next = entry.sequence + 1
            model = entry.subject.removeprefix(LOG).rpartition(".")[0]
            if problem := self._chains.take(model, entry.data):
                log.error("audit.broken", model=model, sequence=entry.sequence, reason=problem)
            if self._chains.records % AT_ONCE == 0:
                await asyncio.sleep(0)
        self.checked_at = time.time()
