"""The shelf: a cached picture of what the store holds, so that decisions need no disk. Renewed after every change."""

import asyncio

from fleetcast.daemons.distributor.board import Board
from fleetcast.events.content import Kind
from fleetcast.events.state import InstalledVersion, ModelStatus, SlotState
from fleetcast.transport.store import Store

Line = tuple[Kind, str]
"""A model or a lane."""


class Shelf:
    """What is installed and applied, per model and lane."""

    def __init__(self, store: Store, board: Board) -> None:
        self._store = store
        self._board = board
        self._installed: dict[Line, dict[str, InstalledVersion]] = {}
        self._applied: dict[Line, SlotState] = {}

    async def refresh(self) -> None:
        """Read the store again."""
        self._installed, self._applied = await asyncio.to_thread(self._scan)
        self._board.set_models(self._statuses())

    def holds(self, line: Line, version: str, artifact: str) -> bool:
        """Whether this very artifact is installed as *version*."""
        installed = self._installed.get(line, {}).get(version)
        return installed is not None and installed.artifact == artifact

    def artifact_of(self, line: Line, version: str) -> str | None:
        installed = self._installed.get(line, {}).get(version)
        return None if installed is None else installed.artifact

    def generation(self, line: Line) -> int:
        """The generation that the pointers of *line* follow; 0 before the first slot order."""
        applied = self._applied.get(line)
        return 0 if applied is None else applied.generation

    def versions(self) -> tuple[tuple[Kind, str, InstalledVersion], ...]:
        """Everything that is installed."""
        return tuple((k, n, v) for (k, n), held in self._installed.items() for v in held.values())

    def _scan(self) -> tuple[dict[Line, dict[str, InstalledVersion]], dict[Line, SlotState]]:
        installed: dict[Line, dict[str, InstalledVersion]] = {}
        applied: dict[Line, SlotState] = {}
        for kind, name in self._store.lines():
            installed[kind, name] = {v.version: v for v in self._store.installed(name, kind)}
            slot = self._store.applied(name, kind)
            if slot is not None:
                applied[kind, name] = slot
        return installed, applied

    def _statuses(self) -> list[ModelStatus]:
        return [self._status(line) for line in sorted(self._installed, key=lambda n: (n[0].value, n[1]))]

    def _status(self, line: Line) -> ModelStatus:
        kind, name = line
        slot = self._applied.get(line)
        held = self._installed[line]
        return ModelStatus(
            model=name,
            kind=kind.value,
            generation=slot.generation if slot else 0,
            current=slot.production.version if slot and slot.production else None,
            previous=slot.previous.version if slot and slot.previous and slot.previous.version in held else None,
            path=str(self._store.line_folder(kind, name)),
            installed=tuple(sorted(held.values(), key=lambda v: v.installed_at)),
        )
