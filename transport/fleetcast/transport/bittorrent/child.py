"""The BitTorrent process: `python -m fleetcast.transport.bittorrent.child FD`, a child of the distributor (ADR 0009).

It takes orders and gives reports over the socket FD (`wire`), and ends when that closes or its parent dies. Standard
library and libtorrent only, so that it stays small. It decides little: when to flush, so that only bytes that a reader
can see are claimed, and when to ask libtorrent again. What is trusted and what is tried again, the daemon decides.
"""

import asyncio
import base64
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from fleetcast.transport.bittorrent import notes, purging, wire
from fleetcast.transport.bittorrent.borrowing import Borrowing, Ended
from fleetcast.transport.bittorrent.brake import Brake
from fleetcast.transport.bittorrent.flushing import Flushing
from fleetcast.transport.bittorrent.rhythm import (
    EAGER_FOR_SECONDS,
    EAGER_SECONDS,
    PEERS_SECONDS,
    STATUS_SECONDS,
    notes_pause,
)
from fleetcast.transport.bittorrent.session import Session
from fleetcast.transport.bittorrent.torrent import Torrent
from fleetcast.transport.bittorrent.tracker import LoopbackTracker
from fleetcast.transport.capped import Pacer
from fleetcast.transport.listening import free_port
from fleetcast.transport.niceness import lower

METER_SECONDS = 0.125
"""Distance of reports of what has moved, until METER_FOR_SECONDS after the last byte; then METER_STILL_SECONDS."""
METER_FOR_SECONDS = 2.0
METER_STILL_SECONDS = 0.25
SEAL_SECONDS = 0.1
"""Distance of looks whether a torrent that is complete may be closed to writing."""
_PR_SET_PDEATHSIG = 1
_CHUNK = 2**18


class Child:
    """Carries out orders on a session and reports what comes of them."""

    def __init__(
        self, session: Session, tracker: LoopbackTracker, report: Callable[[wire.Report], None], me: str
    ) -> None:
        self._me = me
        self._session = session
        self._tracker = tracker
        self._report = report
        self._torrents: dict[str, Torrent] = {}
        self._busy, self._added = asyncio.Event(), asyncio.Event()
        self._brake = Brake(session, lambda: self._torrents)
        self._flushing = Flushing(session, report, self._report_if_finished)
        self._capped = asyncio.Event()
        self._blocked: frozenset[str] = frozenset()
        self._moved, self._moved_at = wire.Moved(), 0.0
        self._listening: asyncio.TimerHandle | None = None
        self._pacer, self._borrowed = Pacer(), 0
        self._asking: set[asyncio.Task[None]] = set()
        self._orders: dict[type[wire.Message], Callable[..., None]] = {
            wire.Add: self._add,
            wire.Peers: self._peers,
            wire.Recheck: self._recheck,
            wire.Flush: self._flush_for,
            wire.Remove: self._remove,
            wire.Limits: self._limit,
        }
        self._notes: dict[type[notes.Note], Callable[..., None]] = {
            notes.ListenSucceeded: lambda n: self._report(wire.Listening(n.port)),
            notes.ListenFailed: lambda n: self._report(wire.NotListening(n.port, n.reason)),
            notes.TorrentAdded: self._on_added,
            notes.TorrentRemoved: self._on_removed,
            notes.PieceFinished: self._on_piece,
            notes.PieceFailed: self._on_wrong_piece,
            notes.TorrentChecked: self._on_checked,
            notes.TorrentFinished: self._on_finished,
            notes.CacheFlushed: self._on_flushed,
            notes.TorrentStates: self._on_states,
            notes.PeerBanned: self._on_banned,
            notes.TorrentFaulted: lambda n: self._report(wire.Faulted(n.key, n.reason, n.full)),
            notes.Load: self._on_load,
            notes.AlertsDropped: self._on_dropped,
        }

    def obey(self, order: wire.Order) -> None:
        """Carry out one order."""
        self._orders[type(order)](order)

    def hear(self) -> None:
        """libtorrent has something to say; called when the session's descriptor is readable.

        It is not heard out before a while while all there is to do is to fetch: it says something of every piece, and
        news cost less together (ADR 0019).
        """
        self._session.heard()
        if self._listening is None:
            now = asyncio.get_running_loop().time()
            waited_for = self._capped.is_set() or any(t.waited_for for t in self._torrents.values())
            pause = 0.0 if waited_for else min(notes_pause(self._age(now)), self._brake.pause / 2)
            self._listening = asyncio.get_running_loop().call_later(pause, self.take_notes)

    def take_notes(self) -> None:
        """Handle everything libtorrent has said."""
        self._listening = None
        for note in self._session.notes():
            self._notes[type(note)](note)

    def _age(self, now: float) -> float:
        """Seconds since the youngest torrent that is fetched was taken; 0: none is."""
        return min((now - t.born for t in self._torrents.values() if t.fetching), default=0.0)

    async def pulse(self) -> None:
        """Ask for progress while something is fetched; sleep without waking otherwise."""
        loop, peers_due = asyncio.get_running_loop(), 0.0
        while True:
            await self._busy.wait()
            await self._rest(EAGER_SECONDS if self._fresh(loop.time()) else STATUS_SECONDS)
            for torrent in self._fresh(loop.time()):
                self._session.ask_state(torrent.key)
            self._session.ask_states()
            for key in self._tracker.unasked:
                self._session.announce(key)
            if loop.time() >= peers_due:
                peers_due = loop.time() + PEERS_SECONDS
                self._ask_all_peers()
            if not self._tracker.unasked and not any(t.fetching for t in self._torrents.values()):
                self._busy.clear()

    async def _rest(self, seconds: float) -> None:
        """Sleep, but not longer than until the next torrent comes."""
        self._added.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._added.wait(), seconds)

    async def guard_memory(self) -> None:
        """Keep what waits for the disk within bounds while something is fetched."""
        await self._brake.watch(self._busy)

    async def meter(self) -> None:
        """Ask what has moved, often while something does, as long as there is a cap."""
        while True:
            await self._capped.wait()
            still = asyncio.get_running_loop().time() - self._moved_at > METER_FOR_SECONDS
            await asyncio.sleep(METER_STILL_SECONDS if still else METER_SECONDS)
            self._session.ask_load()

    def _on_load(self, note: notes.Load) -> None:
        moved = wire.Moved(note.received_bytes, note.sent_bytes, self._borrowed)
        if moved != self._moved and self._capped.is_set():
            self._moved, self._moved_at = moved, asyncio.get_running_loop().time()
            self._report(moved)
        self._brake.take(note)

    def _fresh(self, now: float) -> list[Torrent]:
        """Torrents whose first byte is waited for."""
        return [t for t in self._torrents.values() if t.fetching and not t.begun and now - t.born < EAGER_FOR_SECONDS]

    def _ask_all_peers(self) -> None:
        for torrent in self._torrents.values():
            if torrent.fetching and not torrent.checking:
                self._ask_peers(torrent)

    def _ask_peers(self, torrent: Torrent) -> None:
        torrent.peers_asked += 1
        self._begin(self._note_peers(torrent), "peer totals")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _note_peers(self, torrent: Torrent) -> None:
        totals = await asyncio.to_thread(self._session.peer_totals, torrent.key)
        torrent.peers_asked -= 1
        torrent.ledger.note(totals.peers)
        torrent.near = totals.near
        self._report(wire.Received(torrent.key, (*torrent.ledger.totals(), *torrent.lenders())))
        self._report_if_finished(torrent)

    # Orders

    def _limit(self, order: wire.Limits) -> None:
        self._session.limit(order.download, order.upload)
        self._pacer.limit(order.borrow or None)
        if order.download or order.upload or order.borrow:
            self._capped.set()
        else:
            self._capped.clear()

    def _add(self, order: wire.Add) -> None:
        torrent = Torrent(order.key, order.verified, asyncio.get_running_loop().time(), order)
        self._torrents[order.key] = torrent
        self._learn(torrent, order)
        try:
            self._session.add(
                base64.b64decode(order.metainfo_b64),
                order.folder,
                self._tracker.url(order.key),
                verified=order.verified,
            )
        except RuntimeError as e:
            self._report(wire.Faulted(order.key, f"libtorrent does not take the metainfo: {e}"))
        self._busy.set()
        self._added.set()

    def _peers(self, order: wire.Peers) -> None:
        if torrent := self._torrents.get(order.key):
            self._learn(torrent, order)
            self._borrow(torrent)

    def _learn(self, torrent: Torrent, order: wire.Add | wire.Peers) -> None:
        torrent.peers = order.peers
        if torrent.lend_url != order.lend_url:
            self._stop_borrowing(torrent)
            torrent.lend_url, torrent.lend_peer = order.lend_url, order.lend_peer
        self._block()
        self._dial(torrent)

    def _dial(self, torrent: Torrent) -> None:
        if self._tracker.set_peers(torrent.key, torrent.dialled) and torrent.added:
            self._session.announce(torrent.key)
            self._busy.set()

    # Borrowing (ADR 0012)

    def _borrow(self, torrent: Torrent) -> None:
        """Begin to borrow, when somebody lends and it is known what is here already."""
        if not torrent.lend_url or torrent.borrowing or torrent.checking or torrent.finished or torrent.removing:
            return
        torrent.borrowing = Borrowing(
            torrent.lend_url,
            self._me,
            have=lambda: torrent.have | torrent.near,
            take=lambda piece, data: self._give(torrent, piece, data),
            alone=lambda piece: asyncio.to_thread(self._session.is_alone, torrent.key, piece),
            pace=self._pace,
            ended=lambda why: self._on_not_lent(torrent, why),
        )
        torrent.borrowing.start()

    async def _give(self, torrent: Torrent, piece: int, data: bytes) -> bool:
        await torrent.steady.wait()
        taken = await asyncio.to_thread(self._session.give, torrent.key, piece, data)
        if not taken:
            # Whoever came back with everything is news: seconds of borrowing what it sends as well would be in vain.
            torrent.peers_asked += 1
            await self._note_peers(torrent)
        return taken

    async def _pace(self, count: int) -> None:
        self._borrowed += count
        await self._pacer.take(count)
        await self._brake.room.wait()

    def _stop_borrowing(self, torrent: Torrent) -> None:
        if torrent.borrowing is not None:
            torrent.borrowing.close()
            torrent.lent_before = {peer: count for peer, _, count in torrent.lenders()}
            torrent.wrong_before += torrent.borrowing.wrong_bytes
            torrent.borrowing = None

    def _on_not_lent(self, torrent: Torrent, why: Ended) -> None:
        if why is Ended.WRONG:
            self._report(wire.Banned(torrent.key, torrent.lend_peer))
        self._dial(torrent)

    def _on_wrong_piece(self, note: notes.PieceFailed) -> None:
        torrent = self._torrents.get(note.key)
        if torrent is not None and not torrent.steady.is_set():
            torrent.spoiled.add(note.piece)
        if torrent is not None and torrent.borrowing is not None:
            torrent.borrowing.failed(note.piece)

    def _recheck(self, order: wire.Recheck) -> None:
        if torrent := self._torrents.get(order.key):
            torrent.forget()
            self._stop_borrowing(torrent)
            if not torrent.verified:
                self._session.writing(order.key, allowed=True)
            torrent.recheck_due = not torrent.added
            self._session.recheck(order.key)
            self._busy.set()

    def _flush_for(self, order: wire.Flush) -> None:
        if torrent := self._torrents.get(order.key):
            torrent.tokens_waiting.append(order.token)
            self._flushing.plan(torrent)

    def _remove(self, order: wire.Remove) -> None:
        torrent = self._torrents.get(order.key)
        if torrent is None or not self._session.holds(order.key):
            self._torrents.pop(order.key, None)
            self._report(wire.Removed(order.key))
            return
        torrent.removing = True
        self._stop_borrowing(torrent)
        if torrent.added:
            self._session.remove(order.key)

    def _report_if_finished(self, torrent: Torrent) -> None:
        unsettled = torrent.flush_pending or torrent.waiting or torrent.peers_asked
        if torrent.reported or not torrent.finished or unsettled:
            return
        torrent.reported = True
        self._stop_borrowing(torrent)
        self._report(wire.Finished(torrent.key))
        self._begin(self._seal(torrent), "seal")

    async def _seal(self, torrent: Torrent) -> None:
        """From here on the files belong to the store: whatever happens, they are not written to.

        Not while a peer still owes a block that came by another way: libtorrent 2.1.1 has no piece picker any more when
        a torrent is complete, and crashes where it calls off requests (`peer_connection::cancel_all_requests`).
        """
        while torrent.reported and not torrent.removing:
            owed = await asyncio.to_thread(self._session.is_asking, torrent.key)
            if torrent.reported and not owed:
                self._session.writing(torrent.key, allowed=False)
                return
            await asyncio.sleep(SEAL_SECONDS)

    # Notes of libtorrent

    def _on_added(self, note: notes.TorrentAdded) -> None:
        torrent = self._torrents.get(note.key)
        if note.error or torrent is None:
            self._report(wire.Faulted(note.key, note.error or "not asked for"))
            return
        torrent.added = True
        self._report(wire.Added(note.key))
        if torrent.removing:
            self._session.remove(note.key)
        elif torrent.recheck_due:
            torrent.recheck_due = False
            self._session.recheck(note.key)

    def _on_banned(self, note: notes.PeerBanned) -> None:
        torrent = self._torrents.get(note.key)
        # Until the blocks of a liar are gone, whoever completes their pieces is banned too, and rightly for all that
        # libtorrent knows. Those are dialled again; a second liar among them shows itself again.
        if torrent is None or not torrent.steady.is_set():
            return
        worth_it = purging.worth_it(torrent)  # otherwise nobody is let in again
        pardoned = torrent.pardon(note.address, note.tag) if worth_it else ()
        self._report(wire.Banned(note.key, note.address, note.tag, pardoned))
        if worth_it:
            torrent.banned = torrent.banned.difference(pardoned) | {note.address}
            torrent.steady.clear()
            self._dial(torrent)
            self._begin(purging.take_out(self._session, torrent, note.address, self._block()), "purge")

    def _block(self) -> frozenset[str]:
        hosts = purging.blocked(self._torrents.values())
        if hosts != self._blocked:
            self._blocked = hosts
            self._session.block(hosts)
        return hosts

    def _on_removed(self, note: notes.TorrentRemoved) -> None:
        torrent = self._torrents.get(note.key)
        if torrent is not None and not torrent.steady.is_set() and not torrent.removing:
            purging.put_back(self._session, self._tracker, torrent)
            return
        self._torrents.pop(note.key, None)
        if torrent is not None and torrent.flush_timer is not None:
            torrent.flush_timer.cancel()
        self._tracker.forget(note.key)
        self._block()
        self._report(wire.Removed(note.key))

    def _on_piece(self, note: notes.PieceFinished) -> None:
        torrent = self._torrents.get(note.key)
        # During a check this may be news from before it; what is right then shows in the pieces asked for afterwards.
        if torrent is not None and not torrent.verified and not torrent.checking:
            torrent.claim((note.piece,))
            if torrent.borrowing is not None:
                torrent.borrowing.finished(note.piece)
            self._flushing.plan(torrent)

    def _on_checked(self, note: notes.TorrentChecked) -> None:
        self._session.ask_pieces(note.key)

    def _on_finished(self, note: notes.TorrentFinished) -> None:
        torrent = self._torrents.get(note.key)
        if torrent is not None and torrent.fetching:
            torrent.ending = True
            self._ask_peers(torrent)
            self._session.ask_pieces(note.key)

    def _on_flushed(self, note: notes.CacheFlushed) -> None:
        if torrent := self._torrents.get(note.key):
            self._flushing.done(torrent)

    def _on_states(self, note: notes.TorrentStates) -> None:
        if not note.states:
            self._report(wire.Alive())
        for state in note.states:
            torrent = self._torrents.get(state.status.key)
            if torrent is None:
                continue
            counted = torrent.counted(state.status, asyncio.get_running_loop().time())
            row = replace(counted, queued=self._brake.queued_bytes)
            torrent.begun = torrent.begun or row.payload > 0
            self._report(row)
            if state.pieces is not None and not state.checking:
                self._on_pieces(torrent, state)

    def _on_pieces(self, torrent: Torrent, state: notes.TorrentState) -> None:
        if torrent.checking:
            torrent.checking = False
            self._flushing.again(torrent)
            torrent.steady.set()
            self._report(wire.Checked(torrent.key, state.whole))
        if torrent.verified:
            return
        torrent.claim(state.pieces or ())
        self._borrow(torrent)
        torrent.finished = torrent.finished or state.whole
        if torrent.waiting or torrent.finished:
            self._flushing.plan(torrent)

    def _on_dropped(self, _note: notes.AlertsDropped) -> None:
        """Any alert may have been among them: ask everything again, and flush again what a flush was to answer for."""
        for torrent in self._torrents.values():
            self._flushing.again(torrent)
            self._session.ask_pieces(torrent.key)


async def _serve(channel: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=channel)
    decoder = wire.Decoder()
    start, early = await _first_order(reader, decoder)
    # Before libtorrent starts its threads, which inherit it.
    lower(start.nice)

    def report(message: wire.Report) -> None:
        writer.write(wire.encode(message))

    try:
        session = Session(start, free_port(start.bind, start.port))
    except OSError as e:
        report(wire.NotListening(start.port, e.strerror or str(e)))
        await writer.drain()
        return
    tracker = LoopbackTracker()
    await tracker.start()
    child = Child(session, tracker, report, session.tag)
    asyncio.get_running_loop().add_reader(session.fileno(), child.hear)
    child.take_notes()
    tasks = [
        asyncio.create_task(child.pulse(), name="pulse"),
        asyncio.create_task(child.guard_memory(), name="memory"),
        asyncio.create_task(child.meter(), name="meter"),
    ]
    child.obey(wire.Limits(*start.limits))
    for order in early:
        child.obey(order)
    # The daemon may be gone before it has read everything: an end like any other.
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            for order in decoder.feed(data):
                child.obey(order)
    for task in tasks:
        task.cancel()
    asyncio.get_running_loop().remove_reader(session.fileno())
    await tracker.stop()


async def _first_order(reader: asyncio.StreamReader, decoder: wire.Decoder) -> tuple[wire.Start, list[wire.Order]]:
    while data := await reader.read(_CHUNK):
        if orders := list(decoder.feed(data)):
            return orders[0], orders[1:]
    raise SystemExit(0)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def main(arguments: list[str]) -> None:
    """Serve the socket whose descriptor is the first argument; the second is the process id of the daemon."""
    _die_with(int(arguments[1]))
    # Ctrl-C goes to the whole process group; the daemon ends us in its own time, by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(socket.socket(fileno=int(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
