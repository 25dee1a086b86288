"""Whose ban is taken back: bans of one torrent that may be due to somebody else (ADR 0032). Pure.

libtorrent bans whoever brought all of a wrong piece, and what makes a piece wrong may have come from another. Who is
banned last is banned rightly: all that came from those before it was thrown away. So when somebody is banned soon after
somebody else, the one before gets another chance, once: a liar shows itself again.

Standard library only: the child imports this.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from fleetcast.transport.bittorrent.wire import host_of, peer_tag

DOUBT_SECONDS = 10.0
"""Who is banned this long before the next one may have had a part in the same pieces: a liar that is let go on shows
itself within a second or two."""


def named(address: str, tag: str, known: Collection[str]) -> str:
    """By what name a peer at *address* is kept in mind: its host, or its endpoint where several nodes are on that host.

    Args:
        tag: what it calls itself, which it chooses: so it tells apart only those who are known to be on its host.
        known: addresses of all nodes that were told of.
    """
    host = host_of(address)
    here = sorted(peer for peer in known if host_of(peer) == host)
    if len(here) < 2:
        return host
    return next((peer for peer in here if peer == address or peer_tag(peer) == tag), host)


@dataclass(slots=True)
class Pardons:
    """Owned by the child's loop; times are of its clock, in seconds."""

    _doubtful: dict[str, tuple[float, set[str]]] = field(default_factory=dict)
    _used_up: set[str] = field(default_factory=set)

    def banned(self, who: str, address: str, now: float) -> tuple[str, ...]:
        """Take that *who*, by whatever name it keeps, was banned at *address*; returns addresses to be let in again."""
        others = [other for other in self._doubtful if other != who]
        free: set[str] = set()
        for other in others:
            at, addresses = self._doubtful.pop(other)
            if now - at <= DOUBT_SECONDS:
                self._used_up.add(other)
                free |= addresses
        if who not in self._used_up:
            self._doubtful[who] = now, self._doubtful.get(who, (now, set[str]()))[1] | {address}
        return tuple(sorted(free - {address}))
