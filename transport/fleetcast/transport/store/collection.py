"""Collection: removes versions that nothing pins, then the artifacts and blobs that nothing names any more."""

import contextlib
import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from fleetcast.events.content import Content, ContentFile
from fleetcast.transport.errors import NotKept
from fleetcast.transport.store import layout
from fleetcast.transport.store.archive import Archive, ArchivedItem
from fleetcast.transport.store.folder import Folder
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.records import ArtifactRecords
from fleetcast.transport.store.retention import Pins
from fleetcast.transport.store.versions import Versions


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed.

    Attributes:
        versions: by line and version, the oldest first.
        artifacts: whose swarm folders and records are gone; they can no longer be seeded.
        blobs: number of files.
        bytes: bytes of those files.
    """

    versions: tuple[tuple[Line, str], ...] = ()
    artifacts: tuple[str, ...] = ()
    blobs: int = 0
    bytes: int = 0


class Sweep:
    """One collection. What nothing refers to and is young is left alone: it is on its way in."""

    def __init__(
        self,
        data: Path,
        versions: Versions,
        records: ArtifactRecords,
        archive: Archive,
        pins: Pins,
        orphan_seconds: float,
    ) -> None:
        self._data = data
        self._archive = archive
        self._versions = versions
        self._records = records
        self._pins = pins
        self._before = time.time() - orphan_seconds
        self._archived: dict[str, list[tuple[ArchivedItem, ContentFile]]] | None = None
        self.collected = Collected()

    def version(self, line: Line, version: str) -> None:
        """Remove one version, and the bytes that only it had."""
        record = self._versions.record(line, version)
        self._versions.remove(line, version)
        self.collected = replace(self.collected, versions=(*self.collected.versions, (line, version)))
        if record is not None:
            self.content(record.content)

    def content(self, content: Content) -> None:
        """Remove an artifact and its bytes, unless a version is made of it."""
        if content.artifact not in self._kept_artifacts():
            self._artifact(content.artifact)
            self._blobs_of(content)

    def foreseen(self, expendable: Sequence[tuple[Line, str]]) -> Collected:
        """What removing the orphans and then *expendable* would come to; bytes of a file with a further name stay."""
        kept, going = set(self._pins.artifacts), dict[str, Content]()
        for line in self._versions.lines():
            for record in self._versions.records(line):
                if (line, record.installed.version) in expendable:
                    going[record.content.artifact] = record.content
                else:
                    kept.add(record.installed.artifact)
        orphans = self._old_orphans(kept | going.keys())
        for artifact in orphans:
            with contextlib.suppress(NotKept):
                going[artifact] = self._records.read(artifact).content
        sizes = self._sizes(going.values(), kept)
        gone = (*orphans, *(a for a in going if a not in kept and a not in orphans))
        return Collected(tuple(expendable), gone, len(sizes), sum(sizes.values()))

    def _sizes(self, going: Iterable[Content], kept: Iterable[str]) -> dict[str, int]:
        """Bytes by digest of files that only *going* content names."""
        staying = self._pinned_blobs()
        for artifact in kept:
            with contextlib.suppress(NotKept):
                staying |= {f.sha256 for f in self._records.read(artifact).content.files}
        return {f.sha256: f.size for content in going for f in content.files if f.sha256 not in staying}

    def _old_orphans(self, kept: Set[str]) -> tuple[str, ...]:
        found = sorted({*self._records.names(), *self._names(layout.SWARM)} - kept)
        changed = ((a, self._newest_change(layout.swarm(a), layout.artifact_record(a))) for a in found)
        return tuple(artifact for artifact, at in changed if at <= self._before)

    def orphans(self) -> None:
        """Remove old artifacts that no version is made of, and old blobs that have no other name."""
        for artifact in self._old_orphans(self._kept_artifacts()):
            self._artifact(artifact)
        pinned = self._pinned_blobs()
        for prefix in self._names(layout.BLOBS):
            for digest in {*self._names((*layout.BLOBS, prefix))} - pinned:
                self._blob(digest, before=self._before)

    def _kept_artifacts(self) -> frozenset[str]:
        lines = self._versions.lines()
        return self._pins.artifacts | {r.installed.artifact for line in lines for r in self._versions.records(line)}

    def _artifact(self, artifact: str) -> None:
        with Folder.open(self._data, layout.SWARM, create=True) as swarms:
            swarms.remove_tree(artifact, point="collect.swarm")
            swarms.sync(point="collect.swarm_sync")
        self._records.remove(artifact)
        self.collected = replace(self.collected, artifacts=(*self.collected.artifacts, artifact))

    def _blobs_of(self, content: Content) -> None:
        pinned = self._pinned_blobs()
        for digest in {f.sha256 for f in content.files} - pinned:
            # Removing its other names has just renewed its ctime: its age says nothing here.
            self._blob(digest, before=None)

    def _pinned_blobs(self) -> set[str]:
        found: set[str] = set()
        for artifact in self._pins.artifacts:
            try:
                found |= {f.sha256 for f in self._records.read(artifact).content.files}
            except NotKept:
                continue
        return found

    def _blob(self, digest: str, *, before: float | None) -> None:
        with Folder.open(self._data, layout.blob(digest)[:-1]) as shelf:
            found = shelf.stat(digest)
            # A hard link is a reference: versions, swarm folders and files handed over by their producer all count.
            if found is None or (before is not None and found.st_ctime > before):
                return
            # Names in the archive hold the bytes, and need no blob.
            if found.st_nlink > 1 + self._names_in_archive(digest):
                return
            freed = found.st_size if found.st_nlink == 1 else 0
            shelf.remove(digest, point="collect.blob")
        self.collected = replace(self.collected, blobs=self.collected.blobs + 1, bytes=self.collected.bytes + freed)

    def _names_in_archive(self, digest: str) -> int:
        if self._archived is None:
            self._archived = self._archive.names_of()
        return sum(self._archive.is_name_of(item, file) for item, file in self._archived.get(digest, ()))

    def _names(self, names: layout.Names) -> list[str]:
        try:
            with Folder.open(self._data, names) as folder:
                return folder.names()
        except FileNotFoundError:
            return []

    def _newest_change(self, *places: layout.Names) -> float:
        """Latest ctime of these entries and of all below them; a download changes its files."""
        newest = 0.0
        for *names, name in places:
            try:
                with Folder.open(self._data, tuple(names)) as folder:
                    newest = max(newest, _newest(folder, name))
            except FileNotFoundError:
                continue
        return newest


def _newest(folder: Folder, name: str) -> float:
    found = folder.stat(name)
    if found is None:
        return 0.0
    if not folder.is_folder(name):
        return found.st_ctime
    with folder.enter(name) as inner:
        return max([found.st_ctime, *(_newest(inner, n) for n in inner.names())])
