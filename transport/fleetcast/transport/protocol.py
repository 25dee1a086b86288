"""What a transport is: one way of bringing the bytes of an artifact into a folder (ADR 0009).

A rung of the ladder (`bittorrent`, `aria2`, `rsync`) implements `Transport`; whoever waits for the bytes implements
`Observer`. The layout is the same for all of them: the files of content lie at `<folder>/<artifact16>/<path>`, where
`folder` is the save path of the artifact and `artifact16` the first 16 digits of its name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from fleetcast.events.content import Content


@dataclass(frozen=True, slots=True)
class Source:
    """A node that has the artifact, or some of it.

    Attributes:
        node: id of the node.
        bt: `host:port` of its BitTorrent endpoint; an IPv6 host is written in brackets.
        http: base URL of its file server, `http://host:port/<capability>`.
        rsync: where rsync reads its store: `rsync://host:port/module`, or `ssh://user@host:port` (forced command).
        complete: it holds all of the artifact, verified.
    """

    node: str
    bt: str | None = None
    http: str | None = None
    rsync: str | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One transfer.

    Attributes:
        transfer: id of the transfer, for logs and events.
        artifact: the artifact's name, 64 hexadecimal digits.
        content: what is to be fetched.
        metainfo: the torrent file, which must match `content` (`metainfo.read`).
        folder: save path; created when missing. Bytes that lie there already are checked and used, never trusted.
        sources: where the bytes may come from; more can follow while the transfer runs.
        have: by position of the file, positions of the pieces that the last rung left proven in the folder. A transport
            that checks the folder itself need not look at it.
    """

    transfer: str
    artifact: str
    content: Content
    metainfo: bytes
    folder: Path
    sources: tuple[Source, ...] = ()
    have: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is; sent with the first byte, then twice a second at most, and once at its end.

    Attributes:
        bytes_done: bytes of finished pieces and blocks, checked ones included.
        bytes_total: bytes of the content.
        rate: payload bytes per second received now.
        received: payload bytes received; more than 0 as soon as the first one is here, long before a piece is whole,
            hashed and written.
        peers: sources connected now; 0 means that nobody who has the artifact can be reached.
        bytes_by_source: payload bytes received, by node; an unknown peer is named by its address.
        uploaded: payload bytes sent to others meanwhile.
        restarts: times that the process that carries the transfer ended and was started again.
        disk_queue_bytes: received bytes that wait to be written; None: not measured.
        kept: bytes of the content that are here, to the block: what hashed wrong or came twice is not among them. None:
            not known now, and what is received counts.
    """

    bytes_done: int
    bytes_total: int
    rate: int
    peers: int
    bytes_by_source: Mapping[str, int] = field(default_factory=dict)
    uploaded: int = 0
    received: int = 0
    restarts: int = 0
    disk_queue_bytes: int | None = None
    kept: int | None = None


@dataclass(frozen=True, slots=True)
class Ban:
    """A source that sent wrong bytes and is asked for nothing more of the artifact.

    Attributes:
        transport: what noticed.
        peer: the node, or its address when that belongs to none.
        wasted_bytes: received from it in vain, as far as that can be told apart.
        reason: what was wrong, for people.
    """

    transport: str
    peer: str
    wasted_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a transport can be used on this node, and if not, why, in one line for people."""

    ok: bool
    reason: str = ""


class Observer(Protocol):
    """Who waits for the bytes."""

    def progress(self, progress: Progress) -> None:
        """Take note of the progress. Must return at once."""

    async def pieces(self, claimed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Prove pieces that the transport claims to have finished, by reading them back from the folder.

        Calls of one transfer follow each other; the download goes on meanwhile, and `fetch` returns after the last one.
        The same piece may be claimed again, after a check of the folder. Many at once cost less than one by one.

        Args:
            claimed: positions of the file in `content.files` and of the piece in that file.

        Returns:
            Those whose bytes on the disk are not the piece's. The transport flushes, asks once more, and then fetches
            them again.
        """


@runtime_checkable
class Transport(Protocol):
    """One way of bringing bytes here."""

    @property
    def name(self) -> str:
        """`bittorrent`, `aria2` or `rsync`."""

    def available(self) -> Availability:
        """Return whether this transport works on this node."""

    async def fetch(self, request: FetchRequest, observer: Observer) -> None:
        """Bring all bytes of `request.content` into `request.folder`.

        Returns when every piece was claimed to the observer, accepted by it, and handed to the operating system.
        Cancelling stops the transfer and keeps the bytes for the next one.

        Raises:
            MetainfoRefused: the metainfo does not describe the content.
            TransferStalled: a source is connected, and no byte came for the time in the settings.
            TransferFailed: it cannot go on (no such folder, bytes that stay wrong).
            StoreFull: there is no space on this node; another transport would fail in the same way.
        """

    async def add_sources(self, artifact: str, sources: Iterable[Source]) -> None:
        """Tell a running transfer of more sources, or of known ones that are complete now; nothing when none runs."""
