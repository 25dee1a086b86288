"""What the daemon and its BitTorrent child say to each other: JSON documents behind a length, over a socket pair.

Orders go to the child, reports come from it. `key` is the info-hash of a torrent everywhere, 64 hexadecimal digits.
Standard library only: the child imports this.
"""

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_LENGTH = struct.Struct(">I")
MAX_DOCUMENT_BYTES = 64 * 2**20
"""More than any torrent file (16 MiB, in base64): a larger length means that the stream is broken."""


@dataclass(frozen=True, slots=True)
class Start:
    """First order: listen, and obey the caps, which are those of `Limits`. Port 0 takes a free one."""

    bind: str
    port: int
    advertise: str
    limits: tuple[int, int, int] = (0, 0, 0)
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What may move from now on, in bytes per second; 0: no cap. While there is one, `Moved` is reported.

    `borrow` is what may be borrowed (ADR 0012), beside what peers send.
    """

    download: int = 0
    upload: int = 0
    borrow: int = 0


@dataclass(frozen=True, slots=True)
class Add:
    """Take a torrent. `verified`: its files are proven, so it is seeded unread and never written to.

    Otherwise the folder is checked, and what is missing is fetched.

    `lend_url`: where the one node that has everything lends pieces; `lend_peer`: its address as a peer, for when it
    does not lend. Both empty: nobody is borrowed from.
    """

    key: str
    metainfo_b64: str
    folder: str
    verified: bool
    peers: tuple[str, ...]
    lend_url: str = ""
    lend_peer: str = ""


@dataclass(frozen=True, slots=True)
class Peers:
    """All peers known for a torrent now, as `host:port` with literal addresses, and the lender as in `Add`."""

    key: str
    peers: tuple[str, ...]
    lend_url: str = ""
    lend_peer: str = ""


@dataclass(frozen=True, slots=True)
class Recheck:
    """Hash everything that lies in the folder again, and forget what was believed."""

    key: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Hand every block to the operating system, then report `Flushed` with the same token."""

    key: str
    token: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Let go of a torrent; its files stay."""

    key: str


@dataclass(frozen=True, slots=True)
class Listening:
    """The child is ready; others reach it at this port."""

    port: int


@dataclass(frozen=True, slots=True)
class NotListening:
    """The port could not be had."""

    port: int
    reason: str


@dataclass(frozen=True, slots=True)
class Alive:
    """The session answers, and no torrent has changed; asked every `STATUS_SECONDS` while something is fetched."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes in the streams to and from all peers since the child was started, and bytes borrowed beside them."""

    received: int = 0
    sent: int = 0
    borrowed: int = 0


@dataclass(frozen=True, slots=True)
class Added:
    """A torrent is in the session."""

    key: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces that are finished and were handed to the operating system, numbered as in the torrent."""

    key: str
    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A check of the folder is over; `whole`: nothing is missing."""

    key: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """Every piece is there, claimed and flushed."""

    key: str


@dataclass(frozen=True, slots=True)
class Status:
    """How a torrent stands. `payload` and `uploaded` are bytes since it was added, `failed` those that hashed wrong;
    `queued` are the bytes of all torrents that wait to be written, `lending` those that came of borrowed pieces which
    are not whole yet."""

    key: str
    state: str
    done: int
    rate: int
    peers: int
    payload: int
    uploaded: int
    failed: int
    queued: int = 0
    lending: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """Payload bytes since the torrent was added, by sender: its address, its peer tag ("" if it has none), bytes."""

    key: str
    by_sender: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Flushed:
    """Answer to `Flush`."""

    key: str
    token: int


@dataclass(frozen=True, slots=True)
class Removed:
    """Answer to `Remove`: no file of the torrent is open any more."""

    key: str


@dataclass(frozen=True, slots=True)
class Faulted:
    """A torrent cannot go on: a folder that is gone, a read error; `full`: there is no space to write to."""

    key: str
    reason: str
    full: bool = False


@dataclass(frozen=True, slots=True)
class Banned:
    """A sender of wrong bytes, by its address and its peer tag, is not asked any more.

    `pardoned` are addresses whose bans are taken back for it.
    """

    key: str
    address: str
    tag: str = ""
    pardoned: tuple[str, ...] = ()


Order = Start | Limits | Add | Peers | Recheck | Flush | Remove
Report = (
    Listening
    | NotListening
    | Alive
    | Moved
    | Added
    | Pieces
    | Checked
    | Finished
    | Status
    | Received
    | Flushed
    | Removed
    | Faulted
    | Banned
)
Message = Order | Report

_TYPES: dict[str, type[Any]] = {t.__name__: t for t in (*Order.__args__, *Report.__args__)}


def encode(message: Message) -> bytes:
    """Return the bytes of one message on the stream."""
    fields = {name: getattr(message, name) for name in type(message).__slots__}
    document = json.dumps({"is": type(message).__name__, **fields}, separators=(",", ":")).encode()
    return _LENGTH.pack(len(document)) + document


class Decoder:
    """Cuts a stream into messages, however its bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Take *data* and yield every message that is complete.

        Raises:
            ValueError: the stream is broken; nothing after it can be read.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_DOCUMENT_BYTES:
                raise ValueError(f"a message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            document = json.loads(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield _TYPES[document.pop("is")](**{name: _frozen(value) for name, value in document.items()})


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def peer_tag(endpoint: str) -> str:
    """Return the peer id, 20 characters, that the node listening at *endpoint* uses in every swarm.

    An incoming connection has a port of its own, so that its address does not tell who it is; the peer id does. It says
    nothing that could be relied on for trust.
    """
    return "-FC0100-" + hashlib.sha256(endpoint.encode()).hexdigest()[:12]


def host_of(address: str) -> str:
    """The host of `host:port`, without brackets."""
    return address.rpartition(":")[0].strip("[]")
