"""Exports that nobody announces: looks at folders, and says EXPORT_COMPLETED for a file that the fleet does not know.

Once, whatever happens: the id of the event follows from lane and bytes, the log is read before it is said, and the
server removes what two nodes say in the same moment. What was judged is kept over restarts, so that nothing is hashed
twice; losing that file costs reading, not correctness.
"""

import asyncio
import json
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import structlog

from fleetcast.bus.errors import BusError
from fleetcast.config.exports import ExportFolder
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.samples import KnownExport, known_export, new_samples, samples_of
from fleetcast.daemons.distributor.sightings import FileState, Sighting, Watched, unfinished
from fleetcast.events import names
from fleetcast.events.content import Format, Kind
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.errors import EventInvalid
from fleetcast.events.ids import derived_id
from fleetcast.events.payloads import ExportCompleted
from fleetcast.events.state import VersionState
from fleetcast.transport.checks import Verdict, check_format
from fleetcast.transport.errors import ContentRefused, StoreError

log = structlog.get_logger("fleetcast.distributor.exports")

MEMORY = "exports.json"
MEMORY_KEPT = 20_000
"""Files that are remembered over a restart."""


async def watch_exports(parts: Parts) -> None:
    """Look at the configured folders until cancelled."""
    settings = parts.settings.exports
    if not settings.folders:
        await asyncio.Event().wait()
    memory = await asyncio.to_thread(Memory, parts.settings.store.data / MEMORY)
    desks = [ExportDesk(parts, folder, memory) for folder in settings.folders]
    while True:
        for desk in desks:
            try:
                await desk.look()
            except BusError as away:
                log.info("exports.waiting", reason=str(away))
        await asyncio.sleep(settings.poll_seconds)


class Memory:
    """States of files that were judged, kept in one small file of the data folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._judged: dict[str, list[int]] = {}
        try:
            read = json.loads(path.read_bytes())
            self._judged = {str(k): [int(n) for n in v] for k, v in read.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return  # none yet, or damaged: everything is looked at again

    def knows(self, path: Path, state: FileState) -> bool:
        """Whether the file was judged as it is."""
        return self._judged.get(str(path)) == _numbers(state)

    def keep(self, path: Path, state: FileState) -> None:
        """Remember a judged file; blocks."""
        self._judged.pop(str(path), None)
        self._judged[str(path)] = _numbers(state)
        while len(self._judged) > MEMORY_KEPT:
            self._judged.pop(next(iter(self._judged)))
        spare = self._path.with_suffix(".next")
        spare.write_text(json.dumps(self._judged))
        spare.replace(self._path)


class ExportDesk:
    """Looks at one folder for one lane."""

    def __init__(self, parts: Parts, watched: ExportFolder, memory: Memory) -> None:
        self._parts = parts
        self._lane = watched.lane
        self._folder = watched.folder
        self._pattern = watched.pattern
        self._memory = memory
        self._watched = Watched()
        self._missing = ""

    async def look(self) -> None:
        """One look; says what is new.

        Raises:
            BusError: the bus is away; the next look goes on.
        """
        try:
            seen = await asyncio.to_thread(_sightings, self._folder, self._pattern)
            self._missing = ""
        except OSError as fault:
            self._say_missing(fault.strerror or str(fault))
            return
        look = self._watched.look(seen)
        for name, problem in look.news:
            log.warning("export.passed_over", lane=self._lane, path=str(self._folder / name), reason=problem)
        for name, state in look.ready:
            await self._judge(name, state)

    def _say_missing(self, reason: str) -> None:
        if reason != self._missing:
            log.warning("export.folder_unreadable", lane=self._lane, folder=str(self._folder), reason=reason)
            self._missing = reason

    async def _judge(self, name: str, state: FileState) -> None:
        path = self._folder / name
        if self._memory.knows(path, state):
            self._watched.settle(name, state)
            return
        try:
            problem = await self._announce(path, state)
        except ContentRefused as refused:
            problem = str(refused)
        except StoreError as fault:
            # Gone, or a full process table: the next look tells.
            log.info("export.later", path=str(path), reason=str(fault))
            return
        if self._watched.settle(name, state, problem):
            log.warning("export.passed_over", lane=self._lane, path=str(path), reason=problem)
        await asyncio.to_thread(self._memory.keep, path, state)

    async def _announce(self, path: Path, state: FileState) -> str:
        """Say that an export was found, unless it is known; returns what is wrong with it, or nothing."""
        loop = asyncio.get_running_loop()
        digest = await loop.run_in_executor(self._parts.idle, self._parts.store.digest, path)
        versions = await self._versions()
        if any(digest == f.sha256 for v in versions if v.content for f in v.content.files):
            return ""
        event_id = self._event_id(digest)
        if await self._is_announced(event_id, path, state):
            return ""
        report = await check_format(path, Format.NPZ, self._parts.settings.verify, whole=True)
        seen = samples_of(report.facts)
        if report.verdict is Verdict.REFUSED or seen is None or seen.count == 0:
            return f"not a loadable export: {report.detail or 'it holds no sample'}"
        if await asyncio.to_thread(_state, path) != state:
            return ""
        await self._say(event_id, path, seen.count, new_samples(path.name, seen.count, _earlier(versions)))
        return ""

    def _event_id(self, digest: str) -> str:
        """The same on every node and after every restart."""
        return derived_id(f"export/{self._lane}/{digest}", names.find("export.completed").type, self._lane)

    async def _say(self, event_id: str, path: Path, total: int, new: int) -> None:
        export = ExportCompleted(
            lane=self._lane,
            path=str(path),
            node=self._parts.node,
            samples_new=new,
            samples_total=total,
            detected=True,
        )
        event = new_event(export, source=self._parts.source, event_id=event_id)
        await self._parts.bus.publish(event)
        log.info("export.detected", lane=self._lane, path=str(path), samples_new=new, samples_total=total)

    async def _versions(self) -> list[VersionState]:
        return [v for v in await self._parts.registry.versions(self._lane) if v.kind is Kind.DATASET]

    async def _is_announced(self, event_id: str, path: Path, state: FileState) -> bool:
        """Whether the log has this very finding already, or its producer's own event about the file as it is."""
        # An event that is stamped by a clock behind this node's is missed here; the origin then tells the repetition.
        written = datetime.fromtimestamp(state.mtime_ns / 1e9, UTC)
        async for entry in self._parts.bus.tail("FC_EVENTS", names.find("export.completed").filters(self._lane)):
            try:
                event = entry.event()
            except EventInvalid:
                continue
            if event.id == event_id or (event.time >= written and self._is_about(event, path)):
                return True
        return False

    def _is_about(self, event: Event, path: Path) -> bool:
        export = event.payload
        if not isinstance(export, ExportCompleted) or export.detected:
            return False
        return (export.node, export.path) == (self._parts.node, str(path))


def _sightings(folder: Path, pattern: str) -> list[Sighting]:
    with os.scandir(folder) as entries:
        return [_sighting(entry) for entry in entries if fnmatchcase(entry.name, pattern) or unfinished(entry.name)]


def _sighting(entry: "os.DirEntry[str]") -> Sighting:
    if unfinished(entry.name):
        return Sighting(entry.name, problem="its name is that of a file that is being written")
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError as gone:
        return Sighting(entry.name, problem=gone.strerror or str(gone))
    if stat.S_ISLNK(found.st_mode):
        return Sighting(entry.name, problem="it is a symbolic link, which may leave the folder; move the file here")
    if not stat.S_ISREG(found.st_mode):
        return Sighting(entry.name, problem="it is no plain file")
    if found.st_size == 0:
        return Sighting(entry.name, problem="it is empty")
    return Sighting(entry.name, _as_state(found))


def _state(path: Path) -> FileState | None:
    try:
        return _as_state(path.lstat())
    except OSError:
        return None


def _as_state(found: os.stat_result) -> FileState:
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _numbers(state: FileState) -> list[int]:
    return [state.device, state.inode, state.size, state.mtime_ns]


def _earlier(versions: list[VersionState]) -> list[KnownExport]:
    return [known_export(v.content.files[0].path, _metadata(v), v.at) for v in versions if v.content is not None]


def _metadata(version: VersionState) -> Mapping[str, object]:
    return version.metadata or {}
