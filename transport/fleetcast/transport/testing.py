"""For tests: real swarms on loopback. Every node is a `BittorrentTransport` with a libtorrent process of its own."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleetcast.config.settings import BittorrentSettings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.transport import metainfo
from fleetcast.transport.bittorrent import BittorrentTransport
from fleetcast.transport.errors import VerificationFailed
from fleetcast.transport.hashing import PieceTree
from fleetcast.transport.pieces import PieceVerifier
from fleetcast.transport.protocol import Availability, FetchRequest, Observer, Progress, Source


@dataclass(frozen=True)
class Thing:
    """An artifact with its bytes."""

    files: dict[str, bytes] = field(repr=False)
    content: Content
    metainfo: bytes
    piece_length: int

    @property
    def artifact(self) -> str:
        return self.content.artifact

    @property
    def size(self) -> int:
        return self.content.size

    def path(self, folder: Path, name: str | None = None) -> Path:
        """Where a file (default: the first) of this artifact lies."""
        return folder / self.artifact[:16] / (name or next(iter(self.files)))

    def put(self, folder: Path) -> None:
        """Lay the files down read-only, as the store does."""
        for name, data in self.files.items():
            path = self.path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o444)

    def lies_in(self, folder: Path) -> bool:
        """Whether every file is there and right, by flat SHA-256."""
        return all(
            hashlib.sha256(self.path(folder, name).read_bytes()).digest() == hashlib.sha256(data).digest()
            for name, data in self.files.items()
        )


def thing_of(files: Mapping[str, bytes], piece_length: int | None = None) -> Thing:
    """Make an artifact of files in memory."""
    length = piece_length or metainfo.piece_length(sum(map(len, files.values())))
    trees = {name: _tree(data, length) for name, data in sorted(files.items())}
    content = Content(
        kind=Kind.MODEL,
        format=Format.OPAQUE,
        files=tuple(
            ContentFile(
                path=name,
                size=tree.size,
                sha256=hashlib.sha256(files[name]).hexdigest(),
                pieces_root=tree.root().hex(),
            )
            for name, tree in trees.items()
        ),
    )
    data = metainfo.build(content, {name: tree.layer() for name, tree in trees.items()}, length)
    return Thing(dict(files), content, data, length)


def _tree(data: bytes, piece_length: int) -> PieceTree:
    tree = PieceTree(piece_length)
    tree.update(data)
    return tree


@dataclass
class Witness:
    """Waits for bytes: reads every claimed piece back, and remembers what it was told."""

    thing: Thing
    folder: Path
    before: Callable[[int], None] = lambda _piece: None
    """Called with the number of claims so far, before each is judged: the place to play tricks from."""
    refuse: bool = False
    trust: bool = False
    """Takes every claim, right or not: what a proof is good for shows without it."""
    claims: int = 0
    told: list[Progress] = field(default_factory=list)
    told_anything: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    half: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        read = metainfo.read(self.thing.metainfo, self.thing.content)
        self.verifier = PieceVerifier(read, self.thing.content, self.folder)

    def progress(self, progress: Progress) -> None:
        self.told.append(progress)
        self.told_anything.set()

    async def pieces(self, claimed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        wrong = []
        for piece in claimed:
            right = await asyncio.to_thread(self._judge, *piece)
            if self.refuse or not (right or self.trust):
                wrong.append(piece)
                continue
            self.began.set()
            if self.verifier.proven_bytes * 2 >= self.thing.size:
                self.half.set()
        return wrong

    def _judge(self, file_index: int, piece_index: int) -> bool:
        self.before(self.claims)
        self.claims += 1
        return self.verifier.verify_piece(file_index, piece_index)

    @property
    def last(self) -> Progress:
        return self.told[-1]


@dataclass
class Node:
    """One node of a swarm."""

    name: str
    transport: BittorrentTransport
    folder: Path
    lost: list[tuple[str, str]]

    @property
    def source(self) -> Source:
        return Source(self.name, self.transport.endpoint)

    @property
    def child(self) -> int:
        pid = self.transport.stats().child_pid
        assert pid is not None
        return pid

    async def seed(self, thing: Thing, *sources: Source) -> None:
        thing.put(self.folder)
        await self.transport.seed(thing.artifact, thing.content, thing.metainfo, self.folder, sources)

    def witness(self, thing: Thing) -> Witness:
        return Witness(thing, self.folder)

    async def fetch(self, thing: Thing, *sources: Source, witness: Witness | None = None) -> Witness:
        """Fetch, and return the witness: every piece is proven then."""
        seen = witness or self.witness(thing)
        request = FetchRequest("t1", thing.artifact, thing.content, thing.metainfo, self.folder, sources)
        async with asyncio.timeout(60):
            await self.transport.fetch(request, seen)
        return seen


@dataclass
class Swarm:
    """Makes nodes."""

    root: Path
    nodes: list[Node] = field(default_factory=list)

    async def node(
        self, *, download_limit_bytes_per_second: int = 0, upload_limit_bytes_per_second: int = 0, **settings: float
    ) -> Node:
        """Start another node, on a free port; the limits are caps, 0 is none."""
        name = f"n{len(self.nodes)}"
        lost: list[tuple[str, str]] = []
        transport = BittorrentTransport(
            BittorrentSettings(**{"port": 0, **settings}),
            "127.0.0.1",
            "127.0.0.1",
            on_seed_lost=lambda artifact, reason: lost.append((artifact, reason)),
        )
        transport.limit(download_limit_bytes_per_second, upload_limit_bytes_per_second)
        await transport.start()
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        node = Node(name, transport, folder, lost)
        self.nodes.append(node)
        return node

    async def close(self) -> None:
        """Stop every node."""
        await asyncio.gather(*(node.transport.close() for node in self.nodes))


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what cannot be awaited: the state of another process."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (nobody sets an event)
            await asyncio.sleep(0.01)


@dataclass
class Act:
    """What a puppet does in one fetch.

    Attributes:
        bring: pieces that it brings at most, of those that are missing; None: all of them.
        end: raised then; None: it returns, or waits when something is missing still.
        forgets: it brings pieces that are here already, as a transport would that starts from nothing.
        restarts: how often its process seems to have been started again.
    """

    bring: int | None = None
    end: Exception | None = None
    forgets: bool = False
    restarts: int = 0


@dataclass
class Puppet:
    """A transport without a network that plays its acts, one per fetch, the last one for ever; implements
    `protocol.Transport`."""

    name: str
    thing: Thing
    acts: list[Act] = field(default_factory=lambda: [Act()])
    there: Availability = field(default_factory=lambda: Availability(ok=True))
    requests: list[FetchRequest] = field(default_factory=list)
    told_of: list[Source] = field(default_factory=list)
    received: int = 0
    running: bool = False

    def available(self) -> Availability:
        return self.there

    async def add_sources(self, artifact: str, sources: Iterable[Source]) -> None:
        if artifact == self.thing.artifact:
            self.told_of += sources

    async def fetch(self, request: FetchRequest, observer: Observer) -> None:
        act = self.acts[min(len(self.requests), len(self.acts) - 1)]
        self.requests.append(request)
        self.running = True
        try:
            await self._play(act, request, observer)
        finally:
            self.running = False

    async def _play(self, act: Act, request: FetchRequest, observer: Observer) -> None:
        length = self.thing.piece_length
        every = list(metainfo.pieces(self.thing.content, length))
        wanted = [p for p in every if act.forgets or p.piece_index not in request.have.get(p.file_index, ())]
        sent = 0
        for at in wanted[: act.bring]:
            sent += await asyncio.to_thread(self._write, request.folder, at)
            self.received += min(length, self.thing.size)
            observer.progress(self._progress(request, sent, act))
            if await observer.pieces([(at.file_index, at.piece_index)]):
                raise VerificationFailed(f"piece {at.piece_index} of file {at.file_index}")
        observer.progress(self._progress(request, sent, act))
        if act.end is not None:
            raise act.end
        if len(wanted[: act.bring]) < len(wanted):
            await asyncio.Event().wait()

    def _write(self, folder: Path, at: metainfo.PieceAt) -> int:
        name = self.thing.content.files[at.file_index].path
        start = at.piece_index * self.thing.piece_length
        data = self.thing.files[name][start : start + self.thing.piece_length]
        path = self.thing.path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.seek(start)
            file.write(data)
        return len(data)

    def _progress(self, request: FetchRequest, sent: int, act: Act) -> Progress:
        had = sum(map(len, request.have.values())) * self.thing.piece_length
        return Progress(
            bytes_done=min(had + sent, self.thing.size),
            bytes_total=self.thing.size,
            rate=0,
            peers=1,
            bytes_by_source={"origin": sent} if sent else {},
            received=sent,
            restarts=act.restarts,
        )


class EvilPeer:
    """A peer that says it has everything and sends wrong bytes (BEP 3, BEP 6, BEP 52); an async context manager.

    Args:
        mute: it takes requests and never answers one.
    """

    def __init__(self, info_hash: str, *, mute: bool = False) -> None:
        self._info_hash = bytes.fromhex(info_hash)[:20]
        self._mute = mute
        self._server: asyncio.Server | None = None
        self.connections = 0
        self.requests = 0
        self.sent_bytes = 0

    async def __aenter__(self) -> "EvilPeer":
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def source(self) -> Source:
        """Where it listens."""
        assert self._server is not None
        return Source("evil", f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}")

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(68)
            # Reserved bits: the fast extension; HAVE ALL, then UNCHOKE.
            reserved = b"\0\0\0\0\0\0\0\x04"
            writer.write(b"\x13BitTorrent protocol" + reserved + self._info_hash + os.urandom(20))
            writer.write(_message(14) + _message(1))
            while True:
                body = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                if body[:1] == b"\x06":
                    self.requests += 1
                    await self._lie(writer, body)
        writer.close()

    async def _lie(self, writer: asyncio.StreamWriter, request: bytes) -> None:
        if self._mute:
            return
        length = int.from_bytes(request[9:13], "big")
        writer.write(_message(7, request[1:9] + os.urandom(length)))
        self.sent_bytes += length
        await writer.drain()


def _message(kind: int, payload: bytes = b"") -> bytes:
    return (1 + len(payload)).to_bytes(4, "big") + bytes([kind]) + payload
