"""Tells a transfer that gets on from one that only receives. Pure."""

from fleetcast.transport.protocol import Progress


class Motion:
    """Watches one rung.

    Where the transport says what it keeps, bytes count once: pieces that hash wrong again and again, or come a second
    time, are no progress, however fast they come. Until they are hashed they look like any others; so what counts is a
    new most.
    """

    def __init__(self) -> None:
        self._seen = (0, 0)
        self._most_kept = 0
        self._restarts = 0

    def moved(self, progress: Progress) -> bool:
        """Take how far the rung is and return whether it got on since the last call."""
        before, self._seen = self._seen, (progress.received, progress.bytes_done)
        if progress.kept is None or progress.restarts != self._restarts:
            # The folder is checked, after a start or a restart: what is kept is counted anew.
            self._most_kept, self._restarts = 0, progress.restarts
            return before != self._seen
        before_kept, self._most_kept = self._most_kept, max(self._most_kept, progress.kept)
        return self._most_kept > before_kept
