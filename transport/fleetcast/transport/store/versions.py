"""Installed versions: folders of hard links to blobs, each of which appears by one rename.

A version counts as installed when its record is there and every file of it is the blob of that name. The record is
written last, so that a crash leaves a version that is complete and repeated, or not installed.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from fleetcast.events.content import Content, ContentFile, Kind
from fleetcast.events.payloads import Checks, ManifestEnvelope
from fleetcast.events.state import InstalledVersion
from fleetcast.transport.errors import NotInstalled, VersionHeld
from fleetcast.transport.store import layout
from fleetcast.transport.store.blobs import Blobs, Mismatch, mismatch
from fleetcast.transport.store.folder import Folder, same_file, spare_name
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.records import Fingerprint, InstallRecord, read_install


class Versions:
    """The version folders of all models and lanes."""

    def __init__(self, data: Path, blobs: Blobs) -> None:
        self._data = data
        self._blobs = blobs

    def lines(self) -> list[Line]:
        """The models and lanes that have a folder."""
        return [Line(kind, name) for kind, shelf in layout.LINES.items() for name in self._names(shelf)]

    def _names(self, shelf: str) -> list[str]:
        try:
            with Folder.open(self._data, (shelf,)) as folder:
                return [n for n in folder.names() if folder.is_folder(n) and not n.startswith(".")]
        except FileNotFoundError:
            return []

    def records(self, line: Line) -> list[InstallRecord]:
        """Every record of a line, intact or not."""
        try:
            with self._installs(line) as installs:
                read = [read_install(installs, n) for n in installs.names()]
        except FileNotFoundError:
            return []
        return [r for r in read if r is not None]

    def installed(self, line: Line) -> list[InstalledVersion]:
        """The versions that are complete."""
        return [r.installed for r in self.records(line) if self.is_intact(line, r)]

    def record(self, line: Line, version: str) -> InstallRecord | None:
        return next((r for r in self.records(line) if r.installed.version == version), None)

    def is_intact(self, line: Line, record: InstallRecord) -> bool:
        """Whether every file is there as the blob of its name."""
        version = record.installed.version
        return all(same_file(self._blobs.stat(f.sha256), self._stat(line, version, f)) for f in record.content.files)

    def _stat(self, line: Line, version: str, file: ContentFile) -> os.stat_result | None:
        try:
            with self.folder_of(line, version, file) as (folder, name):
                return folder.stat(name)
        except FileNotFoundError:
            return None

    def install(
        self,
        line: Line,
        version: str,
        content: Content,
        checks: Checks,
        transport: str,
        seconds: float,
        envelope: ManifestEnvelope | None = None,
    ) -> InstalledVersion:
        """Make content that is in the store visible as a version; repeated, it completes what is missing, and the
        manifest by which it came first stays.

        Raises:
            VersionHeld: the version is installed with other content.
            NotKept: a blob is missing.
        """
        known = self.record(line, version)
        if known is not None and known.installed.artifact != content.artifact:
            raise VersionHeld(
                f"{line.name}@{version} is installed as artifact {known.installed.artifact}, not {content.artifact}",
                next_step="publish the new bytes under a new version",
            )
        if known is not None and self.is_intact(line, known):
            return known.installed
        self._publish(line, version, content)
        first = known.envelope if known is not None and known.envelope is not None else envelope
        return self._note(line, version, content, checks, transport, seconds, first)

    def _publish(self, line: Line, version: str, content: Content) -> None:
        with Folder.open(self._data, line.names, create=True) as folder:
            if folder.is_folder(version):
                if _holds_only(folder, version, content):
                    self.mend(line, version, content)
                    return
                self._set_aside(folder, version)
            self._stage_and_rename(folder, version, content)

    def _set_aside(self, folder: Folder, version: str) -> None:
        """Take away what has the name of a version and holds files that its content has not: files of two contents
        never share a folder."""
        spare = spare_name()
        with folder.staging() as staging:
            folder.rename(version, staging, spare, point="install.clear")
            folder.sync(point="install.clear_sync")
            staging.remove_tree(spare, point="install.clear_tree")

    def _stage_and_rename(self, folder: Folder, version: str, content: Content) -> None:
        spare = spare_name()
        with folder.staging() as staging:
            with staging.enter(spare, create=True) as fresh:
                for file in content.files:
                    self._place(fresh, file)
                sync_tree(fresh)
            staging.rename(spare, folder, version, point="install.publish")
            folder.sync(point="install.publish_sync")

    def _place(self, root: Folder, file: ContentFile) -> None:
        with descend(root, file.path, create=True) as (folder, name):
            self._blobs.link_to(file, folder, name, point="install.link")

    def mend(self, line: Line, version: str, content: Content) -> None:
        """Let every file of a version folder be its blob; each changes in one step."""
        for file in content.files:
            with self.folder_of(line, version, file, create=True) as (folder, name):
                if self._blobs.link_to(file, folder, name, point="mend.link"):
                    folder.sync(point="mend.sync")

    def mend_all(self, files: Iterable[ContentFile]) -> None:
        """Bring blobs that are there again back to every version that has lost them."""
        digests = {f.sha256 for f in files}
        for line in self.lines():
            for record in self.records(line):
                mine = [f for f in record.content.files if f.sha256 in digests]
                if mine and not self.is_intact(line, record):
                    self._mend_files(line, record.installed.version, mine)

    def _mend_files(self, line: Line, version: str, files: list[ContentFile]) -> None:
        for file in files:
            with self.folder_of(line, version, file, create=True) as (folder, name):
                self._blobs.link_to(file, folder, name, point="mend_all.link")
                folder.sync(point="mend_all.sync")

    def _note(
        self,
        line: Line,
        version: str,
        content: Content,
        checks: Checks,
        transport: str,
        seconds: float,
        envelope: ManifestEnvelope | None,
    ) -> InstalledVersion:
        installed = InstalledVersion(
            version=version,
            artifact=content.artifact,
            bytes=content.size,
            checks=checks,
            transport=transport,
            seconds=seconds,
            installed_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        proven = self._look(line, version, content)
        self._write(line, InstallRecord(installed=installed, content=content, proven=proven, envelope=envelope))
        return installed

    def _look(self, line: Line, version: str, content: Content) -> dict[str, Fingerprint]:
        """What the files of a version look like now; missing ones are left out."""
        found = {f.path: self._stat(line, version, f) for f in content.files}
        return {path: Fingerprint.of(state) for path, state in found.items() if state is not None}

    def is_untouched(self, line: Line, version: str) -> bool:
        """Whether the files of an installed version look as they did when they were proven last: a few calls, where
        reading them again would take as long as the disk needs for all their bytes."""
        record = self.record(line, version)
        if record is None or not record.proven:
            return False
        return self._look(line, version, record.content) == record.proven

    def prove(self, line: Line, version: str) -> list[Mismatch]:
        """Read the files of an installed version and compare their SHA-256; when they are right, keep what they look
        like. Files that were written to meanwhile look otherwise afterwards, and are read again next time.

        Raises:
            NotInstalled: there is no such version.
        """
        record = self.record(line, version)
        if record is None:
            raise NotInstalled(f"{line.name}@{version} is not installed on this node")
        before = self._look(line, version, record.content)
        wrong = self.verify(line, version, record.content)
        if not wrong and before != record.proven:
            self._write(line, record.model_copy(update={"proven": before}))
        return wrong

    def confirm(self, line: Line, version: str) -> InstalledVersion:
        """Note that the flat SHA-256 of an installed version was proven as well.

        Raises:
            NotInstalled: there is no such version.
        """
        record = self.record(line, version)
        if record is None:
            raise NotInstalled(f"{line.name}@{version} is not installed on this node")
        checks = record.installed.checks.model_copy(update={"sha256": "confirmed"})
        installed = record.installed.model_copy(update={"checks": checks})
        self._write(line, record.model_copy(update={"installed": installed}))
        return installed

    def _write(self, line: Line, record: InstallRecord) -> None:
        name = layout.install_record(record.installed.version)
        with self._installs(line, create=True) as installs:
            installs.write(name, record.model_dump_json().encode(), point="install.record")

    def remove(self, line: Line, version: str) -> None:
        """Take a version away: its folder disappears in one step, then its record."""
        spare = spare_name()
        with Folder.open(self._data, line.names, create=True) as folder, folder.staging() as staging:
            if folder.is_folder(version):
                folder.rename(version, staging, spare, point="remove.hide")
                folder.sync(point="remove.hide_sync")
            with self._installs(line, create=True) as installs:
                installs.remove(layout.install_record(version), point="remove.record")
                installs.sync(point="remove.record_sync")
            staging.remove_tree(spare, point="remove.tree")

    def verify(self, line: Line, version: str, content: Content) -> list[Mismatch]:
        """Read the files of a version and compare their SHA-256."""
        return [m for f in content.files if (m := self._verify(line, version, f)) is not None]

    def _verify(self, line: Line, version: str, file: ContentFile) -> Mismatch | None:
        try:
            with self.folder_of(line, version, file) as (folder, name):
                return mismatch(folder, name, file)
        except FileNotFoundError:
            return Mismatch(file.path, file.sha256, "missing")

    def expel(self, files: Iterable[ContentFile]) -> None:
        """Remove every file of a version that should be one of these blobs and is not: a name holds proven bytes or
        nothing."""
        digests = {f.sha256 for f in files}
        for line in self.lines():
            for record in self.records(line):
                for file in record.content.files:
                    if file.sha256 in digests:
                        self._expel(line, record.installed.version, file)

    def _expel(self, line: Line, version: str, file: ContentFile) -> None:
        with contextlib.suppress(FileNotFoundError), self.folder_of(line, version, file) as (folder, name):
            if not same_file(self._blobs.stat(file.sha256), folder.stat(name)):
                folder.remove(name, point="expel.remove")
                folder.sync(point="expel.sync")

    def _installs(self, line: Line, *, create: bool = False) -> Folder:
        return Folder.open(self._data, (*line.names, layout.INSTALLS), create=create)

    @contextlib.contextmanager
    def folder_of(
        self, line: Line, version: str, file: ContentFile, *, create: bool = False
    ) -> Iterator[tuple[Folder, str]]:
        """Open the folder that a file of a version lies in, and say its name there."""
        names = layout.version(line.kind, line.name, version)
        with Folder.open(self._data, names, create=create) as root, descend(root, file.path, create=create) as place:
            yield place


def line_of(content: Content, name: str) -> Line:
    """The line that content of this kind belongs to."""
    return Line(Kind.DATASET if content.kind is Kind.DATASET else Kind.MODEL, name)


@contextlib.contextmanager
def descend(root: Folder, path: str, *, create: bool) -> Iterator[tuple[Folder, str]]:
    """Open the folder that the file *path* lies in."""
    *folders, name = path.split("/")
    with contextlib.ExitStack() as stack:
        here = root
        for folder in folders:
            here = stack.enter_context(here.enter(folder, create=create))
        yield here, name


def _holds_only(folder: Folder, version: str, content: Content) -> bool:
    """Whether every file in a version's folder has a name that its content has too."""
    with folder.enter(version) as root:
        return set(_names_below(root)) <= {f.path for f in content.files}


def _names_below(folder: Folder) -> Iterator[str]:
    """Every name in a folder that is no folder, as a path below it."""
    for name in folder.names():
        if folder.is_folder(name):
            with folder.enter(name) as inner:
                yield from (f"{name}/{below}" for below in _names_below(inner))
        else:
            yield name


def sync_tree(folder: Folder) -> None:
    """Make the entries of a folder and of all below it last."""
    for name in folder.names():
        if folder.is_folder(name):
            with folder.enter(name) as inner:
                sync_tree(inner)
    folder.sync(point="install.stage_sync")
