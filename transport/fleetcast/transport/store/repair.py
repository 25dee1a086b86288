"""Repair: damaged bytes leave every name that readers use; what is intact elsewhere on this node takes their place."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from fleetcast.events.content import Content, ContentFile
from fleetcast.transport.store.blobs import Blobs, Mismatch, mismatch
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.quarantine import Quarantine
from fleetcast.transport.store.records import ArtifactRecords, InstallRecord
from fleetcast.transport.store.versions import Versions


class Repair:
    """Acts on blobs, versions and swarm folders together."""

    def __init__(self, blobs: Blobs, versions: Versions, quarantine: Quarantine, records: ArtifactRecords) -> None:
        self._blobs = blobs
        self._versions = versions
        self._quarantine = quarantine
        self._records = records

    def withdraw(self, content: Content, paths: Iterable[str], source: str | None) -> list[Path]:
        """Take damaged files away from every reader; returns their cases in quarantine."""
        wanted = set(paths)
        files = [f for f in content.files if f.path in wanted]
        wrong = {m.path: m for m in self._blobs.verify(files)}
        cases = [c for f in files if f.path in wrong and (c := self._isolate(f, wrong[f.path], source))]
        self._versions.expel(files)
        self._expel_from_swarms(content, files)
        self._versions.mend_all(f for f in files if f.path not in wrong)
        return cases

    def _isolate(self, file: ContentFile, wrong: Mismatch, source: str | None) -> Path | None:
        if self._blobs.stat(file.sha256) is None:
            return None
        with self._blobs.folder(file.sha256) as shelf:
            reason = f"SHA-256 of {file.path} is not what its name says"
            return self._quarantine.take(shelf, file.sha256, reason, source=source, found=wrong)

    def _expel_from_swarms(self, content: Content, files: list[ContentFile]) -> None:
        digests = {f.sha256 for f in files}
        for known in (content, *(r.content for r in self._records.all())):
            self._blobs.expel(known.artifact, [f for f in known.files if f.sha256 in digests])

    def adopt_or_expel(self, line: Line) -> None:
        """After a crash: bytes in a version that are no blob become one when they are right, else they leave.

        Normally there are none, and nothing is read.
        """
        for record in self._versions.records(line):
            if not self._versions.is_intact(line, record):
                self._adopt_or_expel(line, record)
                self._versions.mend_all(f for f in record.content.files if self._blobs.holds(f))

    def _adopt_or_expel(self, line: Line, record: InstallRecord) -> None:
        for file in record.content.files:
            place = self._versions.folder_of(line, record.installed.version, file)
            with contextlib.suppress(FileNotFoundError), place as (folder, name):
                if folder.stat(name) is None or self._blobs.holds(file):
                    continue
                if (wrong := mismatch(folder, name, file)) is None:
                    self._blobs.adopt(folder, name, file)
                else:
                    reason = f"{file.path} of {line.name}@{record.installed.version} is not what was installed"
                    self._quarantine.take(folder, name, reason, found=wrong)
