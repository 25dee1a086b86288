"""How a BitTorrent transport stands, as it is told to others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TorrentStats:
    """One torrent: `state` is `fetching` or `seeding`; bytes since it was added or the child was started.

    `failed_bytes` hashed wrong and were thrown away; `banned` are the addresses of those who sent them.
    """

    artifact: str
    state: str
    peers: int
    uploaded_bytes: int
    failed_bytes: int
    banned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BittorrentStats:
    """The transport: process id of the child (None while it restarts), how often it was restarted, its torrents."""

    child_pid: int | None
    restarts: int
    torrents: tuple[TorrentStats, ...]
