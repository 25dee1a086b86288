"""Pointers: what `current`, `previous`, `canary`, the flat view and `slots.json` say, moved by slot orders only.

The order is written down first (`.slot.json.next`), then the pointers are flipped one by one, then the note takes its
final name. A crash between these steps is completed at the next start: every step can be repeated.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetcast.events.content import ContentFile, Kind, safe_relative_path
from fleetcast.events.state import SlotEntry, SlotState
from fleetcast.transport.errors import NotInstalled, PathRefused, StaleGeneration, StoreError
from fleetcast.transport.store import layout
from fleetcast.transport.store.folder import Folder
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.records import AppliedSlot, InstallRecord, SlotName, read_applied
from fleetcast.transport.store.slotsfile import slots_file
from fleetcast.transport.store.versions import Versions

SERVED_KEPT = 32
"""Versions remembered as having been in production; retention needs `keep_versions` of them."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What the pointers of a line say after a slot order.

    Attributes:
        applied: the order in force, and how far it could be obeyed.
        changed: False when it was in force just so already.
        current: path behind `current`; None when nothing is in production.
        previous: path behind `previous`; None when there is none on this node.
        canary: path behind `canary`; None when there is none on this node, or `current` leads to it.
        essential: path in the flat view, for models.
    """

    applied: AppliedSlot
    changed: bool
    current: Path | None
    previous: Path | None
    canary: Path | None
    essential: Path | None

    @property
    def slot(self) -> SlotState:
        """The order in force."""
        return self.applied.slot


@dataclass(frozen=True, slots=True)
class _Aim:
    """What the pointers of a line shall say; `held`: the records of what is here, by slot."""

    line: Line
    applied: AppliedSlot
    held: Mapping[SlotName, InstallRecord]
    essential: str | None

    @property
    def current(self) -> InstallRecord | None:
        follows = self.applied.follows
        return None if follows is None else self.held.get(follows)

    @property
    def canary(self) -> InstallRecord | None:
        """What a pointer beside `current` shows."""
        return None if self.applied.follows == "canary" else self.held.get("canary")


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

    def activate(self, slot: SlotState, *, on_canary: bool = False, drained: bool = False) -> Activation:
        """Obey a slot order; repeated, it shows what has come here meanwhile.

        Args:
            on_canary: whether this is a node of the canary.
            drained: whether this node is out of service.

        Raises:
            StaleGeneration: the order in force is newer, or has the same generation and says something else.
            NotInstalled: what it puts into production is not installed here.
            PathRefused: the name in the flat view belongs to another model.
        """
        line = _line_of(slot)
        applied = self.applied(line)
        for known in (applied, self._intended(line)):
            _check_generation(slot, known)
        aim = self._aim(line, slot, applied, on_canary=on_canary, drained=drained)
        with Folder.open(self._data, line.names, create=True) as folder:
            if changed := applied != aim.applied:
                document = aim.applied.model_dump_json(by_alias=True).encode()
                folder.write(layout.SLOT_NEXT, document, point="slot.intend")
            self._flip(folder, aim)
            if changed:
                folder.rename(layout.SLOT_NEXT, folder, layout.SLOT, point="slot.apply")
                folder.sync(point="slot.apply_sync")
        return self._activation(aim, changed=changed)

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
            self.activate(intended.slot, on_canary=intended.on_canary, drained=intended.drained)
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

    def _aim(self, line: Line, slot: SlotState, before: AppliedSlot | None, *, on_canary: bool, drained: bool) -> _Aim:
        entries: dict[SlotName, SlotEntry | None] = {
            "production": slot.production,
            "canary": slot.canary,
            "previous": slot.previous,
        }
        found = {name: self._held(line, entry) for name, entry in entries.items()}
        held = {name: record for name, record in found.items() if record is not None}
        if slot.production is not None and "production" not in held:
            raise NotInstalled(f"{slot.model}@{slot.production.version} is not installed on this node")
        applied = AppliedSlot(
            slot=slot, served=_served(slot, before), on_canary=on_canary, shown=tuple(held), drained=drained
        )
        shown = held[applied.follows] if applied.follows else None
        return _Aim(line, applied, held, self._essential(line, shown))

    def _held(self, line: Line, entry: SlotEntry | None) -> InstallRecord | None:
        """The record of what an entry names, when this node has it intact."""
        record = self._versions.record(line, entry.version) if entry else None
        if record is None or entry is None or record.installed.artifact != entry.artifact:
            return None
        return record if self._versions.is_intact(line, record) else None

    def _flip(self, folder: Folder, aim: _Aim) -> None:
        # What stands beside `current` comes before it and goes after it: between the steps a name may lead to a version
        # that is current as well, but never to one that the order takes away.
        _point(folder, layout.PREVIOUS, aim.held.get("previous"))
        if aim.canary is not None:
            _point(folder, layout.CANARY, aim.canary)
        _point(folder, layout.CURRENT, aim.current)
        if aim.line.kind is Kind.MODEL:
            self._show(aim)
            self._write_slots(folder, aim)
        if aim.canary is None:
            _point(folder, layout.CANARY, None)

    def _write_slots(self, folder: Folder, aim: _Aim) -> None:
        paths = {name: loadable(record) for name, record in aim.held.items()}
        document = slots_file(aim.applied, paths).model_dump_json(by_alias=True, indent=1).encode() + b"\n"
        with contextlib.suppress(FileNotFoundError):
            if folder.read(layout.SLOTS) == document:
                return
        folder.write(layout.SLOTS, document, point="slots.write")

    def _show(self, aim: _Aim) -> None:
        """Switch the flat view, then drop names that the model had before."""
        essential = aim.essential
        with Folder.open(self._data, layout.ESSENTIAL, create=True) as view:
            if essential is not None and aim.current is not None:
                target = f"../{'/'.join(aim.line.names)}/{loadable(aim.current)}"
                if view.target(essential) != target:
                    view.flip(essential, target, point="essential.flip")
            for name in self._shown(view, aim.line):
                if name != essential:
                    view.remove(name, point="essential.drop")
                    view.sync(point="essential.drop_sync")

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

    def _activation(self, aim: _Aim, *, changed: bool) -> Activation:
        home = layout.absolute(self._data, aim.line.names)
        flat = layout.absolute(self._data, layout.ESSENTIAL)
        return Activation(
            applied=aim.applied,
            changed=changed,
            current=home / layout.CURRENT if aim.current else None,
            previous=home / layout.PREVIOUS if "previous" in aim.held else None,
            canary=home / layout.CANARY if aim.canary else None,
            essential=flat / aim.essential if aim.essential else None,
        )


def _single_file(record: InstallRecord) -> ContentFile | None:
    """The file of a version that is one; None: the version is its folder, as a bundle is whatever it holds."""
    files = record.content.files
    return files[0] if len(files) == 1 and record.content.kind is not Kind.BUNDLE else None


def loadable(record: InstallRecord) -> str:
    """What loads of a version, below the folder of its line: its file, or its folder."""
    below = f"/{single.path}" if (single := _single_file(record)) else ""
    return f"{record.installed.version}{below}"


def _is_readable(folder: Folder, name: str) -> bool:
    try:
        read_applied(folder, name)
    except StoreError:
        return False
    return True


def _line_of(slot: SlotState) -> Line:
    return Line(Kind.DATASET if slot.kind is Kind.DATASET else Kind.MODEL, slot.model)


def _point(folder: Folder, name: str, record: InstallRecord | None) -> None:
    """Let a pointer name a version, or nothing."""
    if record is None:
        if folder.stat(name) is not None:
            folder.remove(name, point="pointer.drop")
            folder.sync(point="pointer.drop_sync")
    elif folder.target(name) != record.installed.version:
        folder.flip(name, record.installed.version, point="pointer.flip")


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
