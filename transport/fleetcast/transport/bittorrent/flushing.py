"""Flushes: a finished piece is claimed only when a reader can see it. Standard library only: the child imports this."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from fleetcast.transport.bittorrent import wire
from fleetcast.transport.bittorrent.rhythm import FLUSH_SECONDS
from fleetcast.transport.bittorrent.torrent import Torrent


class Flushed(Protocol):
    """What is flushed (`session.Session`)."""

    def flush(self, key: str) -> None: ...


class Flushing:
    """Decides when torrents are flushed, and reports what a flush has made visible.

    Args:
        settled: told when a flush is done and no other one follows at once.
    """

    def __init__(
        self, session: Flushed, report: Callable[[wire.Report], None], settled: Callable[[Torrent], None]
    ) -> None:
        self._session, self._report, self._settled = session, report, settled

    def plan(self, torrent: Torrent) -> None:
        """See that what waits is flushed: at once when somebody waits for it."""
        if torrent.flush_pending:
            return
        urgent = torrent.finished or torrent.tokens_waiting
        if torrent.flush_timer is not None:
            if not urgent:
                return
            torrent.flush_timer.cancel()
        if urgent:
            self._flush(torrent)
        else:
            due = torrent.flushed_at + FLUSH_SECONDS
            torrent.flush_timer = asyncio.get_running_loop().call_at(due, self._flush, torrent)

    def again(self, torrent: Torrent) -> None:
        """The answer to a flush may be lost: whatever it was to answer for waits for another one."""
        if torrent.flush_pending:
            torrent.flush_pending = False
            torrent.waiting = torrent.flushing + torrent.waiting
            torrent.tokens_waiting = torrent.tokens_flushing + torrent.tokens_waiting
            torrent.flushing, torrent.tokens_flushing = [], []

    def done(self, torrent: Torrent) -> None:
        """libtorrent has flushed a torrent, asked for or not."""
        if not torrent.flush_pending:
            return
        torrent.flush_pending = False
        if torrent.flushing:
            self._report(wire.Pieces(torrent.key, tuple(torrent.flushing)))
            torrent.flushing = []
        for token in torrent.tokens_flushing:
            self._report(wire.Flushed(torrent.key, token))
        torrent.tokens_flushing = []
        if torrent.waiting or torrent.tokens_waiting:
            self.plan(torrent)
        self._settled(torrent)

    def _flush(self, torrent: Torrent) -> None:
        torrent.flush_timer = None
        torrent.flushed_at = asyncio.get_running_loop().time()
        torrent.flushing, torrent.waiting = torrent.waiting, []
        torrent.tokens_flushing, torrent.tokens_waiting = torrent.tokens_waiting, []
        torrent.flush_pending = True
        self._session.flush(torrent.key)
