"""What a banned peer sent is thrown away, and nobody else pays for it (ADR 0032). Standard library only: the child
imports this.

libtorrent bans a peer at its first wrong piece, but keeps the blocks that it sent of other pieces: each of those fails
too, whoever brings the rest, who is then banned as well. So the torrent is taken out of the session and put back with
everything else that was here, which takes milliseconds: nothing is read, and only connections are made anew.
"""

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from fleetcast.transport.bittorrent.notes import Remainder
from fleetcast.transport.bittorrent.torrent import Torrent
from fleetcast.transport.bittorrent.tracker import LoopbackTracker
from fleetcast.transport.bittorrent.wire import host_of


class Purged(Protocol):
    """What torrents are taken out of and put back into (`session.Session`)."""

    def remainder(self, key: str, banned: str, hosts: frozenset[str]) -> Remainder | None: ...

    def remove(self, key: str) -> None: ...

    def add(
        self, metainfo: bytes, folder: str, tracker: str, *, verified: bool, remainder: Remainder | None = None
    ) -> None: ...


def blocked(torrents: Iterable[Torrent]) -> frozenset[str]:
    """Hosts from which no connection is taken: those of banned peers, unless somebody else is known to be there too.

    A banned peer that connects by itself comes from a port of its own, and libtorrent takes it for a new one; each
    visit would cost pieces again. Hosts are literal addresses.
    """
    known = list(torrents)
    banned = {host_of(address) for t in known for address in t.banned}
    return frozenset(banned - {host_of(peer) for t in known for peer in t.known if peer not in t.banned})


def worth_it(torrent: Torrent) -> bool:
    """Whether anything is still to come."""
    return not (torrent.verified or torrent.checking or torrent.ending or torrent.finished or torrent.removing)


async def take_out(session: Purged, torrent: Torrent, address: str, hosts: frozenset[str]) -> None:
    """Remove a torrent that is not steady any more, and note in it what it is put back with: nothing from *address* or
    any of the *hosts*."""
    left = await asyncio.to_thread(session.remainder, torrent.key, address, hosts)
    if left is None or not worth_it(torrent):
        torrent.steady.set()
        return
    torrent.ledger.note(left.peers)
    torrent.ledger.close()
    torrent.leave(left)
    session.remove(torrent.key)


def put_back(session: Purged, tracker: LoopbackTracker, torrent: Torrent) -> None:
    """Add a torrent that was taken out, after libtorrent has let go of it.

    Without the blocks of a piece that hashed wrong since they were counted: libtorrent may have dropped them before it
    wrote them, and whoever brought the rest would be banned for what lies there instead.
    """
    assert torrent.order is not None
    left, torrent.remainder = torrent.remainder, None
    blocks = {piece: there for piece, there in left.blocks.items() if piece not in torrent.spoiled} if left else {}
    torrent.spoiled.clear()
    session.add(
        base64.b64decode(torrent.order.metainfo_b64),
        torrent.order.folder,
        tracker.url(torrent.key),
        verified=False,
        remainder=left and replace(left, have=torrent.have, blocks=blocks),
    )
