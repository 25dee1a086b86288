"""Models as a whole: one row each, how many there are of what, what holds now."""

import sqlite3
from typing import Final

from fleetcast.events.lifecycle import ENDED, StageName
from fleetcast.registry.readmodel.asked import (
    Kind,
    Limit,
    Name,
    Pattern,
    Place,
    Result,
    Short,
    Values,
    after_prefix,
    document,
    place,
    prefix,
    values_of,
)

_SUMMARY: Final = """
SELECT m.model, m.kind, s.production, s.previous, s.canary, s.percent, s.generation, s.at AS served_since,
  (SELECT count(*) FROM versions v WHERE v.model = m.model AND v.kind = m.kind) AS versions,
  (SELECT v.version FROM versions v WHERE v.model = m.model AND v.kind = m.kind
    ORDER BY v.registered_at DESC, v.version_key DESC LIMIT 1) AS newest,
  (SELECT a.at FROM audit a WHERE a.model = m.model ORDER BY a.n DESC LIMIT 1) AS changed_at,
  (SELECT a.n FROM audit a WHERE a.model = m.model ORDER BY a.n DESC LIMIT 1) AS decisions,
  (SELECT r.phase FROM rollouts r WHERE r.model = m.model AND m.kind = 'model') AS rollout,
  (SELECT f.document FROM freezes f WHERE f.model = m.model AND f.frozen) AS freeze
FROM models m LEFT JOIN slots s ON s.model = m.model AND s.kind = m.kind
"""


def models(
    db: sqlite3.Connection,
    *,
    model: Pattern | None = None,
    stage: StageName | None = None,
    tag: Short | None = None,
    kind: Kind = Kind.MODEL,
    after: Place | None = None,
    limit: Limit = 50,
) -> Result:
    """One row per model, by name.

    Args:
        model: a shell pattern.
        stage: only models that have a version there.
        tag: only models that have a version with it.

    Returns:
        `models`: `model`, `kind`, `production`, `previous`, `canary` and `percent`, `generation` (0: nothing was ever
        served), `served_since`, `versions` (how many), `newest`, `changed_at`, `decisions` (audit records), `rollout`
        (its phase), `freeze`; and `next`.
    """
    conditions: list[str] = ["m.kind = ?"]
    values: Values = [kind.value]
    if model is not None:
        begin = prefix(model)
        conditions.append("m.model >= ? AND m.model < ? AND m.model GLOB ?")
        values += [begin, after_prefix(begin), model]
    if after is not None:
        conditions.append("m.model > ?")
        values += values_of(after, "models", 1)
    if stage is not None:
        conditions.append("m.model IN (SELECT model FROM versions WHERE stage = ?)")
        values.append(stage.value)
    if tag is not None:
        conditions.append("m.model IN (SELECT model FROM tags WHERE tag = ?)")
        values.append(tag)
    wanted = f"{_SUMMARY} WHERE {' AND '.join(conditions)} ORDER BY m.model LIMIT ?"
    found = db.execute(wanted, (*values, limit + 1)).fetchall()
    shown = [_summary(row) for row in found[:limit]]
    return {"models": shown, "next": place("models", [shown[-1]["model"]]) if len(found) > limit else None}


def _summary(row: sqlite3.Row) -> Result:
    return {**dict(row), "generation": row["generation"] or 0, "freeze": document(row["freeze"])}


def summary(db: sqlite3.Connection, model: str, kind: Kind) -> Result | None:
    """One model's row; None: there is no such model."""
    row = db.execute(f"{_SUMMARY} WHERE m.model = ? AND m.kind = ?", (model, kind.value)).fetchone()
    return None if row is None else _summary(row)


def stats(db: sqlite3.Connection) -> Result:
    """How many models, versions and data sets there are, and of what: versions of models by stage, framework, team,
    owner, model type and format; what is served and what is under way."""
    of_models = "SELECT count(*) FROM models WHERE kind = ?"
    of_versions = "SELECT count(*) FROM versions WHERE kind = ?"
    serving = "SELECT count(production), count(canary) FROM slots WHERE kind = 'model'"
    production, canary = db.execute(serving).fetchone()
    return {
        "models": db.execute(of_models, ("model",)).fetchone()[0],
        "versions": db.execute(of_versions, ("model",)).fetchone()[0],
        "lanes": db.execute(of_models, ("dataset",)).fetchone()[0],
        "data_sets": db.execute(of_versions, ("dataset",)).fetchone()[0],
        "bytes": db.execute("SELECT coalesce(sum(bytes), 0) FROM versions WHERE kind = 'model'").fetchone()[0],
        "by_stage": {**dict.fromkeys((s.value for s in StageName), 0), **_counted(db, "stage")},
        **{f"by_{name}": _counted(db, name) for name in ("framework", "team", "owner", "model_type", "format")},
        "in_production": production,
        "in_canary": canary,
        "rollouts_active": len(rollouts(db)["rollouts"]),
        "frozen": db.execute("SELECT count(*) FROM freezes WHERE frozen").fetchone()[0],
        "runs": dict(db.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall()),
        "decisions": db.execute("SELECT count(*) FROM audit").fetchone()[0],
    }


def _counted(db: sqlite3.Connection, column: str) -> dict[str, int]:
    counted = f"SELECT {column}, count(*) FROM versions WHERE kind = 'model' GROUP BY 1 ORDER BY 1"  # noqa: S608  # ours
    return {row[0]: row[1] for row in db.execute(counted) if row[0]}


def rollouts(db: sqlite3.Connection, *, model: Name | None = None, ended: bool = False) -> Result:
    """The newest rollout of every model, the one that changed last first.

    Args:
        ended: those too that reached their end.

    Returns:
        `rollouts`: as they are kept (`events.lifecycle.RolloutState`).
    """
    conditions, values = ["1"], []
    if model is not None:
        conditions.append("model = ?")
        values.append(model)
    if not ended:
        phases = sorted(phase.value for phase in ENDED)
        conditions.append(f"phase NOT IN ({', '.join('?' * len(phases))})")
        values += phases
    wanted = f"SELECT document FROM rollouts WHERE {' AND '.join(conditions)} ORDER BY since DESC, model LIMIT 500"  # noqa: S608  # ours
    return {"rollouts": [document(row[0]) for row in db.execute(wanted, values)]}


def freezes(db: sqlite3.Connection) -> Result:
    """What is frozen now (`model` `_fleet`: everything); one whose time is over is still shown, `until` says so."""
    found = db.execute("SELECT model, document FROM freezes WHERE frozen ORDER BY model").fetchall()
    authority = db.execute("SELECT document FROM authority").fetchone()
    return {
        "freezes": [{"model": row["model"], **document(row["document"])} for row in found],
        "authority": document(authority[0]) if authority else None,
    }
