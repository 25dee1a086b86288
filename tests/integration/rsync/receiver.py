"""A node that fetches by rsync, and what it fetches."""

import asyncio
import random
from pathlib import Path

import psutil

from fleetcast.config.settings import RsyncSettings
from fleetcast.transport.protocol import Ban, FetchRequest, Source
from fleetcast.transport.rsync import RsyncTransport
from fleetcast.transport.testing import Thing, Witness, thing_of

KIB, MIB = 2**10, 2**20
PIECE = 64 * KIB


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def model(size: int = 4 * MIB, seed: int = 1) -> Thing:
    return thing_of({"m.bin": noise(size, seed)}, PIECE)


class Receiver:
    """A node that fetches by rsync; *relayed*: one that may have caps."""

    def __init__(self, folder: Path, settings: RsyncSettings, *, relayed: bool = True) -> None:
        self.folder, self.staging = folder / "swarm", folder / "staging"
        self.staging.mkdir(parents=True)
        self.settings = settings
        self.bans: list[Ban] = []
        self.transport = RsyncTransport(
            settings,
            staging=self.staging,
            relayed=relayed,
            on_banned=lambda _artifact, ban: self.bans.append(ban),
        )

    async def fetch(
        self,
        thing: Thing,
        *sources: Source,
        have: dict[int, frozenset[int]] | None = None,
        witness: Witness | None = None,
    ) -> Witness:
        seen = witness or Witness(thing, self.folder)
        await self.transport.start()
        request = FetchRequest("t1", thing.artifact, thing.content, thing.metainfo, self.folder, sources, have or {})
        async with asyncio.timeout(90):
            await self.transport.fetch(request, seen)
        return seen

    def half(self, thing: Thing, share: float = 0.6) -> dict[int, frozenset[int]]:
        """Lay down some pieces at random, as a swarm leaves them, and say which."""
        have = {}
        for index, file in enumerate(thing.content.files):
            pieces = range(-(-file.size // thing.piece_length))
            chosen = frozenset(random.Random(index).sample(pieces, round(len(pieces) * share)))
            path = thing.path(self.folder, file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                for piece in chosen:
                    start = piece * thing.piece_length
                    out.seek(start)
                    out.write(thing.files[file.path][start : start + thing.piece_length])
                out.truncate(file.size)
            have[index] = chosen
        return have


def rsyncs_of(receiver: Receiver) -> list[int]:
    """Processes whose command line names the receiver's staging folder."""
    return [
        p.pid for p in psutil.process_iter(["cmdline"]) if str(receiver.staging) in " ".join(p.info["cmdline"] or [])
    ]
