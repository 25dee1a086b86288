"""Who was banned from a torrent, and what it cost. Pure; owned by the daemon's loop.

libtorrent says whom it banned and, in another message that comes a little later, how many bytes hashed wrong; a ban is
told when both are known.
"""

from dataclasses import dataclass, field

from fleetcast.transport.protocol import Ban

REASON = "pieces that it sent, or had a part in, do not hash to what the metainfo says"


@dataclass(slots=True)
class BanBook:
    """The bans of one torrent. Those banned between two counts share what was lost."""

    addresses: set[str] = field(default_factory=set)
    _waiting: list[str] = field(default_factory=list)
    _told_bytes: int = 0

    def note(self, address: str, peer: str) -> bool:
        """Take that *peer* was banned; the next count tells what it cost. False: that is known already."""
        if address in self.addresses:
            return False
        self.addresses.add(address)
        self._waiting.append(peer)
        return True

    def settle(self, failed_bytes: int) -> list[Ban]:
        """Take how many bytes of the torrent hashed wrong so far, and return the bans that can be told now."""
        if not self._waiting:
            return []
        share = max(0, failed_bytes - self._told_bytes) // len(self._waiting)
        bans = [Ban("bittorrent", peer, share, REASON) for peer in self._waiting]
        self._told_bytes = failed_bytes
        self._waiting.clear()
        return bans

    def child_died(self) -> None:
        """The next child counts from 0."""
        self._told_bytes = 0
