"""Entries of versions, read for somebody who carries some models only (as `slots`)."""

from collections.abc import Iterable, Set

import structlog

from fleetcast.bus import Bus, Entry
from fleetcast.bus.streams import REGISTRY
from fleetcast.events.lifecycle import EntryState
from fleetcast.registry.errors import RecordDamaged
from fleetcast.registry.ledger import read
from fleetcast.registry.slots import MAX_SUBJECTS

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

ALL_ENTRIES = "fc.reg.state.entry.*.*"


def entries_of(model: str) -> str:
    """The subjects of the entries of a model."""
    return f"fc.reg.state.entry.{model}.*"


class EntriesSince:
    """Reads the entries of some models, each once, and then what became of them since; a quiet fleet costs one small
    request."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._read_to = 0
        self._known: set[str] = set()

    async def read(self, models: Set[str]) -> list[EntryState]:
        """All entries of models that are new here, and those of the others that changed.

        Raises:
            TransportFailed: the bus does not answer; the next call reads the same.
        """
        newest = await self._bus.last(REGISTRY, ALL_ENTRIES)
        head = newest.sequence if newest else 0
        if head < self._read_to:
            self._known.clear()  # the stream was set back, from a backup say
        fresh = models - self._known
        found = [entry for some in _parts(sorted(fresh)) for entry in await self._newest(some)]
        followed = models & self._known
        if followed and head > self._read_to:
            found += await self._changed(followed)
        self._read_to = head
        self._known = set(models)
        return list(_readable(found))

    async def _newest(self, models: Iterable[str]) -> list[Entry]:
        return await self._bus.newest(REGISTRY, tuple(entries_of(model) for model in models))

    async def _changed(self, models: Set[str]) -> list[Entry]:
        subjects = tuple(entries_of(model) for model in sorted(models))
        entries = self._bus.tail(
            REGISTRY,
            subjects if len(subjects) <= MAX_SUBJECTS else (ALL_ENTRIES,),
            start_sequence=self._read_to + 1,
        )
        return [entry async for entry in entries if entry.subject.split(".")[4] in models]


def _parts(models: list[str]) -> Iterable[list[str]]:
    return (models[at : at + MAX_SUBJECTS] for at in range(0, len(models), MAX_SUBJECTS))


def _readable(entries: Iterable[Entry]) -> Iterable[EntryState]:
    for entry in entries:
        try:
            yield read(EntryState, entry)
        except RecordDamaged as damaged:
            log.warning("record.unreadable", subject=entry.subject, reason=str(damaged))
