"""Quarantine: bytes that failed a verification are kept for inspection, within a bound, where no reader looks."""

from pathlib import Path

from pydantic import Field

from fleetcast.events.content import Value
from fleetcast.events.ids import new_ulid
from fleetcast.transport.store import layout
from fleetcast.transport.store.blobs import Mismatch
from fleetcast.transport.store.folder import Folder

BYTES, REASON = "bytes", "reason.json"


class QuarantineReason(Value):
    """Why bytes lie in quarantine.

    Attributes:
        path: where they lay, relative to the data folder.
        source: node that they came from, when one is known.
    """

    path: str
    reason: str
    source: str | None = None
    size: int = Field(ge=0)
    expected: str | None = None
    actual: str | None = None


class Quarantine:
    """`<data>/quarantine/`, one folder per file, named so that the order of names is the order of time."""

    def __init__(self, data: Path, limit_bytes: int) -> None:
        self._data = data
        self._limit_bytes = limit_bytes

    def take(
        self, folder: Folder, name: str, reason: str, *, source: str | None = None, found: Mismatch | None = None
    ) -> Path:
        """Move a file out of its readers' way; the reason stays even when the bytes are more than the bound."""
        note = self._note(folder, name, reason, source, found)
        case = new_ulid()
        with Folder.open(self._data, layout.QUARANTINE, create=True) as cases:
            with cases.enter(case, create=True) as ward:
                ward.write(REASON, note.model_dump_json().encode(), point="quarantine.reason")
                self._move(folder, name, ward, note)
            self._bound(cases)
        return layout.absolute(self._data, (*layout.QUARANTINE, case))

    def _note(
        self, folder: Folder, name: str, reason: str, source: str | None, found: Mismatch | None
    ) -> QuarantineReason:
        entry = folder.stat(name)
        return QuarantineReason(
            path=str((folder.path / name).relative_to(self._data)),
            reason=reason,
            source=source,
            size=entry.st_size if entry else 0,
            expected=found.expected if found else None,
            actual=found.actual if found else None,
        )

    def _move(self, folder: Folder, name: str, ward: Folder, note: QuarantineReason) -> None:
        if note.size > self._limit_bytes:
            folder.remove(name, point="quarantine.drop")
        else:
            folder.rename(name, ward, BYTES, point="quarantine.move")
            ward.sync(point="quarantine.move_sync")
        folder.sync(point="quarantine.left")

    def cases(self) -> list[tuple[str, QuarantineReason]]:
        """What lies in quarantine, the oldest first: name of the case and its reason."""
        try:
            with Folder.open(self._data, layout.QUARANTINE) as cases:
                return [(name, reason) for name in cases.names() if (reason := _reason(cases, name))]
        except FileNotFoundError:
            return []

    def _bound(self, cases: Folder) -> None:
        """Let the oldest bytes go until the rest is within the bound."""
        sizes = {name: _size(cases, name) for name in cases.names()}
        for name in sorted(sizes):
            if sum(sizes.values()) <= self._limit_bytes:
                return
            if sizes.pop(name):
                cases.remove_tree(name, point="quarantine.expire")


def _size(cases: Folder, case: str) -> int:
    with cases.enter(case) as ward:
        found = ward.stat(BYTES)
        return found.st_size if found else 0


def _reason(cases: Folder, case: str) -> QuarantineReason | None:
    with cases.enter(case) as ward:
        return QuarantineReason.model_validate_json(ward.read(REASON)) if ward.is_file(REASON) else None
