"""The only module that touches libtorrent: one session, and `translate()`, which copies alerts into frozen values.

An alert dies with the next `pop_alerts()`, and touching it then ends the process with a segmentation fault; so nothing
outside `translate()` sees one. Only what says so waits for libtorrent's network thread, and no Python callback is
installed: both were seen to block or deadlock. Settings and their reasons: ADR 0009 and 0012.
"""

import contextlib
import errno
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import libtorrent as lt

from fleetcast.transport.bittorrent.notes import (
    AlertsDropped,
    CacheFlushed,
    ListenFailed,
    ListenSucceeded,
    Load,
    Note,
    PeerBanned,
    PeerTotals,
    PieceFailed,
    PieceFinished,
    Remainder,
    TorrentAdded,
    TorrentChecked,
    TorrentFaulted,
    TorrentFinished,
    TorrentRemoved,
    TorrentState,
    TorrentStates,
)
from fleetcast.transport.bittorrent.profile import (
    BLOCK,
    BUFFERS,
    NETWORK,
    SWARM,
    caps,
    listen_interfaces,
    outgoing_interfaces,
)
from fleetcast.transport.bittorrent.wire import Start, Status, peer_tag

ALERT_QUEUE = 10_000
"""Alerts kept for us; 4,096 pieces finish in one check, and a dropped alert costs a full comparison."""
_TO_THE_BLOCK = lt.status_flags_t.query_accurate_download_counters
"""What is here is counted with the blocks of pieces that are not whole."""

_BLOCKED = 1
"""What a rule of an `ip_filter` says of an address (`ip_filter::blocked`)."""
_HERE = {2, 3}
"""States of a block that has come: it is being written, or was (`block_info.state`)."""

Handle = lt.torrent_handle


def translate(alert: Any) -> Note | None:
    """Copy what matters of *alert*; None when nothing does."""
    make = _TRANSLATIONS.get(type(alert))
    return make(alert) if make is not None else None


def _key(alert: Any) -> str:
    return str(alert.handle.info_hashes().v2)


def _listen_failed(alert: Any) -> Note | None:
    if alert.socket_type != lt.socket_type_t.tcp:
        return None
    return ListenFailed(int(alert.port), str(alert.error.message()))


def _listen_succeeded(alert: Any) -> Note | None:
    return ListenSucceeded(int(alert.port)) if alert.socket_type == lt.socket_type_t.tcp else None


def _added(alert: Any) -> Note:
    error = alert.error.message() if alert.error.value() else ""
    return TorrentAdded(str(alert.params.info_hashes.v2), alert.handle, error)


def _state(status: Any) -> TorrentState:
    states = lt.torrent_status.states
    checking = status.state in {states.checking_files, states.checking_resume_data}
    key = str(status.info_hashes.v2)
    row = Status(
        key=key,
        state="faulted" if status.errc.value() else str(status.state),
        done=int(status.total_wanted_done),
        rate=int(status.download_payload_rate),
        peers=int(status.num_peers),
        payload=int(status.total_payload_download),
        uploaded=int(status.total_payload_upload),
        failed=int(status.total_failed_bytes),
    )
    have = tuple(i for i, there in enumerate(status.pieces) if there) if status.pieces else None
    return TorrentState(row, checking, bool(status.is_finished) and not checking, have)


def _address(endpoint: tuple[str, int]) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _peer_id(raw: bytes) -> str:
    return raw.decode("ascii", "replace") if raw.startswith(b"-FC") else ""


def _fault(alert: Any) -> Note:
    where = getattr(alert, "filename", "")
    path = where() if callable(where) else where
    full = alert.error.value() in {errno.ENOSPC, errno.EDQUOT} and alert.error.category() == lt.system_category()
    return TorrentFaulted(_key(alert), f"{alert.error.message()}{f' ({path})' if path else ''}", full)


def _load(alert: Any) -> Note:
    values = alert.values
    waiting = int(values["disk.disk_blocks_in_use"]) * BLOCK
    return Load(waiting, int(values["net.recv_bytes"]), int(values["net.sent_bytes"]))


_TRANSLATIONS: dict[type[Any], Callable[[Any], Note | None]] = {
    lt.listen_succeeded_alert: _listen_succeeded,
    lt.listen_failed_alert: _listen_failed,
    lt.add_torrent_alert: _added,
    lt.torrent_removed_alert: lambda a: TorrentRemoved(str(a.info_hashes.v2)),
    lt.piece_finished_alert: lambda a: PieceFinished(_key(a), int(a.piece_index)),
    lt.hash_failed_alert: lambda a: PieceFailed(_key(a), int(a.piece_index)),
    lt.torrent_checked_alert: lambda a: TorrentChecked(_key(a)),
    lt.torrent_finished_alert: lambda a: TorrentFinished(_key(a)),
    lt.cache_flushed_alert: lambda a: CacheFlushed(_key(a)),
    lt.state_update_alert: lambda a: TorrentStates(tuple(_state(s) for s in a.status)),
    lt.peer_ban_alert: lambda a: PeerBanned(_key(a), _address(a.endpoint), _peer_id(a.pid.to_bytes())),
    lt.file_error_alert: _fault,
    lt.torrent_error_alert: _fault,
    lt.session_stats_alert: _load,
    lt.alerts_dropped_alert: lambda _: AlertsDropped(),
}


class Session:
    """A libtorrent session for a private, friendly network: no discovery, no choking, no encryption, TCP only.

    `fileno()` becomes readable when `notes()` has something; every method returns at once.
    """

    def __init__(self, start: Start, port: int) -> None:
        self._port = port
        self.tag = peer_tag(f"{start.advertise}:{port}")
        params = lt.session_params()
        params.settings = cast("lt.settings_pack", _settings(start, port))
        params.disk_io_constructor = "pread_disk_io_constructor"
        self._session = lt.session(params)
        # Without this, addresses of LANs and loopback are in a class of their own that no cap holds for.
        self._session.set_peer_class_filter(_everybody_in(1 << lt.session.global_peer_class_id))
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._session.set_alert_fd(self._writable)
        self._handles: dict[str, Handle] = {}
        self._asked: set[str] = set()
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._untranslatable: set[type[Any]] = set()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._readable

    def heard(self) -> None:
        """Stop `fileno()` from being readable until `notes()` has been called and there is something new."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._readable, 4096)

    def notes(self) -> list[Note]:
        """Take every alert there is. libtorrent wakes us only when its queue stops being empty, so none may be left."""
        notes = (self._translated(alert) for alert in self._session.pop_alerts())
        found = [note for note in notes if note is not None and not self._is_aside(note)]
        for note in found:
            self._track(note)
        return found

    def _is_aside(self, note: Note) -> bool:
        """Whether it is about the socket on loopback, which only the tracker is asked through."""
        return isinstance(note, ListenSucceeded | ListenFailed) and note.port != self._port

    def add(
        self, metainfo: bytes, folder: str, tracker: str, *, verified: bool, remainder: Remainder | None = None
    ) -> None:
        """Take a torrent; `TorrentAdded` follows.

        Args:
            remainder: what is taken for there without a look; None: the folder is checked.

        Raises:
            RuntimeError: libtorrent does not take the metainfo.
        """
        params = lt.load_torrent_buffer(metainfo)
        params.save_path = folder
        params.trackers = [tracker]
        params.flags = lt.torrent_flags.update_subscribe
        if remainder is not None and params.ti is not None:
            params.flags |= lt.torrent_flags.apply_ip_filter
            params.have_pieces = [bool(remainder.have >> piece & 1) for piece in range(params.ti.num_pieces())]
            params.unfinished_pieces = {piece: list(blocks) for piece, blocks in remainder.blocks.items()}
        if verified and params.ti is not None:
            # Not seed_mode: it hashes every piece again before its first upload and looks through all waiting requests
            # for each new one: 15 CPU seconds per GiB against 1.8 (measured). Sizes are checked in either case.
            params.have_pieces = [True] * params.ti.num_pieces()
            params.flags |= lt.torrent_flags.upload_mode
        key = str(params.info_hashes.v2)
        if not verified and params.ti is not None:
            self._sizes[key] = tuple(_piece_sizes(params.ti))
        self._session.async_add_torrent(params)
        self._asked.add(key)

    def holds(self, key: str) -> bool:
        """Whether the torrent is in the session or on its way there."""
        return key in self._asked

    def remove(self, key: str) -> None:
        """Let go of a torrent; `TorrentRemoved` follows."""
        if handle := self._handles.pop(key, None):
            self._session.remove_torrent(handle)

    def announce(self, key: str) -> None:
        """Ask the tracker for peers now."""
        if handle := self._handles.get(key):
            handle.force_reannounce(0, -1, lt.reannounce_flags_t.ignore_min_interval)

    def flush(self, key: str) -> None:
        """Hand all blocks to the operating system; `CacheFlushed` follows."""
        if handle := self._handles.get(key):
            handle.flush_cache()

    def recheck(self, key: str) -> None:
        """Hash the folder again; `TorrentChecked` follows."""
        if handle := self._handles.get(key):
            handle.force_recheck()

    def writing(self, key: str, *, allowed: bool) -> None:
        """Allow or forbid that anything is fetched, hence written."""
        if handle := self._handles.get(key):
            change = handle.unset_flags if allowed else handle.set_flags
            change(lt.torrent_flags.upload_mode)

    def give(self, key: str, piece: int, data: bytes) -> bool:
        """Take a piece that came by another way; it is hashed, written and told to peers as if a peer had sent it.

        `PieceFinished` or `PieceFailed` follows. False: a peer has the piece, and it is left to peers. libtorrent 2.1.1
        would keep the request of a block that one peer is asked for, and crash on it once the torrent is complete
        (`piece_picker::abort_download` without a picker: seen). What no peer has, none can be asked for.

        Blocks for the network thread, as `peer_totals`: call it in a thread.

        Raises:
            ValueError: the torrent has no such piece of this size.
        """
        handle, sizes = self._handles.get(key), self._sizes.get(key)
        if handle is None or sizes is None:
            return False  # it is not in the session just now
        if not 0 <= piece < len(sizes) or len(data) != sizes[piece]:
            raise ValueError(f"no piece {piece} of {len(data)} bytes")
        try:
            if any(handle.piece_availability()[piece : piece + 1]):
                return False
            handle.add_piece(piece, data, 0)
        except RuntimeError:
            return False  # the torrent is gone meanwhile
        return True

    def is_alone(self, key: str, piece: int) -> bool:
        """Whether no peer has a piece, and no block of it is here. Blocks, as `peer_totals`: call it in a thread."""
        try:
            if any(self._handles[key].piece_availability()[piece : piece + 1]):
                return False
            begun = self._handles[key].get_download_queue()
        except (KeyError, RuntimeError):
            return False
        return all(part["piece_index"] != piece for part in begun)

    def ask_states(self) -> None:
        """Ask for the states that changed, without pieces; `TorrentStates` follows."""
        self._session.post_torrent_updates(_TO_THE_BLOCK)

    def ask_load(self) -> None:
        """Ask how much waits for the disk and how much has moved; `Load` follows."""
        self._session.post_session_stats()

    def limit(self, download: int, upload: int) -> None:
        """Let all torrents together receive and send so many bytes per second; 0: no cap."""
        self._session.apply_settings(cast("lt.settings_pack", caps(download, upload)))

    def brake(self, key: str, bytes_per_second: int) -> None:
        """Let one torrent receive so much at most; 0: as much as the session may."""
        if handle := self._handles.get(key):
            handle.set_download_limit(bytes_per_second)

    def ask_state(self, key: str) -> None:
        """Ask for the state of one torrent, changed or not; `TorrentStates` follows.

        libtorrent takes a torrent for changed when a piece is finished or a second is over, not when bytes arrive.
        """
        if handle := self._handles.get(key):
            handle.post_status(_TO_THE_BLOCK)

    def ask_pieces(self, key: str) -> None:
        """Ask for state and pieces of one torrent; `TorrentStates` follows."""
        if handle := self._handles.get(key):
            handle.post_status(_TO_THE_BLOCK | lt.status_flags_t.query_pieces)

    def peer_totals(self, key: str) -> PeerTotals:
        """Return who sent how much, and what is there. Blocks for the network thread, up to 35 ms: call it in a thread.

        The one method that waits: `post_peer_info()` would not, but the Python binding of libtorrent 2.1.1 cannot
        convert what its alert carries (`No to_python converter`, tried).
        """
        try:
            peers, near = self._handles[key].get_peer_info(), self._handles[key].piece_availability()
        except (KeyError, RuntimeError):
            return PeerTotals(key, ())
        return PeerTotals(key, self._totals(peers), sum(1 << piece for piece, count in enumerate(near) if count))

    def block(self, hosts: Iterable[str]) -> None:
        """Let nobody from *hosts* in or be dialled, in torrents that were added with a remainder."""
        rules = lt.ip_filter()
        for host in hosts:
            rules.add_rule(host, host, _BLOCKED)
        self._session.set_ip_filter(rules)

    def remainder(self, key: str, banned: str, hosts: frozenset[str]) -> Remainder | None:
        """What is left of a torrent without the blocks of a peer that is banned. Waits, as `peer_totals`.

        Args:
            banned: its address.
            hosts: what came from there is not left either.
        """
        try:
            handle = self._handles[key]
            peers = handle.get_peer_info()
            blocks, dropped = _sorted(handle.get_download_queue(), lambda p: _address(p) == banned or p[0] in hosts)
            row = _state(handle.status(_TO_THE_BLOCK)).status
        except (KeyError, RuntimeError):
            return None
        return Remainder(row, self._totals(peers), blocks, dropped)

    def is_asking(self, key: str) -> bool:
        """Whether any peer still owes a block of a torrent. Blocks, as `peer_totals`: call it in a thread."""
        try:
            return any(peer.download_queue_length for peer in self._handles[key].get_peer_info())
        except (KeyError, RuntimeError):
            return False

    def _totals(self, peers: Iterable[Any]) -> tuple[tuple[str, str, int], ...]:
        return tuple((_address(p.ip), _peer_id(p.pid.to_bytes()), int(p.total_download)) for p in peers)

    def _translated(self, alert: Any) -> Note | None:
        """One alert that cannot be read must not lose the others of its batch; each kind is reported once."""
        try:
            return translate(alert)
        except Exception:
            if type(alert) not in self._untranslatable:
                self._untranslatable.add(type(alert))
                traceback.print_exc()
            return None

    def _track(self, note: Note) -> None:
        if isinstance(note, TorrentAdded) and not note.error:
            self._handles[note.key] = note.handle
        elif isinstance(note, TorrentRemoved | TorrentAdded):
            self._handles.pop(note.key, None)
            self._sizes.pop(note.key, None)
            self._asked.discard(note.key)


def _piece_sizes(info: Any) -> Iterator[int]:
    """Sizes of all pieces. Those of `torrent_info.piece_size` include padding, and libtorrent then takes no piece."""
    files, length = info.files(), info.piece_length()
    for index in range(files.num_files()):
        if not files.file_flags(index) & lt.file_flags_t.flag_pad_file:
            whole, rest = divmod(files.file_size(index), length)
            yield from [length] * whole + [rest] * bool(rest)


def _sorted(
    queue: Iterable[Any], is_wrong: Callable[[tuple[str, int]], bool]
) -> tuple[dict[int, tuple[bool, ...]], int]:
    """Which blocks of unfinished pieces are here and not wrong, by piece, and the bytes of those that are wrong."""
    kept, dropped = {}, 0
    for part in queue:
        here = [block if block["state"] in _HERE else None for block in part["blocks"]]
        kept[part["piece_index"]] = tuple(b is not None and not is_wrong(b["peer"]) for b in here)
        dropped += sum(b["block_size"] for b in here if b is not None and is_wrong(b["peer"]))
    return {piece: blocks for piece, blocks in kept.items() if any(blocks)}, dropped


def _everybody_in(classes: int) -> lt.ip_filter:
    everybody = lt.ip_filter()
    everybody.add_rule("0.0.0.0", "255.255.255.255", classes)
    everybody.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", classes)
    return everybody


def _settings(start: Start, port: int) -> dict[str, Any]:
    return {
        **NETWORK,
        **SWARM,
        **BUFFERS,
        "mixed_mode_algorithm": lt.bandwidth_mixed_algo_t.prefer_tcp,
        # RC4 hides nothing and costs twice the CPU time.
        "in_enc_policy": lt.enc_policy.pe_disabled,
        "out_enc_policy": lt.enc_policy.pe_disabled,
        "listen_interfaces": listen_interfaces(start.bind, port),
        "outgoing_interfaces": outgoing_interfaces(start.bind),
        "peer_fingerprint": peer_tag(f"{start.advertise}:{port}"),
        **caps(*start.limits[:2]),
        "hashing_threads": max(1, min(4, (os.cpu_count() or 2) // 2)),
        "alert_queue_size": ALERT_QUEUE,
        # Not blocks and connections: they would cost the one network thread its time. `peer` brings bans.
        "alert_mask": (
            lt.alert_category.error
            | lt.alert_category.status
            | lt.alert_category.storage
            | lt.alert_category.piece_progress
            | lt.alert_category.peer
        ),
    }
