"""A tracker on loopback that only knows what the daemon was told by the bus.

libtorrent acts on `connect_peer` at its one-second tick only (5 to 805 ms, by its age), but on a tracker's answer at
once; so peers are handed over as such answers (BEP 3, compact as in BEP 23 and BEP 7). Standard library only.
"""

import asyncio
import contextlib
import ipaddress

INTERVAL_SECONDS = 60
"""When libtorrent asks again by itself. New peers do not wait for it: the daemon's news forces an announce."""
_REQUEST_SECONDS = 5.0
_PREFIX = "/announce/"
"""libtorrent's guard against forged requests takes loopback trackers only below /announce."""


class LoopbackTracker:
    """Answers announces at `http://127.0.0.1:<port>/announce/<key>`; use as an async context manager."""

    def __init__(self) -> None:
        self._peers: dict[str, tuple[str, ...]] = {}
        self._stale: set[str] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    def url(self, key: str) -> str:
        """Return the announce URL of torrent *key*."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{_PREFIX}{key}"

    def set_peers(self, key: str, peers: tuple[str, ...]) -> bool:
        """Answer with *peers* from now on; return whether that is news that needs an announce."""
        if peers == self._peers.get(key):
            return False
        self._peers[key] = peers
        self._stale.add(key)
        return True

    def forget(self, key: str) -> None:
        """Drop a torrent."""
        self._peers.pop(key, None)
        self._stale.discard(key)

    @property
    def unasked(self) -> frozenset[str]:
        """Torrents whose newest peers nobody has asked for yet.

        libtorrent drops a forced announce while another one is under way, so whoever forced it must look here.
        """
        return frozenset(self._stale)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(request))
                await writer.drain()
        writer.close()

    def _answer(self, request: bytes) -> bytes:
        target = request.split(b" ", 2)[1].decode("ascii", "replace")
        key = target.partition("?")[0].removeprefix(_PREFIX)
        if key not in self._peers:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self._stale.discard(key)
        body = announce_body(self._peers[key])
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


def announce_body(peers: tuple[str, ...]) -> bytes:
    """Return the bencoded answer to an announce: IPv4 peers in `peers`, IPv6 peers in `peers6`."""
    packed = [_packed(peer) for peer in peers]
    four = b"".join(p for p in packed if len(p) == 6)
    six = b"".join(p for p in packed if len(p) == 18)
    return b"d8:intervali%de5:peers%d:%b6:peers6%d:%be" % (INTERVAL_SECONDS, len(four), four, len(six), six)


def _packed(peer: str) -> bytes:
    host, _, port = peer.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")).packed + int(port).to_bytes(2, "big")
