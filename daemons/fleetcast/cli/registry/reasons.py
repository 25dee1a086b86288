"""What the registry has decided about a model, for `fleetcast why`: by whom, through which gates, and what waits."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fleetcast.bus import Bus
from fleetcast.events.lifecycle import (
    ENDED,
    FLEET,
    EntryState,
    FreezeState,
    Phase,
    RolloutState,
    freeze_subject,
    rollout_subject,
)
from fleetcast.events.state import AuditRecord, VersionState
from fleetcast.registry import Registry
from fleetcast.registry.ledger import Ledger

SHOWN_GATES = 8
SHOWN_VERSIONS = 5
_LET_IN = ("slot.ordered", "rollout.started", "slot.rolled_back", "rollback.started", "rollout.withdrawn")
"""Decisions that change what is served, or begin to."""


async def decision_facts(bus: Bus, model: str) -> list[str]:
    """Sentences about rollout, freeze, the decision that is in force, and the newest refusal after it; none where no
    registry daemon has ever decided anything."""
    ledger = Ledger(bus)
    rollout = (await ledger.find(rollout_subject(model), RolloutState)).value
    frozen = [(await ledger.find(freeze_subject(key), FreezeState)).value for key in (model, FLEET)]
    records = await Registry(bus).history(model)
    said = [_rollout(rollout)] if rollout else []
    said += [_freeze(f) for f in frozen if f is not None and _holds(f)]
    moved = next((r for r in reversed(records) if r.action in _LET_IN), None)
    if moved is not None:
        said += in_force(moved, records)
    refused = next((r for r in reversed(records) if r.action == "promotion.refused"), None)
    if refused is not None and (moved is None or refused.n > moved.n):
        said += [f"decision {refused.n} refused {_name(refused)}: {refused.reason}", *_gates(refused)[1:]]
    return said


async def version_facts(bus: Bus, model: str) -> list[str]:
    """Sentences about the newest versions of a model; none where there is no version of it."""
    ledger = Ledger(bus)
    versions = await Registry(bus).versions(model)
    entries = {e.version: e for e in await ledger.all((f"fc.reg.state.entry.{model}.*",), EntryState)}
    said = [_version(version, entries.get(version.version)) for version in versions[-SHOWN_VERSIONS:]]
    more = len(versions) - len(said)
    return said + [f"and {more} versions before them: fleetcast models {model}"] * (more > 0)


def _version(version: VersionState, entry: EntryState | None) -> str:
    name = f"{version.model}@{version.version}"
    where = f"{name} was registered at {version.at} on {version.origin.node} by {version.cause.by}"
    return where if entry is None else f"{where}; it is at {entry.stage} since {entry.since}"


def in_force(moved: AuditRecord, records: Sequence[AuditRecord]) -> list[str]:
    """The newest decision about what is served, and the gates that its version went through, then or before."""
    judged = next((r for r in reversed(records) if r.evidence and _same(r, moved)), None)
    return ([] if judged is moved else [_decided(moved)]) + (_gates(judged) if judged is not None else [])


def _same(record: AuditRecord, moved: AuditRecord) -> bool:
    return record.action in _LET_IN and version_of(record) == version_of(moved)


def version_of(record: AuditRecord) -> str | None:
    """The version that a decision about serving brought in: that of the rollout, of the canary, or of production."""
    after: Any = record.after or {}
    entry: Any = after.get("canary") or after.get("production") or {}
    version: str | None = after.get("version") or entry.get("version")
    return version


def _rollout(rollout: RolloutState) -> str:
    what = f"rollout of {rollout.model}@{rollout.version} to {rollout.target}, asked for by {rollout.actor}"
    share = f" on {rollout.percent} % of the nodes" if rollout.percent and rollout.phase not in ENDED else ""
    reason = f": {rollout.reason}" if rollout.reason else ""
    then = {
        Phase.HALTED: f"; fleetcast resume {rollout.model} goes on, with --abandon it ends",
        Phase.FROZEN: f"; fleetcast promote {rollout.model} VERSION brings a good one",
    }.get(rollout.phase, "")
    return f"{what}: {rollout.phase}{share} since {rollout.since}{reason}{then}"


def _freeze(freeze: FreezeState) -> str:
    until = f" until {freeze.until}" if freeze.until else ""
    return f"promotions are frozen{until} by {freeze.by}: {freeze.reason}"


def _holds(freeze: FreezeState) -> bool:
    return freeze.frozen and (freeze.until is None or datetime.fromisoformat(freeze.until) > datetime.now(UTC))


def _name(record: AuditRecord) -> str:
    version = (record.after or {}).get("version")
    stage = (record.after or {}).get("stage")
    return f"{record.model}@{version}" + (f" to {stage}" if stage else "")


def _decided(record: AuditRecord) -> str:
    why = f", because: {record.reason}" if record.reason else ""
    return f"decision {record.n} ({record.action}) by {record.actor} at {record.at}{why}"


def _gates(record: AuditRecord) -> list[str]:
    """The decision, then its gates with their numbers, those that do not pass first."""
    steps: Any = (record.evidence or {}).get("steps", [])
    found: dict[str, str] = {}
    passed = 0
    for gate in (g for step in steps for g in step["gates"]):
        if gate["verdict"] == "pass":
            passed += 1
        order = "1" if gate["verdict"] == "pass" else "0"
        found.setdefault(f"{order}{gate['name']}", f"{gate['name']} {gate['verdict']}: {gate['actual']}")
    said = [found[key] for key in sorted(found)][:SHOWN_GATES]
    more = f"; and {len(found) - SHOWN_GATES} more (fleetcast explain {record.model} {record.n})"
    return [
        f"{_decided(record)}; {passed} gates passed",
        *([f"gates: {'; '.join(said)}{more if len(found) > SHOWN_GATES else ''}"] if said else []),
    ]
