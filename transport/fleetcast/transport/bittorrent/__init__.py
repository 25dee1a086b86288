"""BitTorrent (ADR 0009): `transport.BittorrentTransport` in the daemon, libtorrent in a long-lived child process.

`child`, `session`, `tracker` and `wire` run in the child: standard library and libtorrent only, so that it stays small;
only `session` imports libtorrent. `transport`, `fetching` and `supervisor` run in the daemon. Keep this file empty:
whatever it imports, the child imports.
"""
