"""One transfer with its ladder: real store server as the source that answers, transports that do as they are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest_asyncio

from fleetcast.config.limits import LimitsSettings
from fleetcast.config.settings import HttpSettings, LadderSettings, NodeSettings, Settings
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.daemons.distributor.board import Board
from fleetcast.daemons.distributor.climbing import Climber
from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.progress import TransferProgress
from fleetcast.daemons.distributor.rules import Offer
from fleetcast.daemons.distributor.swarm import SwarmBook
from fleetcast.events.content import Kind
from fleetcast.events.payloads import Endpoints, Origin, Payload
from fleetcast.transport import metainfo
from fleetcast.transport.pieces import PieceVerifier
from fleetcast.transport.protocol import Availability, FetchRequest, Transport
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.testing import Thing, thing_of

QUICK = {"stall_seconds": 0.6, "rest_base_seconds": 0.2}


@dataclass
class QuietParts:
    """The parts of a distributor that a transfer works with; there is no bus, and what is said is kept."""

    settings: Settings
    transports: dict[str, Transport]
    node: str = "me"
    board: Board = field(default_factory=Board)
    swarm: SwarmBook = field(default_factory=lambda: SwarmBook("me"))
    allowance: Allowance = field(default_factory=lambda: Allowance(LimitsSettings(), {}))
    hashing: None = None
    said: list[Payload] = field(default_factory=list)

    @property
    def available(self) -> Mapping[str, Availability]:
        return {name: each.available() for name, each in self.transports.items()}

    def send_soon(self, subject: str, data: bytes) -> None:
        pass

    def say_of(self, offer: Offer, payload: Payload, *, discriminator: str) -> None:
        self.said.append(payload)


@dataclass
class Scene:
    """A node that fetches one thing."""

    thing: Thing
    folder: Path
    endpoint: str
    parts: QuietParts
    offer: Offer
    progress: TransferProgress

    async def climb(self, seconds: float = 30.0) -> None:
        """Bring it, by whichever transport can."""
        read = metainfo.read(self.thing.metainfo, self.thing.content)
        self.progress.open(PieceVerifier(read, self.thing.content, self.folder))
        request = FetchRequest(
            self.progress.transfer, self.thing.artifact, self.thing.content, self.thing.metainfo, self.folder
        )
        async with asyncio.timeout(seconds):
            parts = cast("Parts", self.parts)
            await Climber(parts, Neighbours(parts), self.offer, self.progress).climb(request)

    def origin_serves(self, *, bt: str = "127.0.0.1:9", complete: bool = True) -> None:
        """Say where the origin serves the thing; by HTTP it does."""
        endpoints = Endpoints(bt=bt, http=self.endpoint)
        self.parts.swarm.note(self.thing.artifact, "origin", endpoints, complete=complete)

    @property
    def fetched(self) -> int:
        """Bytes that came over the network, by the transfer's own account."""
        return sum(self.progress.status.bytes_by_source.values())

    @property
    def states(self) -> dict[str, str]:
        return {r.transport: r.state for r in self.progress.status.rungs}


class Scenes:
    """Makes scenes; the origin's file server runs as long as they do."""

    def __init__(self, root: Path, stack: contextlib.AsyncExitStack) -> None:
        self._root = root
        self._stack = stack

    async def __call__(self, *transports: Transport, thing: Thing, **ladder: object) -> Scene:
        settings = Settings(node=NodeSettings(id="me"), ladder=LadderSettings.model_validate({**QUICK, **ladder}))
        offer = _offer(thing)
        parts = QuietParts(settings, {t.name: t for t in transports})
        progress = TransferProgress(cast("Parts", parts), offer, "bittorrent")
        scene = Scene(thing, self._root / "fetched", await self._origin(thing), parts, offer, progress)
        scene.origin_serves()
        return scene

    async def _origin(self, thing: Thing) -> str:
        held = self._root / "held"
        thing.put(held)
        by_digest = {f.sha256: thing.path(held, f.path) for f in thing.content.files}
        server = StoreServer(
            HttpSettings(port=0),
            bind="127.0.0.1",
            advertise="127.0.0.1",
            find=by_digest.get,
            content_of=lambda artifact: thing.content if artifact == thing.artifact else None,
        )
        await server.start()
        self._stack.push_async_callback(server.close)
        return server.endpoint


def _offer(thing: Thing) -> Offer:
    return Offer(
        kind=Kind.MODEL,
        name="m",
        version="1",
        artifact=thing.artifact,
        content=thing.content,
        metainfo_b64=None,
        metainfo_ref=None,
        origin=Origin(node="origin", endpoints=Endpoints()),
        cause="c",
        correlation="c",
        sequence=1,
    )


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scenes]:
    async with contextlib.AsyncExitStack() as stack:
        yield Scenes(tmp_path, stack)


def thing(pieces: int = 16, piece_length: int = 16 * 1024) -> Thing:
    """One file of different pieces."""
    data = b"".join(bytes([n % 251]) * piece_length for n in range(pieces))
    return thing_of({"m.bin": data}, piece_length)
