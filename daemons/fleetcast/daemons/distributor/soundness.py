"""Whether a version that is about to be served is still what was proven: by a look at its files, and where they look
otherwise, by reading them. The reading runs beside everything else, so that one node's damage holds up nothing else."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from fleetcast.daemons.distributor.parts import Parts
from fleetcast.events.state import SlotEntry
from fleetcast.registry.slots import Line
from fleetcast.transport.errors import StoreError

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.distributor.soundness")

Prove = Callable[[Line, str], Awaitable[bool]]
"""Reads a version again, and says whether it is right; what is damaged is named, taken away, and repaired."""


class Soundness:
    """Owner of the proofs that activations wait for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting: set[tuple[Line, str]] = set()
        self._proven: set[tuple[Line, str]] = set()
        self._work = asyncio.Queue[tuple[Line, str]]()
        self.prove: Prove | None = None
        """Said by whoever inspects."""
        self.on_proven: Callable[[], None] = lambda: None

    async def of(self, line: Line, entry: SlotEntry) -> bool:
        """Whether the version may be shown now; if not, it is being proven, and `on_proven` is called afterwards."""
        kind, name = line
        key = (line, entry.version)
        if key in self._waiting:
            return False
        if key in self._proven:
            # Read a moment ago; a disk that took no note of it must not have it read for ever.
            self._proven.discard(key)
            return True
        try:
            if await asyncio.to_thread(self._parts.store.is_untouched, name, entry.version, kind):
                return True
        except StoreError as fault:
            log.warning("version.unreadable", model=name, version=entry.version, reason=str(fault))
        log.warning("version.suspect", model=name, version=entry.version, reason="its files changed since the proof")
        self._waiting.add(key)
        self._work.put_nowait(key)
        return False

    async def run(self) -> None:
        """Prove what is waited for, until cancelled; different versions beside each other."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                line, version = await self._work.get()
                tasks.create_task(self._prove(line, version), name=f"prove:{line[1]}@{version}")

    async def _prove(self, line: Line, version: str) -> None:
        assert self.prove is not None, "whoever inspects has said so before the daemon is ready"
        try:
            if await self.prove(line, version):
                self._proven.add((line, version))
        except StoreError as fault:
            # The next comparison, seconds from now, tries again.
            log.warning("version.unreadable", model=line[1], version=version, reason=str(fault))
            return
        finally:
            self._waiting.discard((line, version))
        self.on_proven()
