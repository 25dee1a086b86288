"""What libtorrent says, as values: the results of `session.translate()`. Standard library only."""

from dataclasses import dataclass
from typing import Any

from fleetcast.transport.bittorrent.wire import Status


@dataclass(frozen=True, slots=True)
class ListenSucceeded:
    """A TCP socket listens."""

    port: int


@dataclass(frozen=True, slots=True)
class ListenFailed:
    """A TCP socket could not listen."""

    port: int
    reason: str


@dataclass(frozen=True, slots=True)
class TorrentAdded:
    """A torrent is in the session, or was refused with *error*. The handle outlives the alert."""

    key: str
    handle: Any
    error: str


@dataclass(frozen=True, slots=True)
class TorrentRemoved:
    """A torrent left the session."""

    key: str


@dataclass(frozen=True, slots=True)
class PieceFinished:
    """A piece hashed right. Its blocks may still wait to be written: 3 of 4 did when measured."""

    key: str
    piece: int


@dataclass(frozen=True, slots=True)
class PieceFailed:
    """A piece hashed wrong and was thrown away."""

    key: str
    piece: int


@dataclass(frozen=True, slots=True)
class TorrentChecked:
    """The check of the folder is over."""

    key: str


@dataclass(frozen=True, slots=True)
class TorrentFinished:
    """Every piece hashed right."""

    key: str


@dataclass(frozen=True, slots=True)
class CacheFlushed:
    """A flush is done. libtorrent also flushes by itself, when a torrent finishes."""

    key: str


@dataclass(frozen=True, slots=True)
class TorrentStates:
    """States of torrents that changed; `pieces` only where they were asked for."""

    states: tuple["TorrentState", ...]


@dataclass(frozen=True, slots=True)
class TorrentState:
    """State of one torrent."""

    status: Status
    checking: bool
    whole: bool
    pieces: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class PeerTotals:
    """Payload bytes received over each open connection: address, peer id, bytes.

    Attributes:
        near: the pieces that those peers have; bit *i* is piece *i*.
    """

    key: str
    peers: tuple[tuple[str, str, int], ...]
    near: int = 0


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of a torrent when what some peers sent is taken away: the answer of `Session.remainder`.

    Attributes:
        status: how it stood.
        peers: as in `PeerTotals`.
        blocks: of pieces that are not whole, by piece: which blocks are here.
        dropped_bytes: what is taken away.
        have: the pieces that are here; bit *i* is piece *i*.
    """

    status: Status
    peers: tuple[tuple[str, str, int], ...]
    blocks: dict[int, tuple[bool, ...]]
    dropped_bytes: int
    have: int = 0


@dataclass(frozen=True, slots=True)
class PeerBanned:
    """A peer sent wrong bytes and is disconnected for good."""

    key: str
    address: str
    tag: str = ""


@dataclass(frozen=True, slots=True)
class TorrentFaulted:
    """A file could not be read or written, for want of space when `full`, or the torrent is in an error state."""

    key: str
    reason: str
    full: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes that were received and are not written yet; bytes in the streams of all peers since the session began."""

    waiting_bytes: int
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class AlertsDropped:
    """The queue ran over; what is known about every torrent must be asked again."""


Note = (
    ListenSucceeded
    | ListenFailed
    | TorrentAdded
    | TorrentRemoved
    | PieceFinished
    | PieceFailed
    | TorrentChecked
    | TorrentFinished
    | CacheFlushed
    | TorrentStates
    | PeerBanned
    | TorrentFaulted
    | Load
    | AlertsDropped
)
