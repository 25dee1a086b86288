"""Pointers: what `current`, `previous` and the flat view say, moved by slot orders only.

The order is written down first (`.slot.json.next`), then the pointers are flipped one by one, then the note takes its
final name. A crash between these steps is completed at the next start: every step can be repeated.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from fleetcast.events.content import ContentFile, Kind, safe_relative_path
from fleetcast.events.state import SlotEntry, SlotState
from fleetcast.transport.errors import NotInstalled, PathRefused, StaleGeneration, StoreError
from fleetcast.transport.store import layout
from fleetcast.transport.store.folder import Folder
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.records import AppliedSlot, InstallRecord, read_applied
from fleetcast.transport.store.versions import Versions

SERVED_KEPT = 32
"""Versions remembered as having been in production; retention needs `keep_versions` of them."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What the pointers of a line say after a slot order.

    Attributes:
        slot: the order in force.
        changed: False when the order was in force already.
        current: path behind `current`; None when nothing is in production.
        previous: path behind `previous`; None when there is none on this node.
        essential: path in the flat view, for models.
    """

    slot: SlotState
    changed: bool
    current: Path | None
    previous: Path | None
    essential: Path | None


class Pointers:
    """Moves the pointers of all lines of one data folder."""

    def __init__(self, data: Path, versions: Versions, essential_name: str) -> None:
        self._data = data
        self._versions = versions
        self._essential_name = essential_name

    def applied(self, line: Line) -> AppliedSlot | None:
        """The slot order in force; None before the first one."""
        try:
            with Folder.open(self._data, line.names) as folder:
                return read_applied(folder, layout.SLOT)
        except FileNotFoundError:
            return None

    def activate(self, slot: SlotState) -> Activation:
        """Obey a slot order.

        Raises:
            StaleGeneration: the order in force is newer, or has the same generation and says something else.
            NotInstalled: what it puts into production is not installed here.
            PathRefused: the name in the flat view belongs to another model.
        """
        line = _line_of(slot)
        applied = self.applied(line)
        for known in (applied, self._intended(line)):
            _check_generation(slot, known)
        record = self._production(line, slot)
        essential = self._essential(line, record)
        wanted = AppliedSlot(slot=slot, served=_served(slot, applied))
        with Folder.open(self._data, line.names, create=True) as folder:
            if changed := applied is None or applied.slot != slot:
                folder.write(layout.SLOT_NEXT, wanted.model_dump_json(by_alias=True).encode(), point="slot.intend")
            self._flip(folder, line, slot, essential)
            if changed:
                folder.rename(layout.SLOT_NEXT, folder, layout.SLOT, point="slot.apply")
                folder.sync(point="slot.apply_sync")
        return self._activation(line, slot, essential, changed=changed)

    def damaged(self, line: Line) -> list[str]:
        """Files of slot orders that cannot be read: the disk lost what was written durably."""
        with Folder.open(self._data, line.names) as folder:
            return [n for n in (layout.SLOT, layout.SLOT_NEXT) if not _is_readable(folder, n)]

    def complete(self, line: Line) -> None:
        """Finish an activation that was cut off."""
        intended = self._intended(line)
        if intended is None:
            return
        try:
            self.activate(intended.slot)
        except (NotInstalled, StaleGeneration):
            with Folder.open(self._data, line.names) as folder:
                folder.remove(layout.SLOT_NEXT, point="slot.forget")

    def _intended(self, line: Line) -> AppliedSlot | None:
        """An order whose flips have begun and not ended."""
        try:
            with Folder.open(self._data, line.names) as folder:
                return read_applied(folder, layout.SLOT_NEXT)
        except FileNotFoundError:
            return None

    def _production(self, line: Line, slot: SlotState) -> InstallRecord | None:
        if slot.production is None:
            return None
        record = self._held(line, slot.production)
        if record is None:
            raise NotInstalled(f"{slot.model}@{slot.production.version} is not installed on this node")
        return record

    def _held(self, line: Line, entry: SlotEntry | None) -> InstallRecord | None:
        """The record of what an entry names, when this node has it intact."""
        record = self._versions.record(line, entry.version) if entry else None
        if record is None or entry is None or record.installed.artifact != entry.artifact:
            return None
        return record if self._versions.is_intact(line, record) else None

    def _flip(self, folder: Folder, line: Line, slot: SlotState, essential: str | None) -> None:
        # `previous` first: between the steps it may name the version that is still current, but never an older one.
        previous = slot.previous if self._held(line, slot.previous) else None
        _point(folder, layout.PREVIOUS, previous)
        _point(folder, layout.CURRENT, slot.production)
        if line.kind is Kind.MODEL:
            self._show(line, slot, essential)

    def _show(self, line: Line, slot: SlotState, essential: str | None) -> None:
        """Switch the flat view, then drop names that the model had before."""
        target = self._essential_target(line, slot)
        with Folder.open(self._data, layout.ESSENTIAL, create=True) as view:
            if essential and target and view.target(essential) != target:
                view.flip(essential, target, point="essential.flip")
            for name in self._shown(view, line):
                if name != essential:
                    view.remove(name, point="essential.drop")
                    view.sync(point="essential.drop_sync")

    def _essential_target(self, line: Line, slot: SlotState) -> str | None:
        record = self._held(line, slot.production)
        if record is None:
            return None
        below = f"/{single.path}" if (single := _single_file(record)) else ""
        return f"../{'/'.join(line.names)}/{record.installed.version}{below}"

    def _essential(self, line: Line, record: InstallRecord | None) -> str | None:
        """The name in the flat view, checked before anything moves."""
        if record is None or line.kind is not Kind.MODEL:
            return None
        suffix = Path(single.path).suffix if (single := _single_file(record)) else ""
        name = _rendered(self._essential_name, line.name, record.installed.version, suffix)
        with contextlib.suppress(FileNotFoundError), Folder.open(self._data, layout.ESSENTIAL) as view:
            if view.stat(name) is not None and name not in self._shown(view, line):
                raise PathRefused(
                    f"models_essential/{name} is not a pointer of {line.name}",
                    next_step="let store.essential_name contain {model}, or move that file away",
                )
        return name

    def _shown(self, view: Folder, line: Line) -> list[str]:
        start = f"../{'/'.join(line.names)}/"
        return [n for n in view.names() if (view.target(n) or "").startswith(start)]

    def _activation(self, line: Line, slot: SlotState, essential: str | None, *, changed: bool) -> Activation:
        home = layout.absolute(self._data, line.names)
        return Activation(
            slot=slot,
            changed=changed,
            current=home / layout.CURRENT if slot.production else None,
            previous=home / layout.PREVIOUS if self._held(line, slot.previous) else None,
            essential=layout.absolute(self._data, (*layout.ESSENTIAL, essential)) if essential else None,
        )


def _single_file(record: InstallRecord) -> ContentFile | None:
    """The file of a version that is one; None: the version is its folder, as a bundle is whatever it holds."""
    files = record.content.files
    return files[0] if len(files) == 1 and record.content.kind is not Kind.BUNDLE else None


def _is_readable(folder: Folder, name: str) -> bool:
    try:
        read_applied(folder, name)
    except StoreError:
        return False
    return True


def _line_of(slot: SlotState) -> Line:
    return Line(Kind.DATASET if slot.kind is Kind.DATASET else Kind.MODEL, slot.model)


def _point(folder: Folder, name: str, entry: SlotEntry | None) -> None:
    """Let a pointer name a version, or nothing."""
    if entry is None:
        if folder.stat(name) is not None:
            folder.remove(name, point="pointer.drop")
            folder.sync(point="pointer.drop_sync")
    elif folder.target(name) != entry.version:
        folder.flip(name, entry.version, point="pointer.flip")


def _check_generation(slot: SlotState, applied: AppliedSlot | None) -> None:
    if applied is None or slot == applied.slot or slot.generation > applied.slot.generation:
        return
    in_force = applied.slot.generation
    how = "contradicts" if slot.generation == in_force else "is older than"
    raise StaleGeneration(f"slot order {slot.generation} of {slot.model} {how} order {in_force}, which is in force")


def _served(slot: SlotState, applied: AppliedSlot | None) -> tuple[str, ...]:
    before = applied.served if applied else ()
    newest = [e.version for e in (slot.production, slot.previous) if e]
    return tuple(dict.fromkeys((*newest[:1], *before, *newest[1:])))[:SERVED_KEPT]


def _rendered(template: str, model: str, version: str, suffix: str) -> str:
    try:
        return _one_segment(template.format(model=model, version=version, suffix=suffix))
    except (ValueError, KeyError, IndexError, AttributeError) as wrong:
        raise PathRefused(
            f"store.essential_name {template!r} gives no file name: {wrong}",
            next_step='set store.essential_name = "{model}{suffix}" in fleetcast.toml',
        ) from wrong


def _one_segment(name: str) -> str:
    if os.sep in name or name.startswith("."):
        raise ValueError("a name in the flat view is one visible segment")
    return safe_relative_path(name)
