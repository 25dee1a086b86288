"""What was decided, and what was served when."""

import sqlite3
from typing import Annotated, Any

from pydantic import Field

from fleetcast.events.lifecycle import FLEET
from fleetcast.registry.readmodel.asked import (
    Kind,
    Limit,
    Name,
    Place,
    Result,
    Short,
    Version,
    document,
    moment_asked,
    none_of,
    place,
    values_of,
)

Chain = Annotated[str, Field(min_length=1, max_length=48)]
"""Whose audit records: a model, a lane, or `_fleet`."""


def history(
    db: sqlite3.Connection,
    *,
    model: Chain,
    version: Version | None = None,
    action: Short | None = None,
    before: Annotated[int, Field(ge=1)] | None = None,
    limit: Limit = 50,
) -> Result:
    """Decisions about a model, the newest first.

    Args:
        version: only those about it.
        action: only those, e.g. `slot.ordered`.
        before: only records with a smaller number.

    Returns:
        `records`: audit records without their evidence (`has_evidence` says whether `decision` has some), with
        `sequence` (in FC_REGISTRY) and `version`; `next`: what `before` is for the page after; None: that was the last.

    Raises:
        NothingFound: nothing was ever decided about it.
    """
    conditions, values = ["model = ?"], [model]
    numbers: list[object] = []
    for name, given in (("version", version), ("action", action)):
        if given is not None:
            conditions.append(f"{name} = ?")
            values.append(given)
    if before is not None:
        conditions.append("n < ?")
        numbers.append(before)
    wanted = f"SELECT * FROM audit WHERE {' AND '.join(conditions)} ORDER BY n DESC LIMIT ?"  # noqa: S608  # our own names
    found = db.execute(wanted, (*values, *numbers, limit + 1)).fetchall()
    if not found and not _decided(db, model):
        raise none_of(f"model {model}", "fleetcast models lists those there are")
    shown = [_record(row, with_evidence=False) for row in found[:limit]]
    return {"records": shown, "next": shown[-1]["n"] if len(found) > limit else None}


def _decided(db: sqlite3.Connection, model: str) -> bool:
    return model == FLEET or db.execute("SELECT 1 FROM audit WHERE model = ? LIMIT 1", (model,)).fetchone() is not None


def _record(row: sqlite3.Row, *, with_evidence: bool) -> Result:
    record: Result = document(row["document"])
    evidence: Any = record.pop("evidence", None)
    record |= {"sequence": row["sequence"], "version": row["version"], "has_evidence": evidence is not None}
    return {**record, "evidence": evidence} if with_evidence else record


def decision(db: sqlite3.Connection, *, model: Chain, n: Annotated[int, Field(ge=1)]) -> Result:
    """One audit record, whole, with the evidence that it was made from.

    Raises:
        NothingFound: there is none of that number.
    """
    row = db.execute("SELECT * FROM audit WHERE model = ? AND n = ?", (model, n)).fetchone()
    if row is None:
        raise none_of(f"decision {n} about {model}", f"fleetcast history {model} lists them")
    return _record(row, with_evidence=True)


def registry_at(
    db: sqlite3.Connection,
    *,
    at: Short,
    model: Name | None = None,
    kind: Kind = Kind.MODEL,
    after: Place | None = None,
    limit: Limit = 500,
) -> Result:
    """What was served of every model at a time (RFC 3339), by name; models of which nothing had been are left out.

    Returns:
        `at`; `slots`: `{model, generation, production, production_artifact, previous, canary, canary_artifact, percent,
        since, n}` (`n`: the audit record that said so); `next`.

    Raises:
        BadQuery: that is no time.
    """
    moment = moment_asked(at)
    conditions, values = ["m.kind = ?"], [kind.value]
    if model is not None:
        conditions.append("m.model = ?")
        values.append(model)
    if after is not None:
        conditions.append("m.model > ?")
        values += [str(value) for value in values_of(after, "registry_at", 1)]
    wanted = (
        "SELECT h.model, h.generation, h.production, h.production_artifact, h.previous, h.canary, h.canary_artifact, "  # noqa: S608  # ours
        "h.percent, h.at AS since, h.n FROM models m JOIN slot_history h ON h.model = m.model AND h.kind = m.kind "
        "AND h.n = (SELECT x.n FROM slot_history x WHERE x.model = m.model AND x.kind = m.kind AND x.at <= ? "
        f"ORDER BY x.n DESC LIMIT 1) WHERE {' AND '.join(conditions)} ORDER BY m.model LIMIT ?"
    )
    found = db.execute(wanted, (moment, *values, limit + 1)).fetchall()
    shown = [dict(row) for row in found[:limit]]
    ends = place("registry_at", [shown[-1]["model"]]) if len(found) > limit else None
    return {"at": moment, "slots": shown, "next": ends}
