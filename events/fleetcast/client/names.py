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
    "stage.changed",
    "promotion.refused",
    "rollout.changed",
    "evidence.recorded",
    "approval.recorded",
    "freeze.changed",
    "archive.changed",
    "node.drain.changed",
    "hook.failed",
    "hook.recovered",
    "model.rollback.requested",
    "model.retrain.requested",
    "verdict.changed",
    "incident.raised",
    "incident.cleared",
    "incident.opened",
    "incident.changed",
    "trust.changed",
    "playbook.requested",
    "playbook.run.changed",
    "notification.failed",
    "backup.taken",
    "integrity.failed",
    "peer.banned",
    "event.rejected",
    "letter.settled",
    "node.started",
    "node.stopped",
    "run.started",
    "run.epoch.logged",
    "run.metrics.logged",
    "run.checkpoint.saved",
    "run.degraded",
    "run.fault.recorded",
    "run.finished",
    "run.moved",
    "run.fallback",
    "run.returned",
    "run.node.allowed",
    "lane.triggered",
    "lane.changed",
    "node.quarantined",
    "node.reclaim.notice",
)
"""Names of all events; a test holds them equal to the catalogue."""

SNAPSHOT = "model.performance_snapshot"
"""How a version performs; goes to FC_PERF as it is, and so is no event of the catalogue."""

CHEAP = frozenset(
    {
        "transfer.started",
        "transfer.moved",
        "transfer.verified",
        "transfer.failed",
        "node.started",
        "node.stopped",
        "run.metrics.logged",
    }
)
"""Events that say what heartbeats and later events say again: appended without fsync, first to go when space ends."""


def _spellings(name: str) -> tuple[str, ...]:
    domain, event = name.split(".", 1)
    return (name, f"{name}.v1", name.upper().replace(".", "_"), f"{domain}.{event.replace('.', '_')}")


_BY_SPELLING = {spelling: name for name in (*NAMES, SNAPSHOT) for spelling in _spellings(name)}


_DURABLE = frozenset(NAMES) - CHEAP
_OF_RUNS = ("model.promoted", "model.registered", "export.completed")


def name_of(spelling: str) -> str | None:
    """The name of the event that *spelling* means (`MODEL_PROMOTED`, `model.promoted.v1`, …); None: unknown."""
    return _BY_SPELLING.get(spelling)


def is_durable(name: str) -> bool:
    """Whether an event called *name* is on the disk before `emit` returns. Unknown names are not: they will be
    refused anyway, and must not slow a training job."""
    return name in _DURABLE


def is_of_a_run(name: str) -> bool:
    """Whether an event called *name* says which run it comes from, and under which claim."""
    return name.startswith("run.") or name in _OF_RUNS
