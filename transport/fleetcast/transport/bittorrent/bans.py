"""Who was banned from a torrent, and what it cost. Pure; owned by the daemon's loop.

libtorrent says whom it banned and, in another message that comes a little later, how many bytes hashed wrong; a ban is
told when both are known, and when it will not be taken back any more (`pardons`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleetcast.transport.bittorrent.pardons import DOUBT_SECONDS
from fleetcast.transport.protocol import Ban

REASON = "pieces that it sent, or had a part in, do not hash to what the metainfo says"


@dataclass(slots=True)
class BanBook:
    """The bans of one torrent. Those banned between two counts share what was lost."""

    addresses: set[str] = field(default_factory=set)
    _waiting: dict[str, str] = field(default_factory=dict)
    _noted: float = 0.0
    _told_bytes: int = 0

    def note(self, address: str, peer: str, now: float) -> bool:
        """Take that *peer* was banned; a later count tells what it cost. False: that is known already."""
        if address in self.addresses:
            return False
        self.addresses.add(address)
        self._waiting[address] = peer
        self._noted = now
        return True

    def pardon(self, addresses: Iterable[str]) -> None:
        """Take back that those were banned, and tell nobody, unless it was told already."""
        for address in addresses:
            self.addresses.discard(address)
            self._waiting.pop(address, None)

    def settle(self, failed_bytes: int, now: float, *, is_over: bool = False) -> list[Ban]:
        """Take how many bytes of the torrent hashed wrong so far, and return the bans that can be told now.

        Args:
            is_over: nothing of it will be banned any more.
        """
        if not self._waiting or (not is_over and now - self._noted < DOUBT_SECONDS):
            return []
        share = max(0, failed_bytes - self._told_bytes) // len(self._waiting)
        bans = [Ban("bittorrent", peer, share, REASON) for peer in self._waiting.values()]
        self._told_bytes = failed_bytes
        self._waiting.clear()
        return bans

    def child_died(self) -> None:
        """The next child counts from 0."""
        self._told_bytes = 0
