"""Watches of one transfer: is it stalled, is it too slow? Pure; times are those of the loop, in seconds."""

from dataclasses import dataclass
from enum import StrEnum

MAX_CURES = 2
"""Restarts of the downloads against a rate below the floor; then the transfer has stalled."""


class Verdict(StrEnum):
    """What is to be done."""

    GO_ON = "go on"
    RESTART = "restart"
    STALLED = "stalled"


@dataclass(slots=True)
class StallWatch:
    """No byte for half of *limit*: the downloads are started anew; for all of it: stalled."""

    limit: float
    since: float
    received: int = 0
    cured: bool = False

    def verdict(self, received: int, now: float) -> Verdict:
        """Take how many bytes have come."""
        if received != self.received:
            self.received = received
            self.touch(now)
        silence = now - self.since
        if silence > self.limit:
            return Verdict.STALLED
        if silence > self.limit / 2 and not self.cured:
            self.cured = True
            return Verdict.RESTART
        return Verdict.GO_ON

    def touch(self, now: float) -> None:
        """Something else went on, e.g. pieces were proven."""
        self.since, self.cured = now, False


@dataclass(slots=True)
class FloorWatch:
    """The rate over windows of *seconds* must not be below *floor* bytes per second."""

    floor: int
    seconds: float
    since: float
    received: int = 0
    cures: int = 0

    def verdict(self, received: int, now: float, *, limit: int = 0) -> Verdict:
        """Take how many bytes have come; *limit*: the cap on the rate, of which half is floor enough, 0 for none."""
        elapsed = now - self.since
        if elapsed < self.seconds:
            return Verdict.GO_ON
        rate = (received - self.received) / elapsed
        self.since, self.received = now, received
        if rate >= (min(self.floor, limit / 2) if limit else self.floor):
            self.cures = 0
            return Verdict.GO_ON
        self.cures += 1
        return Verdict.RESTART if self.cures <= MAX_CURES else Verdict.STALLED

    def touch(self, received: int, now: float) -> None:
        """Something else took the time; the window begins anew."""
        self.received, self.since = received, now
