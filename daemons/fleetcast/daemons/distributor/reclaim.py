"""Whether this node's machine is about to be taken away: every notice about it that still counts, as the fleet was
told."""

import asyncio
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

    def __init__(self, parts: Parts, *, on_near: Callable[[], None] = lambda: None) -> None:
        self._parts = parts
        self._notices = Notices(on_near)

    def is_leaving(self) -> bool:
        """Whether a notice stands that is certain, and its time is near."""
        return self._notices.is_near(datetime.now(UTC))

    async def watch(self) -> None:
        """Follow notices until cancelled."""
        subject = names.find("node.reclaim.notice").subject(self._parts.node)
        try:
            async for entry in self._parts.bus.watch(EVENTS, (subject,)):
                if isinstance(entry, InSync):
                    continue
                try:
                    payload = entry.event().payload
                except EventInvalid:
                    continue  # the intake refuses it, and says so
                if isinstance(payload, ReclaimNotice) and payload.certain:
                    self._notices.add(datetime.fromisoformat(payload.deadline), payload.source, datetime.now(UTC))
        finally:
            self._notices.close()


class Notices:
    """The deadlines that were announced: maintenance of next week takes nothing from a notice of two minutes.

    Args:
        on_near: called once for each, as soon as its time is near.
    """

    def __init__(self, on_near: Callable[[], None]) -> None:
        self._on_near = on_near
        self._waiting: dict[datetime, asyncio.TimerHandle | None] = {}

    def is_near(self, now: datetime) -> bool:
        """Whether one of them is."""
        return any(_is_near(deadline, now) for deadline in self._waiting)

    def add(self, deadline: datetime, source: str, now: datetime) -> None:
        """Wait for a deadline; on the loop."""
        for past in [each for each in self._waiting if each - now <= -STILL_HERE]:
            del self._waiting[past]
        if deadline in self._waiting or deadline - now <= -STILL_HERE:
            return
        wait = (deadline - NEAR - now).total_seconds()
        if wait > 0:
            timer = asyncio.get_running_loop().call_later(wait, self._came, deadline, source)
            self._waiting[deadline] = timer
        else:
            self._waiting[deadline] = None
            self._came(deadline, source)

    def close(self) -> None:
        """Call nobody any more."""
        for timer in self._waiting.values():
            if timer is not None:
                timer.cancel()

    def _came(self, deadline: datetime, source: str) -> None:
        log.warning("node.leaving", source=source, deadline=deadline.isoformat())
        self._on_near()


def _is_near(deadline: datetime, now: datetime) -> bool:
    return -STILL_HERE < deadline - now <= NEAR
