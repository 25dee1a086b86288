"""Registry records as rows: one batch in, one set of statements out. Runs inside the caller's transaction."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import structlog
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from fleetcast.events.content import Kind
from fleetcast.events.lifecycle import AuthorityState, FreezeState, RolloutState
from fleetcast.events.state import AuditRecord, DistributionState, SlotState
from fleetcast.registry.readmodel.flatten import VersionRows, flatten, moment

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

STATE: Final = "fc.reg.state."
LOG: Final = "fc.reg.log."

Key = tuple[str, str, str]
"""Model, version, kind."""
Row = tuple[object, ...]


class Record(Protocol):
    """A stored message, as `fleetcast.bus.Entry` is one."""

    @property
    def subject(self) -> str:
        """Where it was published."""

    @property
    def data(self) -> bytes:
        """Its body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""

    @property
    def sequence(self) -> int:
        """Its place in its stream."""

    @property
    def time(self) -> datetime:
        """When the stream took it."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One of a version's two records, read and as it is kept."""

    document: dict[str, Any]
    text: str

    @classmethod
    def kept(cls, text: str | None) -> "_Half | None":
        return None if text is None else cls(from_json(text), text)


@dataclass
class _Batch:
    """What a batch says, each thing once: of two states of one subject the later one holds."""

    states: dict[Key, _Half] = field(default_factory=dict)
    entries: dict[Key, _Half] = field(default_factory=dict)
    slots: dict[tuple[str, str], Row] = field(default_factory=dict)
    rollouts: dict[str, Row] = field(default_factory=dict)
    freezes: dict[str, Row] = field(default_factory=dict)
    distributions: dict[Key, Row] = field(default_factory=dict)
    authority: str | None = None
    audit: list[Row] = field(default_factory=list)
    moves: list[Row] = field(default_factory=list)


def project_registry(db: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Bring the tables to what *records* (in order) say. Requests, chains and facts say nothing that is listed."""
    batch = _Batch()
    for record in records:
        try:
            _collect(batch, record)
        except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as e:
            # One record that cannot be read must not hide all the others.
            log.warning("record.unreadable", subject=record.subject, sequence=record.sequence, reason=str(e)[:500])
    _write(db, batch)


def _collect(batch: _Batch, record: Record) -> None:
    subject = record.subject
    if subject.startswith(LOG):
        _collect_audit(batch, record)
    elif subject.startswith(STATE):
        what, _, name = subject[len(STATE) :].partition(".")
        if what == "freeze":
            _collect_freeze(batch, record.data, name)
        elif what in _COLLECTORS:
            _COLLECTORS[what](batch, record.data)


# Contents and entries are most of a registry. They are not validated again, as the rarer records are: that would take
# longer than all the rest of a replay, and what does not fit is noticed when rows are made of it.


def _collect_version(batch: _Batch, data: bytes) -> None:
    state: dict[str, Any] = from_json(data)
    # Only a node that fetches needs it, and it is most of the record.
    state.pop("metainfo_b64", None)
    batch.states[_key(state, _kind(state))] = _Half(state, to_json(state).decode())


def _collect_entry(batch: _Batch, data: bytes) -> None:
    entry: dict[str, Any] = from_json(data)
    batch.entries[_key(entry, Kind.MODEL)] = _Half(entry, data.decode())


def _key(document: Mapping[str, Any], kind: Kind) -> Key:
    model, version, artifact = document["model"], document["version"], document["artifact"]
    if not (isinstance(model, str) and isinstance(version, str) and isinstance(artifact, str)):
        raise TypeError("model, version or artifact is no text")
    return model, version, kind.value


def _kind(state: Mapping[str, Any]) -> Kind:
    """Records from before there was content by reference say their kind in their content only."""
    said = state.get("kind") or (state.get("content") or {}).get("kind")
    return Kind.DATASET if said == Kind.DATASET else Kind.MODEL


def _collect_slot(batch: _Batch, data: bytes) -> None:
    slot = SlotState.model_validate_json(data)
    canary = slot.canary
    batch.slots[slot.model, slot.kind.value] = (
        slot.model,
        slot.kind.value,
        slot.generation,
        slot.production.version if slot.production else None,
        slot.previous.version if slot.previous else None,
        canary.version if canary else None,
        canary.percent if canary else None,
        moment(slot.at),
        data.decode(),
    )


def _collect_rollout(batch: _Batch, data: bytes) -> None:
    r = RolloutState.model_validate_json(data)
    since = moment(r.since)
    batch.rollouts[r.model] = (r.model, r.rollout, r.version, r.target.value, r.phase.value, since, data.decode())


def _collect_freeze(batch: _Batch, data: bytes, model: str) -> None:
    freeze = FreezeState.model_validate_json(data)
    until = moment(freeze.until) if freeze.until else None
    batch.freezes[model] = (model, int(freeze.frozen), until, data.decode())


def _collect_distribution(batch: _Batch, data: bytes) -> None:
    wanted = DistributionState.model_validate_json(data)
    key = (wanted.model, wanted.version, wanted.kind.value)
    batch.distributions[key] = (*key, data.decode())


def _collect_authority(batch: _Batch, data: bytes) -> None:
    AuthorityState.model_validate_json(data)
    batch.authority = data.decode()


def _collect_audit(batch: _Batch, record: Record) -> None:
    decision = AuditRecord.model_validate_json(record.data)
    at = moment(decision.at)
    batch.audit.append(
        (
            decision.model,
            decision.n,
            decision.action,
            _version_of(decision),
            decision.actor,
            at,
            record.sequence,
            record.data.decode(),
        )
    )
    slot = slot_of(decision)
    if slot is not None:
        batch.moves.append(_move(slot, decision.n, at))


def slot_of(decision: AuditRecord) -> SlotState | None:
    """The slots of the model as a decision left them; None: it did not touch them."""
    after = decision.after or {}
    for candidate in (after, after.get("slot")):
        if isinstance(candidate, Mapping) and "generation" in candidate and "production" in candidate:
            return SlotState.model_validate(candidate)
    return None


def _version_of(decision: AuditRecord) -> str | None:
    """The version that a decision is about; None: about the model, or about none."""
    for said in (decision.after, decision.before):
        for candidate in (said, *((said.get(part) for part in _PARTS) if said else ())):
            if isinstance(candidate, Mapping) and isinstance(candidate.get("version"), str):
                return str(candidate["version"])
    return None


_PARTS: Final = ("entry", "rollout", "canary", "production")


def _move(slot: SlotState, n: int, at: str) -> Row:
    production, previous, canary = slot.production, slot.previous, slot.canary
    return (
        slot.model,
        slot.kind.value,
        n,
        at,
        slot.generation,
        production.version if production else None,
        production.artifact if production else None,
        previous.version if previous else None,
        canary.version if canary else None,
        canary.artifact if canary else None,
        canary.percent if canary else None,
    )


_COLLECTORS: Final = {
    "version": _collect_version,
    "entry": _collect_entry,
    "slot": _collect_slot,
    "lane": _collect_slot,
    "rollout": _collect_rollout,
    "distribution": _collect_distribution,
    "authority": _collect_authority,
}


# -- writing


def _write(db: sqlite3.Connection, batch: _Batch) -> None:
    _write_versions(db, batch)
    _replace(db, "slots", batch.slots.values())
    _replace(db, "rollouts", batch.rollouts.values())
    _replace(db, "freezes", batch.freezes.values())
    _replace(db, "distributions", batch.distributions.values())
    _replace(db, "audit", batch.audit)
    _replace(db, "slot_history", batch.moves)
    if batch.authority is not None:
        _replace(db, "authority", [(1, batch.authority)])
    db.executemany("INSERT OR IGNORE INTO models VALUES (?, ?)", _models(batch))


def _models(batch: _Batch) -> set[tuple[str, str]]:
    versions = {(model, kind) for model, _, kind in (*batch.states, *batch.entries)}
    return versions | set(batch.slots)


def _replace(db: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    """Write whole rows in the order of the table's columns; a row with the same key gives way."""
    given = list(rows)
    if given:
        places = ", ".join("?" * len(given[0]))
        db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", given)  # noqa: S608  # our own names


@dataclass(frozen=True, slots=True)
class _Version:
    """A version as it is written: its two records, and the rows that follow from them."""

    key: Key
    state: _Half | None
    entry: _Half | None
    rows: VersionRows
    known: bool


def _write_versions(db: sqlite3.Connection, batch: _Batch) -> None:
    made = [_version(db, batch, key) for key in sorted({*batch.states, *batch.entries})]
    known = [each.key for each in made if each.known]
    for table in ("tags", "evaluations", "flags", "stage_changes"):
        db.executemany(f"DELETE FROM {table} WHERE model = ? AND version = ? AND kind = ?", known)  # noqa: S608  # ours
    _replace(db, "versions", (each.rows.version for each in made))
    _replace(db, "documents", (_document(each) for each in made))
    _replace(db, "tags", (row for each in made for row in each.rows.tags))
    _replace(db, "evaluations", (row for each in made for row in each.rows.evaluations))
    _replace(db, "flags", (row for each in made for row in each.rows.flags))
    _replace(db, "stage_changes", (row for each in made for row in each.rows.stages))


def _document(version: _Version) -> Row:
    state, entry = version.state, version.entry
    return (*version.key, version.rows.listed, state.text if state else None, entry.text if entry else None)


def _version(db: sqlite3.Connection, batch: _Batch, key: Key) -> _Version:
    found = db.execute(
        "SELECT state, entry FROM documents WHERE model = ? AND version = ? AND kind = ?", key
    ).fetchone()
    state = batch.states.get(key) or (_Half.kept(found[0]) if found else None)
    entry = batch.entries.get(key) or (_Half.kept(found[1]) if found else None)
    rows = flatten(key, state.document if state else None, entry.document if entry else None)
    return _Version(key, state, entry, rows, found is not None)
