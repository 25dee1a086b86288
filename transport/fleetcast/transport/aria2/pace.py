"""What aria2c is told so that it holds a cap: pure.

Its own limiter is right on average over ten seconds only. It compares the bytes of at most ten seconds with their age,
once a second, and stands still for a second when a slow first one leaves its window (seen with 1.36: 0.9 of the cap,
with seconds at 0). So it is told again and again what lets pass just what may pass by now.
"""

from dataclasses import dataclass

WINDOW_SECONDS = 10.0
"""What aria2's `downloadSpeed` is an average over at most (its `SpeedCalc`)."""
LEAST_WINDOW_SECONDS = 1.0
AHEAD_SECONDS = 1.25
"""What was not used may be made good for: aria2 looks once a second, and what it may not take then it takes later."""
BEHIND_SECONDS = 2.0


@dataclass(slots=True)
class Pace:
    """Counts what may pass and what has passed.

    Attributes:
        head_start_seconds: what may pass at once when it begins.
    """

    head_start_seconds: float = 0.0
    _at: float | None = None
    _received: int = 0
    _credit_bytes: float = 0.0
    _since: float | None = None

    def told(self, limit: int, received: int, speed: int, now: float) -> int:
        """Return what to tell aria2c.

        Args:
            limit: bytes per second that may be received.
            received: bytes that were; only grows.
            speed: bytes per second as aria2c sees it, which is what it compares with what it is told; 0: its window is
                empty.
            now: of one clock, in seconds.
        """
        if self._at is not None:
            credit = self._credit_bytes + limit * (now - self._at) - (received - self._received)
            self._credit_bytes = max(-BEHIND_SECONDS * limit, min(AHEAD_SECONDS * limit, credit))
        else:
            self._credit_bytes = self.head_start_seconds * limit
        self._at, self._received = now, received
        if not speed:
            self._since = None
            return limit
        if self._since is None:
            self._since = now
        window = max(LEAST_WINDOW_SECONDS, min(WINDOW_SECONDS, now - self._since))
        return max(1, int(speed + self._credit_bytes / window))

    def backstop(self, limit: int, received: int, speed: int, now: float) -> int:
        """Return what to tell aria2c while its mirrors keep to a rate: what they must not go beyond.

        0, no limit, while its first bytes come and no more has passed than may: with any limit it takes them for far
        too many, and rests for a second.
        """
        told = self.told(limit, received, speed, now)
        begins = self._since is None or now - self._since < LEAST_WINDOW_SECONDS
        return 0 if begins and self._credit_bytes > 0 else told
