"""Which nodes are there, by their heartbeats, and which are lost. Pure: the clock is handed in."""

from dataclasses import dataclass
from datetime import datetime

from fleetcast.events.payloads import DaemonState


@dataclass(frozen=True, slots=True)
class Heard:
    """A heartbeat.

    Attributes:
        sequence: of the heartbeat in its bucket.
        stored_at: when the server took it.
        at: when it was heard, in seconds of the monotonic clock.
        stopped: the node said that it stops.
    """

    sequence: int
    stored_at: datetime
    at: float
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A node that is silent without having said that it stops.

    Attributes:
        sequence: of its last heartbeat: a node that comes back and is lost again is another loss.
    """

    node: str
    sequence: int
    since: datetime


class Attendance:
    """The newest heartbeat of every node."""

    def __init__(self, *, lost_after_seconds: float) -> None:
        self._lost_after_seconds = lost_after_seconds
        self._heard: dict[str, Heard] = {}
        self._listening_since: float | None = None

    def listens(self, connected: bool, now: float) -> None:
        """Whether we would hear a heartbeat: nodes that could not reach the server have its whole time once more."""
        if not connected:
            self._listening_since = None
        elif self._listening_since is None:
            self._listening_since = now

    def hear(self, node: str, state: DaemonState, sequence: int, stored_at: datetime, now: float) -> None:
        """Take note of a heartbeat; one that was known already says nothing new."""
        known = self._heard.get(node)
        if known is None or sequence > known.sequence:
            self._heard[node] = Heard(sequence, stored_at, now, stopped=state is DaemonState.STOPPED)

    def lost(self, now: float) -> list[Lost]:
        """The nodes that are lost; none while we could not hear them."""
        since = self._listening_since
        if since is None:
            return []
        return [
            Lost(node, heard.sequence, heard.stored_at)
            for node, heard in sorted(self._heard.items())
            if not heard.stopped and now - max(heard.at, since) > self._lost_after_seconds
        ]

    def present(self, node: str, now: float) -> Heard | None:
        """The last heartbeat of a node that is not lost: it is there, or has stopped in order; None: not known."""
        heard = self._heard.get(node)
        if heard is None or (not heard.stopped and now - heard.at > self._lost_after_seconds):
            return None
        return heard
