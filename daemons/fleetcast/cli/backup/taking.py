"""From a cluster to a file."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound
from fleetcast.bus.snapshots import snapshot
from fleetcast.bus.streams import REGISTRY, STREAMS
from fleetcast.cli.backup.archive import SUFFIX, UNFINISHED, Writer, written
from fleetcast.cli.backup.manifest import ChainEnd, Manifest, Part, PartHead, Summary
from fleetcast.cli.backup.rules import LEFT_OUT, name_of, order_of_taking
from fleetcast.cli.backup.sealing import PublicKey
from fleetcast.cli.backup.threads import entered
from fleetcast.cli.problems import Exit, Problem
from fleetcast.events.state import ChainState, chain_subject
from fleetcast.registry.ledger import read

LOCK = ".lock"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that is on the disk."""

    path: Path
    summary: Summary
    parts: tuple[Part, ...]
    size: int
    seconds: float


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One backup at a time in a folder; what one that was killed left behind is removed.

    Raises:
        Problem: another one is under way.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Problem(
                "busy", f"another backup is being written in {folder}", next_step="wait for it", exit_code=Exit.REFUSED
            ) from e
        for left in folder.glob(f".*{SUFFIX}{UNFINISHED}"):
            left.unlink()
        yield
    finally:
        os.close(handle)


async def take(bus: Bus, folder: Path, recipients: tuple[PublicKey, ...], *, say: Say) -> Taken:
    """Write all streams to a new file in *folder*.

    Raises:
        BusError: the cluster does not answer, or refuses.
        OSError: the disk is full, or the folder cannot be written.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    audit = await chain_ends(bus)
    names = await present(bus)
    path = folder / f"{name_of(now)}{SUFFIX}"
    async with entered(written(path, recipients)) as file:
        for name in order_of_taking(names):
            part = await _take_stream(bus, name, file)
            say(f"{name}: {part.messages} messages, {part.consumers} consumers, {part.size} bytes")
        manifest = Manifest(
            fleetcast=await asyncio.to_thread(version, "fleetcast"),
            server=str(bus.server.get("version", "")),
            node=bus.node,
            taken_at=now,
            parts=tuple(file.parts),
            left_out=dict(LEFT_OUT),
            audit=audit,
        )
        summary = await asyncio.to_thread(file.finish, manifest)
    size = (await asyncio.to_thread(path.stat)).st_size
    return Taken(path, summary, manifest.parts, size, time.monotonic() - began)


async def _take_stream(bus: Bus, name: str, file: Writer) -> Part:
    async with snapshot(bus.js, name) as found, contextlib.aclosing(found.chunks) as chunks:  # type: ignore[type-var]
        file.begin(PartHead(stream=name, config=dict(found.config), state=dict(found.state)))
        async for chunk in chunks:
            await asyncio.to_thread(file.add, chunk)
    return file.end()


async def present(bus: Bus) -> tuple[str, ...]:
    """Our streams that are there.

    Raises:
        Problem: there is none.
    """
    found = []
    for spec in STREAMS:
        with contextlib.suppress(NotFound):
            await bus.js.api(f"STREAM.INFO.{spec.name}")
            found.append(spec.name)
    if not found:
        raise Problem(
            "no_streams",
            "there is nothing to back up: this NATS has no stream of fleetcast",
            next_step="fleetcast doctor    (is this the right server?)",
            exit_code=Exit.NOT_FOUND,
        )
    return tuple(found)


async def chain_ends(bus: Bus) -> dict[str, ChainEnd]:
    """Where the audit chain of every model ends now."""
    try:
        entries = await bus.newest(REGISTRY, (chain_subject("*"),))
    except NotFound:
        return {}
    states = {entry.subject.rpartition(".")[2]: read(ChainState, entry) for entry in entries}
    return {model: ChainEnd(n=state.n, sha256=state.sha256) for model, state in states.items()}
