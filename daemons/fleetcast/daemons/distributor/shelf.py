"""The shelf: a cached picture of what the store holds, so that decisions need no disk. Renewed after every change."""

import asyncio
from collections.abc import Callable, Set

from fleetcast.daemons.distributor.board import Board
from fleetcast.events.content import Kind
from fleetcast.events.state import HookStatus, InstalledVersion, ModelStatus, SlotEntry
from fleetcast.registry.slots import Line
from fleetcast.transport.store import AppliedSlot, Store

_Found = dict[Line, tuple[dict[str, InstalledVersion], AppliedSlot | None]]
"""What is installed and applied, by line."""


class Shelf:
    """What is installed and applied, per model and lane."""

    def __init__(self, store: Store, board: Board) -> None:
        self._store = store
        self._board = board
        self._installed: dict[Line, dict[str, InstalledVersion]] = {}
        self._applied: dict[Line, AppliedSlot] = {}
        self.hook_of: Callable[[str], HookStatus | None] = lambda _model: None
        """How far the hook of a model is; said by the owner of hooks."""
        # One at a time: an earlier look that takes longer must not replace a later one.
        self._reading = asyncio.Lock()

    async def refresh(self, line: Line | None = None) -> None:
        """Read the store again: all of it, or one line."""
        async with self._reading:
            self._take(await asyncio.to_thread(self._scan, None if line is None else [line]), all_lines=line is None)
        self.renew()

    def renew(self) -> None:
        """Report anew: a hook has come further."""
        self._board.set_models(self._statuses())

    def _take(self, found: _Found, *, all_lines: bool) -> None:
        for changed, (held, applied) in found.items():
            self._installed[changed] = held
            self._applied.pop(changed, None)
            if applied is not None:
                self._applied[changed] = applied
        if all_lines:
            self._installed = {k: v for k, v in self._installed.items() if k in found}
            self._applied = {k: v for k, v in self._applied.items() if k in found}

    @property
    def lines(self) -> Set[Line]:
        """The models and lanes that this node has something of."""
        return self._installed.keys()

    def holds(self, line: Line, version: str, artifact: str) -> bool:
        """Whether this very artifact is installed as *version*."""
        installed = self.find(line, version)
        return installed is not None and installed.artifact == artifact

    def find(self, line: Line, version: str) -> InstalledVersion | None:
        """The installed version; None: it is not here."""
        return self._installed.get(line, {}).get(version)

    def pointers(self, line: Line) -> AppliedSlot | None:
        """The slot order that the pointers of *line* follow, and how far; None before the first one."""
        return self._applied.get(line)

    def has_entry(self, line: Line, entry: SlotEntry | None) -> bool:
        """Whether what stands in a slot is installed here."""
        return entry is not None and self.holds(line, entry.version, entry.artifact)

    def versions(self) -> tuple[tuple[Kind, str, InstalledVersion], ...]:
        """Everything that is installed."""
        return tuple((k, n, v) for (k, n), held in self._installed.items() for v in held.values())

    def _scan(self, lines: list[Line] | None) -> _Found:
        return {
            (kind, name): (
                {v.version: v for v in self._store.installed(name, kind)},
                self._store.pointers(name, kind),
            )
            for kind, name in (self._store.lines() if lines is None else lines)
        }

    def _statuses(self) -> list[ModelStatus]:
        return [self._status(line) for line in sorted(self._installed, key=lambda n: (n[0].value, n[1]))]

    def _status(self, line: Line) -> ModelStatus:
        kind, name = line
        held = self._installed[line]
        said = ModelStatus(
            model=name,
            kind=kind.value,
            path=str(self._store.line_folder(kind, name)),
            installed=tuple(sorted(held.values(), key=lambda v: v.installed_at)),
            hook=None if kind is Kind.DATASET else self.hook_of(name),
        )
        applied = self._applied.get(line)
        return said if applied is None else said.model_copy(update=_shown(applied, held))


def _shown(applied: AppliedSlot, held: dict[str, InstalledVersion]) -> dict[str, object]:
    """What the pointers of a line say, as fields of its status."""
    slot, current = applied.slot, applied.current
    return {
        "generation": slot.generation,
        "current": current.version if current else None,
        "artifact": current.artifact if current else None,
        "follows": applied.follows,
        "previous": slot.previous.version if slot.previous and slot.previous.version in held else None,
        "canary": slot.canary.version if slot.canary and "canary" in applied.shown else None,
    }
