"""Who is served by the file server: room for connections and requests, shared among clients. Pure but for `drop`.

A client is an address. No client takes more than its share of connections; when there is no room at all, whoever has
waited longest without a whole request goes, which is where idle connections and dripped requests (slowloris) end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

BURST_SECONDS = 1.0
"""Requests that may come at once, as seconds of the rate: who fetches many small gaps asks for them at its start."""


@dataclass(slots=True)
class _Client:
    connections: int = 0
    owes_until: float = 0.0


@dataclass(slots=True, eq=False)
class Guest:
    """A connection that was let in; `drop` ends it, once it has begun."""

    address: str
    _guests: "Guests"
    drop: Callable[[], object] = lambda: None

    def rest(self) -> None:
        """It waits for a whole request."""
        self._guests.note_resting(self)

    def work(self, now: float) -> float:
        """A whole request is here: return the seconds to wait before it is answered."""
        return self._guests.note_working(self, now)

    def leave(self, now: float) -> None:
        """It has ended."""
        self._guests.note_gone(self, now)


@dataclass(slots=True)
class Guests:
    """All connections of a server.

    Args:
        most_per_client: connections of one address.
        requests_per_second: of one address; more of them wait.
    """

    most_per_client: int
    requests_per_second: float
    _clients: dict[str, _Client] = field(default_factory=dict)
    _resting: dict[Guest, None] = field(default_factory=dict)
    _crowded: bool = False

    def come(self, address: str) -> Guest | None:
        """Let a connection in; None: its client has enough of them."""
        client = self._clients.setdefault(address, _Client())
        if client.connections >= self.most_per_client:
            return None
        client.connections += 1
        return Guest(address, self)

    def crowded(self, *, now_full: bool) -> None:
        """Somebody waits for room, or nobody any more; while somebody does, whoever only rests must go."""
        self._crowded = now_full
        self._make_room()

    def note_resting(self, guest: Guest) -> None:
        """See `Guest.rest`."""
        self._resting[guest] = None
        self._make_room()

    def note_working(self, guest: Guest, now: float) -> float:
        """See `Guest.work`."""
        self._resting.pop(guest, None)
        client = self._clients[guest.address]
        client.owes_until = max(client.owes_until, now - BURST_SECONDS) + 1 / self.requests_per_second
        return max(0.0, client.owes_until - now)

    def note_gone(self, guest: Guest, now: float) -> None:
        """See `Guest.leave`."""
        self._resting.pop(guest, None)
        client = self._clients[guest.address]
        client.connections -= 1
        # Whoever asked too often is remembered until it would be served at once again.
        for address, known in list(self._clients.items()):
            if not known.connections and known.owes_until <= now:
                del self._clients[address]

    def _make_room(self) -> None:
        if self._crowded and self._resting:
            guest = next(iter(self._resting))
            del self._resting[guest]
            self._crowded = False
            guest.drop()
