"""The archive of one node: versions that left every other place, in folders by month and reason (seed 001, 6.2).

`<data>/archive/YYYYMM/CLASS/MODEL/VERSION/…`, and in each month's folder `archived_manifest.json`. Bytes come here as
further names of blobs, so that nothing is copied and nothing is without a name at any moment: first the names, then
the manifest, and only then (`Store.retire`) the names in the store go. What the manifest lists is complete, or in the
store again and on its way out of the archive.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from threading import RLock
from typing import Any

from pydantic import Field, ValidationError

from fleetcast.events.content import Content, ContentFile, Value
from fleetcast.events.ids import Name, Version
from fleetcast.events.lifecycle import ArchiveRule, StageName
from fleetcast.transport.errors import PathRefused, StoreError
from fleetcast.transport.store import layout
from fleetcast.transport.store.blobs import Blobs, Mismatch, mismatch
from fleetcast.transport.store.folder import Folder, same_file, spare_name, store_errors
from fleetcast.transport.store.versions import descend, sync_tree

MANIFEST = "archived_manifest.json"
_FOLDER = re.compile(r"[0-9]{6}/[a-z_]{1,40}/[^/]+/[^/]+")


class ArchivedItem(Value):
    """A version in the archive, and how it came there.

    Attributes:
        folder: below `<data>/archive`.
        stage: where it stood before.
        n: the audit record of the decision.
        facts: what the registry knew of it.
    """

    model: Name
    version: Version
    artifact: str
    content: Content
    folder: str
    stage: StageName
    rule: ArchiveRule
    reason: str
    by: str
    at: str
    n: int
    facts: dict[str, Any] = {}


class ArchivedManifest(Value):
    """Everything that was archived in one month."""

    schema_: int = Field(default=1, alias="schema")
    month: str
    archived: tuple[ArchivedItem, ...] = ()

    def get(self, folder: str) -> ArchivedItem | None:
        """The version in a folder."""
        return next((item for item in self.archived if item.folder == folder), None)

    def without(self, folder: str) -> "ArchivedManifest":
        rest = tuple(item for item in self.archived if item.folder != folder)
        return self.model_copy(update={"archived": rest})


class Archive:
    """Versions in the archive. Methods block, and may raise `StoreError` like those of `Store`."""

    def __init__(self, data: Path, blobs: Blobs, changing: RLock) -> None:
        self._data = data
        self._blobs = blobs
        self._changing = changing

    def items(self) -> list[ArchivedItem]:
        """Everything that is listed; months whose manifest cannot be read are left out."""
        with store_errors("cannot list the archive"):
            return list(self._items())

    def _items(self) -> Iterator[ArchivedItem]:
        for month in self._months():
            with contextlib.suppress(StoreError):
                yield from self._manifest(month).archived

    def item(self, folder: str) -> ArchivedItem | None:
        """The version that is listed with this folder.

        Raises:
            StoreError: the manifest of its month cannot be read.
        """
        month, *_ = _parts(folder)
        with store_errors(f"cannot read the archive of {month}"):
            return self._manifest(month).get(folder)

    def keep(self, item: ArchivedItem) -> None:
        """Let the archive hold content that is in the store, and list it; may be repeated.

        Raises:
            NotKept: a file is not in the store.
            StoreError: the manifest of the month cannot be read, and is not replaced.
        """
        month, *_ = _parts(item.folder, item)
        with self._changing, store_errors(f"cannot archive {item.model}@{item.version}"):
            manifest = self._manifest(month)
            known = manifest.get(item.folder)
            is_there = known is not None and known.artifact == item.artifact and not self._lacking(known)
            if is_there and known == item:
                return
            if not is_there:
                self._place(item)
            listed = manifest.without(item.folder)
            self._write(listed.model_copy(update={"archived": (*listed.archived, item)}))

    def prove(self, item: ArchivedItem) -> list[Mismatch]:
        """Read every byte of a version in the archive and compare SHA-256; what is wrong, file by file."""
        with store_errors(f"cannot read {item.folder} of the archive"):
            return [m for file in item.content.files if (m := self._prove(item, file)) is not None]

    def give_back(self, item: ArchivedItem) -> None:
        """Let proven files of the archive be part of the store again; the archive keeps its names.

        Raises:
            VerificationFailed: a file has another size.
        """
        with self._changing, store_errors(f"cannot bring {item.model}@{item.version} back"):
            for file in item.content.files:
                if not self._blobs.holds(file):
                    with self._folder_of(item, file) as (folder, name):
                        self._blobs.adopt(folder, name, file)

    def forget(self, folder: str) -> None:
        """Take a version out of the archive: it is elsewhere. Nothing happens when it is gone."""
        month, *names, version = _parts(folder)
        with self._changing, store_errors(f"cannot clear {folder} of the archive"):
            manifest = self._manifest(month)
            with contextlib.suppress(FileNotFoundError):
                self._hide((*layout.ARCHIVE, month, *names), version)
            # Last, so that whoever is interrupted does all of it again.
            if manifest.get(folder) is not None:
                self._write(manifest.without(folder))

    def _hide(self, names: layout.Names, version: str) -> None:
        spare = spare_name()
        with Folder.open(self._data, names) as home, home.staging() as staging:
            if home.is_folder(version):
                home.rename(version, staging, spare, point="archive.hide")
                home.sync(point="archive.hide_sync")
                staging.remove_tree(spare, point="archive.tree")

    def names_of(self) -> dict[str, list[tuple[ArchivedItem, ContentFile]]]:
        """Where listed files lie, by SHA-256."""
        found: dict[str, list[tuple[ArchivedItem, ContentFile]]] = {}
        for item in self._items():
            for file in item.content.files:
                found.setdefault(file.sha256, []).append((item, file))
        return found

    def is_name_of(self, item: ArchivedItem, file: ContentFile) -> bool:
        """Whether a file of the archive is the blob of its digest, under another name."""
        try:
            with self._folder_of(item, file) as (folder, name):
                return same_file(self._blobs.stat(file.sha256), folder.stat(name))
        except FileNotFoundError:
            return False

    # -- inside

    def _months(self) -> list[str]:
        try:
            with Folder.open(self._data, layout.ARCHIVE) as archive:
                return [name for name in archive.names() if archive.is_folder(name)]
        except FileNotFoundError:
            return []

    def _manifest(self, month: str) -> ArchivedManifest:
        try:
            with Folder.open(self._data, (*layout.ARCHIVE, month)) as folder:
                return ArchivedManifest.model_validate_json(folder.read(MANIFEST))
        except FileNotFoundError:
            return ArchivedManifest(month=month)
        except ValidationError as damaged:
            place = layout.absolute(self._data, (*layout.ARCHIVE, month, MANIFEST))
            raise StoreError(
                f"{place} is damaged: {damaged.errors()[0]['msg']}",
                next_step="put it right, or bring it back from a backup; the files beside it are as they were",
            ) from damaged

    def _write(self, manifest: ArchivedManifest) -> None:
        data = manifest.model_dump_json(by_alias=True, indent=2).encode()
        with Folder.open(self._data, (*layout.ARCHIVE, manifest.month), create=True) as folder:
            folder.write(MANIFEST, data, point="archive.manifest")

    def _place(self, item: ArchivedItem) -> None:
        """Let the version's folder appear in one step; what an interrupted call left there goes first."""
        month, *names, version = _parts(item.folder)
        spare = spare_name()
        with Folder.open(self._data, (*layout.ARCHIVE, month, *names), create=True) as home, home.staging() as staging:
            if home.is_folder(version):
                left = spare_name()
                home.rename(version, staging, left, point="archive.clear")
                staging.remove_tree(left, point="archive.clear_tree")
            with staging.enter(spare, create=True) as fresh:
                for file in item.content.files:
                    with descend(fresh, file.path, create=True) as (folder, name):
                        self._blobs.link_to(file, folder, name, point="archive.link")
                sync_tree(fresh)
            staging.rename(spare, home, version, point="archive.publish")
            home.sync(point="archive.publish_sync")

    def _lacking(self, item: ArchivedItem) -> bool:
        """Whether a file is not there with its size."""
        return not all(self._has(item, file) for file in item.content.files)

    def _has(self, item: ArchivedItem, file: ContentFile) -> bool:
        try:
            with self._folder_of(item, file) as (folder, name):
                found = folder.stat(name)
        except FileNotFoundError:
            return False
        return found is not None and found.st_size == file.size

    def _prove(self, item: ArchivedItem, file: ContentFile) -> Mismatch | None:
        try:
            with self._folder_of(item, file) as (folder, name):
                return mismatch(folder, name, file)
        except FileNotFoundError:
            return Mismatch(file.path, file.sha256, "missing")

    @contextlib.contextmanager
    def _folder_of(self, item: ArchivedItem, file: ContentFile) -> Iterator[tuple[Folder, str]]:
        names = (*layout.ARCHIVE, *_parts(item.folder, item))
        with Folder.open(self._data, names) as root, descend(root, file.path, create=False) as place:
            yield place


def _parts(folder: str, item: ArchivedItem | None = None) -> tuple[str, ...]:
    """The segments of a version's folder.

    Raises:
        PathRefused: it is none, or another version's.
    """
    parts = tuple(folder.split("/"))
    fits = _FOLDER.fullmatch(folder) is not None and not {"", ".", ".."} & set(parts)
    if not fits or (item is not None and parts[2:] != (item.model, item.version)):
        raise PathRefused(f"{folder!r} is not the folder of a version in an archive")
    return parts
