"""Proven progress, and the watchdog that is fed with nothing else.

A timer that feeds the watchdog proves only that a timer runs. Here the proofs are asked first: each says whether its
part of the daemon has made progress lately. That the question is asked at all proves the event loop.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from fleetcast.daemons.runtime.notify import Notifier

log = structlog.get_logger(__name__)

Proof = Callable[[], bool]
"""Answers whether a part of the daemon still makes progress. Cheap: asked several times a minute, on the loop."""

STARTING_INTERVAL_SECONDS = 10.0
"""Distance of the proofs while no watchdog is set: a third of the start time that is asked for."""


class Progress:
    """A proof that is renewed by calling `made()`: it holds for `within_seconds` after each call, and after its
    creation.

    What to renew it with: a round trip that came back, a batch that was handled; never the mere passing of time. A
    bus that is away is no lack of progress as long as its supervisor keeps trying: prove the supervisor, not the bus.
    """

    def __init__(self, within_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._within_seconds = within_seconds
        self._clock = clock
        self._last = clock()

    def made(self) -> None:
        """Record progress, now."""
        self._last = self._clock()

    def __call__(self) -> bool:
        """Whether progress was made recently enough."""
        return self._clock() - self._last <= self._within_seconds


def unproven(proofs: Mapping[str, Proof]) -> list[str]:
    """The names of those that make no progress; a proof that fails to answer proves nothing."""
    return sorted(name for name, proof in proofs.items() if not _holds(proof))


class Watchdog:
    """Tells the service manager that the daemon lives, as long as every proof holds."""

    def __init__(self, notifier: Notifier, proofs: Mapping[str, Proof]) -> None:
        self._notifier = notifier
        self._proofs = proofs
        self._withheld: list[str] = []
        self.ready = False

    @property
    def interval_seconds(self) -> float:
        """Distance of two feedings: a third of the watchdog's time, so that one late feeding is no death."""
        allowed = self._notifier.watchdog_seconds
        return allowed / 3 if allowed else STARTING_INTERVAL_SECONDS

    async def run(self) -> None:
        """Feed until cancelled."""
        while True:
            self.feed()
            await asyncio.sleep(self.interval_seconds)

    def feed(self) -> bool:
        """Ask the proofs, and pass life on if all of them hold; before the daemon is ready this prolongs its start
        time.
        """
        missing = unproven(self._proofs)
        self._tell(missing)
        if missing:
            return False
        if self.ready:
            return self._notifier.watchdog()
        return self._notifier.extend_timeout(3 * self.interval_seconds)

    def _tell(self, missing: list[str]) -> None:
        if missing != self._withheld:
            if missing:
                log.error("watchdog.withheld", no_progress=missing)
            else:
                log.info("watchdog.resumed")
        self._withheld = missing


def _holds(proof: Proof) -> bool:
    try:
        return proof()
    except Exception:
        log.exception("watchdog.proof_failed")
        return False
