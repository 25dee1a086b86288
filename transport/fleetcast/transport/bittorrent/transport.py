"""The BitTorrent transport as the distributor sees it. libtorrent runs in a child process (ADR 0009)."""

import asyncio
import base64
import importlib.util
import itertools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from fleetcast.config.settings import BittorrentSettings
from fleetcast.events.content import Content
from fleetcast.transport import metainfo
from fleetcast.transport.bittorrent import wire
from fleetcast.transport.bittorrent.addresses import host_of, literal
from fleetcast.transport.bittorrent.bans import BanBook
from fleetcast.transport.bittorrent.dialling import Dialling, dialling
from fleetcast.transport.bittorrent.fetching import Fetch
from fleetcast.transport.bittorrent.stats import BittorrentStats, TorrentStats
from fleetcast.transport.bittorrent.supervisor import Supervisor
from fleetcast.transport.capped import Capped, Moved, Receiving
from fleetcast.transport.errors import TransferFailed
from fleetcast.transport.lending.desk import Lendable
from fleetcast.transport.protocol import Availability, Ban, FetchRequest, Observer, Source

REMOVE_SECONDS = 5.0
"""Time for the child to let go of a torrent; it waits for writes under way."""
SILENT_SECONDS = 3.0
"""A child that fetches and says nothing for so long, 6 of its intervals, is not asked to let go but ended."""
READY_SECONDS = 5.0
"""Time for the child to take a seed; it takes milliseconds unless files are missing and the rest is checked."""
DAMAGED = "its files are missing or damaged"

log = structlog.get_logger()


@dataclass(slots=True)
class _Torrent:
    """What the daemon knows about one torrent; `fetch` while it is fetched, `verified` when its files are proven."""

    artifact: str
    content: Content
    info: metainfo.Metainfo
    files: Path
    folder: Path
    verified: bool
    sources: dict[str, Source] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    lender: Source | None = None
    lend_peer: str = ""
    fetch: Fetch | None = None
    status: wire.Status | None = None
    bans: BanBook = field(default_factory=BanBook)

    def order(self) -> wire.Add:
        """The order that puts it into the child."""
        return wire.Add(
            key=self.info.info_hash,
            metainfo_b64=base64.b64encode(self.info.data).decode(),
            folder=str(self.folder),
            verified=self.verified,
            # A new child knows nothing of the bans of the last one.
            peers=tuple(peer for peer in self.peers if peer not in self.bans.addresses),
            lend_url=self.lend_url,
            lend_peer=self.lend_peer,
        )

    @property
    def lend_url(self) -> str:
        """Where pieces are borrowed; empty: nowhere."""
        return f"{self.lender.http}/l/{self.artifact}" if self.lender else ""


class BittorrentTransport:
    """Fetches artifacts from a swarm and seeds them (BEP 3, BEP 52); implements `protocol.Transport`.

    One child process runs libtorrent for all artifacts. When it dies it is started again: what was being fetched is
    checked in full and goes on, what is proven is seeded on. No method but `fetch` waits for the network.

    Args:
        bind: address to listen on; `0.0.0.0` for all.
        advertise: address by which others reach this node; part of `endpoint`.
        nice: niceness of the child; 0: that of this process.
        on_seed_lost: told (artifact, reason) when a seeded artifact could not be read and is not seeded any more.
        on_banned: told (artifact, ban) when a peer sent wrong bytes and is not asked any more.
    """

    name = "bittorrent"

    def __init__(
        self,
        settings: BittorrentSettings,
        bind: str,
        advertise: str,
        *,
        nice: int = 0,
        on_seed_lost: Callable[[str, str], None] | None = None,
        on_banned: Callable[[str, Ban], None] | None = None,
    ) -> None:
        self._settings, self._advertise = settings, advertise
        self._on_seed_lost = on_seed_lost
        self._on_banned = on_banned
        self._port = 0
        self._torrents: dict[str, _Torrent] = {}
        self._waiting: dict[tuple[str, str, int], asyncio.Future[bool | None]] = {}
        self._tokens = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self._limits = wire.Limits()
        self._moved = self._moved_before = wire.Moved()
        self._nodes: dict[str, str] = {}
        self._supervisor = Supervisor(
            wire.Start(
                bind=bind,
                port=settings.port,
                advertise=host_of(advertise),
                nice=nice,
            ),
            on_report=self._take,
            on_up=self._restore,
            on_down=self._lost,
        )

    def available(self) -> Availability:
        """Return whether torrents can be fetched on this node."""
        if not self._settings.enabled:
            return Availability(ok=False, reason="switched off in fleetcast.toml: [bittorrent] enabled")
        if importlib.util.find_spec("libtorrent") is None:
            return Availability(ok=False, reason="the Python package libtorrent is not installed")
        if not self._running:
            return Availability(ok=False, reason="not started")
        return Availability(ok=True)

    @property
    def endpoint(self) -> str:
        """Address and port that others reach this node by: `host:port`."""
        return f"{host_of(self._advertise)}:{self._port}"

    def limit(self, download: int | None, upload: int | None) -> None:
        """Let all torrents together receive from peers and send so many bytes per second from now on; None: no cap."""
        self._limit(replace(self._limits, download=download or 0, upload=upload or 0))

    def know(self, node: str, endpoint: str) -> None:
        """Remember which node listens at *endpoint*: who dials this one is named by it."""
        self._nodes[wire.peer_tag(endpoint)] = node

    def moved(self) -> Moved:
        """Bytes in the streams of all peers, as of the last report; they are counted while there is a cap."""
        return Moved(self._moved.received, self._moved.sent)

    @property
    def borrowing(self) -> Capped:
        """What is borrowed beside what peers send, for a share of the cap of its own."""
        return Receiving(lambda: self._moved.borrowed, lambda cap: self._limit(replace(self._limits, borrow=cap or 0)))

    def _limit(self, limits: wire.Limits) -> None:
        self._limits = limits
        self._supervisor.limit(limits)

    async def start(self) -> None:
        """Start the child and listen.

        Raises:
            CannotListen: the port is taken or not allowed.
        """
        self._port = await self._supervisor.start()
        self._running = True

    async def close(self) -> None:
        """Stop. Fetches under way fail; the bytes stay for the next start."""
        self._running = False
        for torrent in self._torrents.values():
            if torrent.fetch is not None:
                torrent.fetch.fail(TransferFailed("the BitTorrent transport is closed"))
        await self._supervisor.close()

    async def fetch(self, request: FetchRequest, observer: Observer) -> None:
        """Fetch the artifact, then seed it; see `protocol.Transport.fetch`.

        Bytes in the folder are hashed first, all of them; the pieces that are right are claimed like those that come.
        """
        torrent = self._torrent(request.artifact, request.content, request.metainfo, request.folder, verified=False)
        await self._make_room(torrent)
        torrent.fetch = fetch = self._fetch_of(torrent, request.content, observer)
        self._torrents[torrent.info.info_hash] = torrent
        try:
            await _make_folder(torrent.folder)
            await self._learn(torrent, request.sources)
            self._add(torrent)
            await fetch.run()
        except BaseException:
            await asyncio.shield(self._remove(torrent))
            raise
        finally:
            self._tell_bans(torrent, is_over=True)
        torrent.verified, torrent.fetch = True, None

    async def seed(
        self, artifact: str, content: Content, metainfo: bytes, folder: Path, sources: Iterable[Source] = ()
    ) -> None:
        """Serve files that are proven; they are not read now, and never written to. Returns when others may come.

        Args:
            folder: save path, as in `FetchRequest.folder`.

        Raises:
            MetainfoRefused: the metainfo does not describe the content.
            TransferFailed: the artifact is being fetched.
        """
        torrent = self._torrent(artifact, content, metainfo, folder, verified=True)
        before = self._torrents.get(torrent.info.info_hash)
        if before is not None and before.verified and before.folder == torrent.folder:
            await self.add_sources(artifact, sources)
            return
        await self._make_room(torrent)
        self._torrents[torrent.info.info_hash] = torrent
        await self._learn(torrent, sources)
        await self._add_seed(torrent)

    async def unseed(self, artifact: str) -> None:
        """Stop serving an artifact; nothing of it is open when this returns. One that is being fetched stays."""
        for torrent in self._of(artifact):
            if torrent.fetch is None:
                await self._remove(torrent)

    async def add_sources(self, artifact: str, sources: Iterable[Source]) -> None:
        """Tell who else is in the swarm; both sides may be told. Unknown artifacts are ignored."""
        for torrent in self._of(artifact):
            await self._learn(torrent, sources)
            order = torrent.order()
            self._supervisor.send(wire.Peers(order.key, order.peers, order.lend_url, order.lend_peer))

    async def flush(self, artifact: str) -> None:
        """Return when every block of the artifact that has come was handed to the operating system."""
        for torrent in self._of(artifact):
            await self._flush(torrent.info.info_hash)

    async def recheck(self, artifact: str) -> bool:
        """Hash all files of a seeded artifact and return whether they are right; if not, it is not seeded any more.

        Nothing is written; to repair it, fetch the artifact into a folder of its own.

        Raises:
            TransferFailed: the child died during the check.
        """
        whole = True
        for torrent in self._of(artifact):
            if torrent.fetch is None:
                whole = await self._recheck_seed(torrent) and whole
        return whole

    def lendable(self, artifact: str) -> Lendable | None:
        """What can be lent of an artifact: all of it where it is proven, nothing elsewhere."""
        torrent = next((t for t in self._of(artifact) if t.verified), None)
        return Lendable(torrent.content, torrent.info.piece_length, torrent.files) if torrent else None

    def stats(self) -> BittorrentStats:
        """How things stand, as of the last reports."""
        return BittorrentStats(
            self._supervisor.pid, self._supervisor.restarts, tuple(map(_stats, self._torrents.values()))
        )

    # Torrents

    def _torrent(self, artifact: str, content: Content, data: bytes, folder: Path, *, verified: bool) -> _Torrent:
        if artifact != content.artifact:
            raise TransferFailed(f"{artifact} is not the name of this content, {content.artifact}")
        return _Torrent(
            artifact,
            content,
            metainfo.read(data, content),
            folder / metainfo.torrent_name(artifact),
            _save_path(folder, content),
            verified,
        )

    def _of(self, artifact: str) -> list[_Torrent]:
        return [t for t in self._torrents.values() if t.artifact == artifact]

    def _fetch_of(self, torrent: _Torrent, content: Content, observer: Observer) -> Fetch:
        key = torrent.info.info_hash
        return Fetch(
            pieces=list(metainfo.pieces(content, torrent.info.piece_length)),
            bytes_total=content.size,
            observer=observer,
            stall_seconds=self._settings.stall_seconds,
            flush=lambda: self._flush(key),
            recheck=lambda: self._supervisor.send(wire.Recheck(key)),
            check_child=self._supervisor.check,
            node_of=lambda address, tag: _node_of(torrent, address, tag, self._nodes),
        )

    async def _make_room(self, torrent: _Torrent) -> None:
        before = self._torrents.get(torrent.info.info_hash)
        if before is None:
            return
        if before.fetch is not None:
            raise TransferFailed(f"{torrent.artifact} is being fetched already")
        await self._remove(before)

    def _add(self, torrent: _Torrent) -> None:
        self._supervisor.send(torrent.order())

    async def _add_seed(self, torrent: _Torrent) -> None:
        """Whoever connects before libtorrent is ready is turned away, and comes back a second later."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                whole = await asyncio.shield(self._ask(torrent.order(), wire.Checked))
        except TimeoutError:
            log.warning("bittorrent.seed_not_ready", artifact=torrent.artifact)
            return
        if whole is False:
            self._lose_seed(torrent, DAMAGED)

    async def _remove(self, torrent: _Torrent) -> None:
        key = torrent.info.info_hash
        if self._torrents.get(key) is torrent:
            del self._torrents[key]
        hangs = torrent.fetch is not None and self._supervisor.silent_seconds > SILENT_SECONDS
        removed = asyncio.ensure_future(self._ask(wire.Remove(key), wire.Removed))
        if (await asyncio.wait({removed}, timeout=0.0 if hangs else REMOVE_SECONDS))[0]:
            return
        log.warning("bittorrent.not_removed", artifact=torrent.artifact)
        if torrent.fetch is not None:
            # A child that holds on to the files would write into what another transport brings.
            self._supervisor.kill()
            await removed

    async def _learn(self, torrent: _Torrent, sources: Iterable[Source]) -> None:
        for source in sources:
            if source.bt and source.bt != self.endpoint:
                torrent.sources[source.bt] = source
        plan = Dialling(tuple(torrent.sources.values()))
        if not torrent.verified:
            lends = torrent.lender.bt if torrent.lender else None
            plan = dialling(plan.peers, lender=lends, banned=torrent.bans.addresses)
        found = [await literal(source.bt) for source in plan.peers if source.bt]
        torrent.peers = tuple(sorted(peer for peer in found if peer is not None))
        torrent.lender = plan.lender
        torrent.lend_peer = (await literal(plan.lender.bt) if plan.lender and plan.lender.bt else None) or ""

    async def _recheck_seed(self, torrent: _Torrent) -> bool:
        whole = await self._ask(wire.Recheck(torrent.info.info_hash), wire.Checked)
        if whole is None:
            raise TransferFailed("the BitTorrent process died during the check")
        if not whole:
            await self._remove(torrent)
        return whole

    # The child

    async def _flush(self, key: str) -> bool:
        token = next(self._tokens)
        return bool(await self._ask(wire.Flush(key, token), wire.Flushed, token))

    async def _ask(
        self, order: wire.Add | wire.Remove | wire.Flush | wire.Recheck, answer: type[wire.Report], token: int = 0
    ) -> bool | None:
        """Give an order and wait for its answer; None when the child is gone, or dies before it answers."""
        slot = (answer.__name__, order.key, token)
        waiting = self._waiting.setdefault(slot, asyncio.get_running_loop().create_future())
        if not self._supervisor.send(order):
            self._answer(slot, None)
        return await waiting

    def _answer(self, slot: tuple[str, str, int], result: bool | None) -> None:
        waiting = self._waiting.pop(slot, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def _take(self, report: wire.Report) -> None:
        torrent = self._torrents.get(getattr(report, "key", ""))
        match report:
            case wire.Removed(key=key):
                self._answer(("Removed", key, 0), True)
            case wire.Flushed(key=key, token=token):
                self._answer(("Flushed", key, token), True)
            case wire.Checked(key=key, whole=whole) if ("Checked", key, 0) in self._waiting:
                self._answer(("Checked", key, 0), whole)
            case wire.Moved():
                self._moved = _together(self._moved_before, report)
            case _ if torrent is not None:
                self._take_for(torrent, report)

    def _take_for(self, torrent: _Torrent, report: wire.Report) -> None:
        if torrent.fetch is not None:
            torrent.fetch.take(report)
        match report:
            case wire.Status():
                torrent.status = report
                self._tell_bans(torrent)
            case wire.Banned(address=address, tag=tag, pardoned=pardoned):
                torrent.bans.pardon(pardoned)
                # libtorrent says it again for every piece that was still on its way.
                if torrent.bans.note(address, _node_of(torrent, address, tag, self._nodes), _now()):
                    log.warning("bittorrent.peer_banned", artifact=torrent.artifact, address=address)
                    # Whoever has everything besides may now be the only one, and lend.
                    self._soon(self.add_sources(torrent.artifact, ()))
            case wire.Faulted(reason=reason) if torrent.fetch is None:
                self._lose_seed(torrent, reason)
            case wire.Checked(whole=False) if torrent.verified:
                self._lose_seed(torrent, DAMAGED)

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="dial anew")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell_bans(self, torrent: _Torrent, *, is_over: bool = False) -> None:
        failed = torrent.status.failed if torrent.status else 0
        for ban in torrent.bans.settle(failed, _now(), is_over=is_over):
            if self._on_banned is not None:
                self._on_banned(torrent.artifact, ban)

    def _lose_seed(self, torrent: _Torrent, reason: str) -> None:
        log.error("bittorrent.seed_lost", artifact=torrent.artifact, reason=reason)
        self._torrents.pop(torrent.info.info_hash, None)
        self._supervisor.send(wire.Remove(torrent.info.info_hash))
        if self._on_seed_lost is not None:
            self._on_seed_lost(torrent.artifact, reason)

    def _restore(self) -> None:
        """A child is there that knows nothing: what is not proven is checked in full, for its files may be torn."""
        for torrent in self._torrents.values():
            self._add(torrent)

    def _lost(self) -> None:
        self._moved_before = self._moved
        for slot in list(self._waiting):
            self._answer(slot, None)
        for torrent in self._torrents.values():
            self._tell_bans(torrent, is_over=True)
            torrent.status = None
            torrent.bans.child_died()
            if torrent.fetch is not None:
                torrent.fetch.child_died()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _together(one: wire.Moved, other: wire.Moved) -> wire.Moved:
    return wire.Moved(one.received + other.received, one.sent + other.sent, one.borrowed + other.borrowed)


def _save_path(folder: Path, content: Content) -> Path:
    """The folder that libtorrent is given, such that files lie at `<folder>/<torrent name>/<path>`.

    libtorrent takes a torrent with one file at its top for a single-file torrent, whatever that file is called, and
    then leaves out the folder named like the torrent (tried with 2.1.1).
    """
    if len(content.files) == 1 and "/" not in content.files[0].path:
        return folder / metainfo.torrent_name(content.artifact)
    return folder


async def _make_folder(folder: Path) -> None:
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    except OSError as e:
        raise TransferFailed(f"the folder {folder} cannot be made: {e.strerror}") from e


def _node_of(torrent: _Torrent, address: str, tag: str, nodes: Mapping[str, str]) -> str:
    """A connection that came in has a port of its own; then the peer id tells who it is. *nodes*: by peer tag."""
    if source := torrent.sources.get(address):
        return source.node
    if tag:
        found = next((s.node for e, s in torrent.sources.items() if wire.peer_tag(e) == tag), None)
        return found or nodes.get(tag, address)
    return address


def _stats(torrent: _Torrent) -> TorrentStats:
    status = torrent.status
    return TorrentStats(
        artifact=torrent.artifact,
        state="seeding" if torrent.verified else "fetching",
        peers=status.peers if status else 0,
        uploaded_bytes=status.uploaded if status else 0,
        failed_bytes=status.failed if status else 0,
        banned=tuple(sorted(torrent.bans.addresses)),
    )
