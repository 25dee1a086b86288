"""The spellings of the catalogue that the client knows without importing it, and which events it writes durably."""

NAMES = (
    "model.promoted",
    "model.registered",
    "export.completed",
    "distribution.requested",
    "artifact.available",
    "transfer.started",
    "transfer.moved",
    "transfer.verified",
    "transfer.failed",
    "version.reserved",
    "version.installed",
    "version.activated",
    "version.removed",
    "slot.ordered",
    "distribution.ordered",
    "integrity.failed",
    "peer.banned",
    "event.rejected",
    "node.started",
    "node.stopped",
)
"""Names of all events; a test holds them equal to the catalogue."""

CHEAP = frozenset(
    {"transfer.started", "transfer.moved", "transfer.verified", "transfer.failed", "node.started", "node.stopped"}
)
"""Events that say what heartbeats and later events say again: appended without fsync, first to go when space ends."""

_BY_SPELLING = {spelling: name for name in NAMES for spelling in (name, f"{name}.v1", name.upper().replace(".", "_"))}


_DURABLE = frozenset(NAMES) - CHEAP


def name_of(spelling: str) -> str | None:
    """The name of the event that *spelling* means (`MODEL_PROMOTED`, `model.promoted.v1`, …); None: unknown."""
    return _BY_SPELLING.get(spelling)


def is_durable(name: str) -> bool:
    """Whether an event called *name* is on the disk before `emit` returns. Unknown names are not: they will be
    refused anyway, and must not slow a training job."""
    return name in _DURABLE
