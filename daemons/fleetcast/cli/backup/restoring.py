"""From a file into an empty cluster: everything is checked before anything is made, and looked at afterwards."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleetcast.bus import Bus
from fleetcast.bus.errors import AccessDenied, NotFound, OperationRefused
from fleetcast.bus.snapshots import restore
from fleetcast.bus.streams import AUDIT, REGISTRY
from fleetcast.cli.backup.archive import BYTES, END, PART, Frame, Reader
from fleetcast.cli.backup.manifest import ChainEnd, Manifest, Part, PartHead
from fleetcast.cli.backup.rules import Existing, in_the_way, restored_already, rounds_of_restoring
from fleetcast.cli.backup.sealing import PrivateKey, damaged
from fleetcast.cli.backup.taking import Say, chain_ends
from fleetcast.cli.backup.threads import each
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.registry.audit import Checked, check_chains

_ANEW = "stop the daemons and the NATS servers, move the servers' store folders aside, start the servers"


_TOO_SLOW = ("closed pipe", "stalled")
"""What a server says that needed more than some seconds for a part of a snapshot."""
_AT_LEISURE = 'set sync_interval: "2m" in the servers\' configuration and restart them (docs/backup.md)'


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that is over.

    Attributes:
        made: streams that it made.
        kept: streams that an earlier, interrupted one had made.
    """

    manifest: Manifest
    made: tuple[str, ...]
    kept: tuple[str, ...]
    checked: tuple[Checked, ...]
    seconds: float


async def put_back(bus: Bus, reader: Reader, key: PrivateKey, *, replicas: int, resume: bool, say: Say) -> Restored:
    """Make every stream of a backup.

    Raises:
        Problem: the file is damaged or sealed to another key, streams are in the way, or what was restored is not what
            the backup says. In all cases but the last nothing was changed.
        BusError: the cluster does not answer, or refuses.
    """
    began = time.monotonic()
    manifest = await asyncio.to_thread(reader.check, key)
    found = await look(bus, manifest, resume=resume)
    await _remove_unused(bus, found)
    kept = tuple(each.name for each in found if not each.unused)
    made: list[str] = []
    for names in rounds_of_restoring(manifest.parts):
        async for part, chunks in each(_streams(reader.frames(key))):
            if part.stream in kept or part.stream not in names:
                await asyncio.to_thread(_pass_over, chunks)
                continue
            await _make(bus, part, chunks, replicas)
            made.append(part.stream)
            say(f"{part.stream}: {part.messages} messages, {part.consumers} consumers")
    if {*made, *kept} != {part.stream for part in manifest.parts}:
        raise damaged("the backup was changed while it was being restored")
    checked = await verify(bus, manifest)
    return Restored(manifest, tuple(made), kept, checked, time.monotonic() - began)


async def look(bus: Bus, manifest: Manifest, *, resume: bool) -> tuple[Existing, ...]:
    """The streams that are there: restored before, or declared and never used.

    Raises:
        Problem: streams are there that would have to be overwritten.
    """
    found = [each for part in manifest.parts if (each := await existing(bus, part.stream)) is not None]
    if obstacles := in_the_way(manifest.parts, found, resume=resume):
        raise _not_empty(manifest, obstacles)
    return tuple(found)


async def _remove_unused(bus: Bus, found: Sequence[Existing]) -> None:
    """Streams that were declared for daemons that have not begun: a snapshot brings its own."""
    try:
        for each in found:
            if each.unused:
                await bus.js.api(f"STREAM.DELETE.{each.name}")
    except AccessDenied as e:
        raise Problem(
            "not_empty",
            "this NATS has streams already, empty ones, and this role may not remove them",
            why="they were declared before the restore (fleetcast fleet setup, or a daemon)",
            next_step=_ANEW,
            exit_code=Exit.REFUSED,
        ) from e


def _not_empty(manifest: Manifest, obstacles: Sequence[Existing]) -> Problem:
    parts = {part.stream: part for part in manifest.parts}
    begun = all(restored_already(parts[each.name], each) for each in obstacles)
    return Problem(
        "not_empty",
        f"this NATS is not empty: {'; '.join(each.text for each in obstacles)}",
        why="a restore never overwrites: what is there may be all that is left of something",
        next_step=f"if a restore of this backup was interrupted: --resume; else {_ANEW}" if begun else _ANEW,
        exit_code=Exit.REFUSED,
        details={"found": [{"stream": each.name, "messages": each.messages} for each in obstacles]},
    )


async def existing(bus: Bus, name: str) -> Existing | None:
    """A stream, if it is there."""
    try:
        info = await bus.js.api(f"STREAM.INFO.{name}")
    except NotFound:
        return None
    return Existing.of(name, info["state"])


def _streams(frames: Iterator[Frame]) -> Iterator[tuple[PartHead, Iterator[bytes]]]:
    for frame in frames:
        if frame.kind == PART:
            yield PartHead.model_validate_json(frame.data), _bytes(frames)


def _bytes(frames: Iterator[Frame]) -> Iterator[bytes]:
    for frame in frames:
        if frame.kind == END:
            return
        if frame.kind != BYTES:
            raise damaged("a stream in the backup has no end")
        yield frame.data


def _pass_over(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass


async def _make(bus: Bus, part: PartHead, chunks: Iterator[bytes], replicas: int) -> None:
    config = {**part.config, "num_replicas": replicas}
    try:
        async with contextlib.aclosing(each(chunks)) as sent:
            await restore(bus.js, part.stream, config, part.state, sent)
    except AccessDenied:
        raise
    except OperationRefused as e:
        slow = any(word in str(e) for word in _TOO_SLOW)
        raise Problem(
            "not_restored",
            f"{part.stream} was not restored: {e}",
            why="the server wrote so slowly that it gave the restore up: it syncs every message" if slow else "",
            next_step=f"{_AT_LEISURE if slow else 'mend what is said'}, then the same command with --resume",
        ) from e


async def verify(bus: Bus, manifest: Manifest) -> tuple[Checked, ...]:
    """Compare what is there with what the backup says: numbers of every stream, and every audit chain by its digests.

    Raises:
        Problem: something is missing or different.
    """
    wrong = [*await _wrong_streams(bus, manifest.parts), *_wrong_ends(manifest.audit, await chain_ends(bus))]
    names = {part.stream for part in manifest.parts}
    checked = tuple(await check_chains(bus, None)) if {AUDIT, REGISTRY} <= names else ()
    wrong += [f"{each.model}: {problem}" for each in checked for problem in each.problems]
    if wrong:
        raise Problem(
            "restored_wrong",
            f"what was restored is not what the backup says: {'; '.join(wrong[:5])}",
            why=f"{len(wrong)} differences",
            next_step="do not start daemons; empty the servers' stores and restore another backup",
        )
    return checked


async def _wrong_streams(bus: Bus, parts: Sequence[Part]) -> list[str]:
    wrong = []
    for part in parts:
        found = await existing(bus, part.stream)
        if found is None:
            wrong.append(f"{part.stream} is missing")
        elif found.last_sequence < part.last_sequence:
            wrong.append(f"{part.stream} ends at {found.last_sequence}, not at {part.last_sequence}")
        elif found.messages < part.messages and not _ages(part.config):
            wrong.append(f"{part.stream} has {found.messages} messages of {part.messages}")
    return wrong


def _ages(config: Mapping[str, Any]) -> bool:
    """Whether time alone takes messages out of a stream."""
    return bool(config.get("max_age"))


def _wrong_ends(said: Mapping[str, ChainEnd], found: Mapping[str, ChainEnd]) -> Iterator[str]:
    for model, end in said.items():
        there = found.get(model)
        if there is None:
            yield f"the decisions about {model} are missing"
        elif there.n < end.n or (there.n == end.n and there.sha256 != end.sha256):
            yield f"the decisions about {model} end with record {there.n}, not with {end.n}"
