"""What the child knows about one torrent; owned by the child's loop. Standard library only."""

import asyncio
from dataclasses import dataclass, field, replace

from fleetcast.transport.bittorrent import wire
from fleetcast.transport.bittorrent.borrowing import Borrowing, Ended
from fleetcast.transport.bittorrent.ledger import Ledger
from fleetcast.transport.bittorrent.notes import Remainder
from fleetcast.transport.bittorrent.pardons import Pardons, named

RATE_OVER_SECONDS = 1.0
"""What the rate of borrowed bytes is an average over."""


@dataclass(slots=True)
class Meter:
    """A rate from a count that grows."""

    count: int = 0
    at: float = 0.0
    last: int = 0

    def rate(self, count: int, now: float) -> int:
        """Take the count at *now* and return how many a second came lately."""
        if now - self.at >= RATE_OVER_SECONDS:
            self.last = int((count - self.count) / (now - self.at)) if self.at else 0
            self.count, self.at = count, now
        return self.last


@dataclass(slots=True)
class Before:
    """Payload received and sent, and what of it was wrong, by bytes."""

    payload: int = 0
    uploaded: int = 0
    failed: int = 0


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class Torrent:
    """What the child knows about one torrent.

    `steady` is set unless it is taken out of the session and put back (`purging`): with `remainder` when something is
    there that need not be checked, and without those `banned`; pieces that hash wrong meanwhile are `spoiled`. `order`
    is what it was added by, `before` how it stood in its earlier lives, in bytes.

    `have` are the pieces that are here, `near` those that connected peers had lately, as bits.

    `waiting` are finished pieces that no flush covers yet, `flushing` those that the one under way covers; the same for
    the tokens of flushes that the daemon asked for.
    """

    key: str
    verified: bool
    born: float
    order: wire.Add | None = None
    steady: asyncio.Event = field(default_factory=_set)
    remainder: Remainder | None = None
    banned: set[str] = field(default_factory=set)
    pardons: Pardons = field(default_factory=Pardons)
    spoiled: set[int] = field(default_factory=set)
    before: Before = field(default_factory=Before)
    added: bool = False
    recheck_due: bool = False
    begun: bool = False
    removing: bool = False
    checking: bool = True
    ending: bool = False
    finished: bool = False
    reported: bool = False
    peers_asked: int = 0
    flush_pending: bool = False
    flush_timer: asyncio.TimerHandle | None = None
    flushed_at: float = 0.0
    claimed: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    flushing: list[int] = field(default_factory=list)
    tokens_waiting: list[int] = field(default_factory=list)
    tokens_flushing: list[int] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    have: int = 0
    near: int = 0
    peers: tuple[str, ...] = ()
    lend_url: str = ""
    lend_peer: str = ""
    borrowing: Borrowing | None = None
    lent_before: dict[str, int] = field(default_factory=dict)
    wrong_before: int = 0
    meter: Meter = field(default_factory=Meter)

    @property
    def lent(self) -> int:
        """Bytes that were borrowed so far."""
        return sum(count for _, _, count in self.lenders())

    def lenders(self) -> tuple[tuple[str, str, int], ...]:
        """Who lent how much, as `wire.Received` has it."""
        counts = dict(self.lent_before)
        if self.borrowing:
            counts[self.lend_peer] = counts.get(self.lend_peer, 0) + self.borrowing.received_bytes
        return tuple((peer, "", count) for peer, count in counts.items() if count)

    @property
    def known(self) -> tuple[str, ...]:
        """Everybody that the daemon has told of."""
        return (*self.peers, self.lend_peer) if self.lend_peer else self.peers

    @property
    def dialled(self) -> tuple[str, ...]:
        """Whom libtorrent is told of: the lender only when it does not lend."""
        alone = self.borrowing is None or self.borrowing.why_ended in {None, Ended.WRONG}
        all_of_them = self.peers if alone or not self.lend_peer else (*self.peers, self.lend_peer)
        return tuple(peer for peer in all_of_them if peer not in self.banned)

    @property
    def waited_for(self) -> bool:
        """Whether the next thing that libtorrent says of it holds something up."""
        unsettled = (self.ending or self.finished) and not self.reported
        beginning = self.checking or not (self.verified or self.begun)
        return beginning or unsettled or self.removing or bool(self.tokens_waiting or self.tokens_flushing)

    @property
    def fetching(self) -> bool:
        """Whether its progress is worth asking for."""
        return not self.verified and not self.reported

    def counted(self, status: wire.Status, now: float) -> wire.Status:
        """*status* with what was borrowed, which libtorrent does not count."""
        rate = self.meter.rate(self.lent, now)
        connected = self.borrowing is not None and self.borrowing.connected
        wrong = self.wrong_before + (self.borrowing.wrong_bytes if self.borrowing else 0)
        return replace(
            status,
            payload=status.payload + self.lent + self.before.payload,
            uploaded=status.uploaded + self.before.uploaded,
            rate=status.rate + rate,
            peers=status.peers + connected,
            failed=status.failed + wrong + self.before.failed,
            lending=self.borrowing.unfinished_bytes if self.borrowing else 0,
        )

    def claim(self, pieces: tuple[int, ...]) -> None:
        """Note finished pieces that wait for a flush."""
        new = [piece for piece in pieces if piece not in self.claimed]
        self.claimed.update(new)
        self.waiting += new
        for piece in new:
            self.have |= 1 << piece

    def pardon(self, address: str, tag: str) -> tuple[str, ...]:
        """Take that a peer was banned; returns addresses whose bans are taken back (`pardons`)."""
        who, now = named(address, tag, self.known), asyncio.get_running_loop().time()
        return self.pardons.banned(who, address, now)

    def leave(self, left: Remainder) -> None:
        """Note what it is put back with, and how it stood: it is taken out of the session."""
        self.remainder, self.added, self.checking = left, False, True
        self.near = 0
        self.before.payload += left.status.payload
        self.before.uploaded += left.status.uploaded
        self.before.failed += left.status.failed + left.dropped_bytes

    def forget(self) -> None:
        """Believe nothing any more: a check begins."""
        self.checking, self.ending, self.finished, self.reported = True, False, False, False
        self.claimed.clear()
        self.remainder = None
        self.have = 0
        self.waiting.clear()
        self.flushing.clear()
