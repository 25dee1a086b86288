"""The server's clock, from what it stored: everything that a monitor decides is decided by it, never by a node's."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class ServerClock:
    """Tells the time of the server between the messages that it stored.

    A message is seen a moment after it was stored, so that the newest that is known of the server's time is what the
    quickest of them said; our own monotonic clock carries it on.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead: float | None = None

    def seen(self, stored_at: datetime) -> None:
        """A message came that was stored at that time."""
        ahead = stored_at.timestamp() - self._monotonic()
        if self._ahead is None or ahead > self._ahead:
            self._ahead = ahead

    @property
    def known(self) -> bool:
        """Whether anything was seen yet."""
        return self._ahead is not None

    def now(self) -> datetime:
        """The server's time.

        Raises:
            RuntimeError: nothing was seen yet.
        """
        if self._ahead is None:
            raise RuntimeError("no message of the server was seen yet")
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=self._monotonic() + self._ahead)
