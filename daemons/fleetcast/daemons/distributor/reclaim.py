"""Whether this node's machine is about to be taken away: the newest notice about it, as the fleet was told."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from fleetcast.bus import InSync
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.events import names
from fleetcast.events.envelope import EventInvalid
from fleetcast.events.training import ReclaimNotice

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.distributor")

NEAR = timedelta(minutes=15)
"""Maintenance may be announced for next week."""
STILL_HERE = timedelta(seconds=60)
"""A machine that is here so long after its deadline was not taken away."""


class Reclaim:
    """Owner of what this node knows of its own end."""

    def __init__(self, parts: Parts, *, on_notice: Callable[[], None] = lambda: None) -> None:
        self._parts = parts
        self._on_notice = on_notice
        self._deadline = datetime.min.replace(tzinfo=UTC)

    def is_leaving(self) -> bool:
        """Whether a notice stands that is certain, and its time is near."""
        left = self._deadline - datetime.now(UTC)
        return -STILL_HERE < left <= NEAR

    async def watch(self) -> None:
        """Follow notices until cancelled."""
        subject = names.find("node.reclaim.notice").subject(self._parts.node)
        async for entry in self._parts.bus.watch(EVENTS, (subject,)):
            if isinstance(entry, InSync):
                continue
            try:
                payload = entry.event().payload
            except EventInvalid:
                continue  # the intake refuses it, and says so
            if isinstance(payload, ReclaimNotice) and payload.certain:
                self._deadline = datetime.fromisoformat(payload.deadline)
                if self.is_leaving():
                    log.warning("node.leaving", source=payload.source, deadline=payload.deadline)
                    self._on_notice()
