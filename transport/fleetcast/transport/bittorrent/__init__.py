"""BitTorrent (ADR 0009): `BittorrentTransport` in the daemon, libtorrent in a long-lived child process.

`child` and what it imports run in the child: standard library and libtorrent only, so that it stays small; only
`session` imports libtorrent. `transport`, `fetching` and `supervisor` run in the daemon. What is imported here, the
child imports: so the transport is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetcast.transport.bittorrent.stats import BittorrentStats, TorrentStats
    from fleetcast.transport.bittorrent.transport import BittorrentTransport

__all__ = ["BittorrentStats", "BittorrentTransport", "TorrentStats"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fleetcast.transport.bittorrent import transport

    return getattr(transport, name)
