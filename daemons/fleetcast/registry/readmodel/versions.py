"""One version with everything that is known of it, and two of them side by side."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from fleetcast.events.ids import NO_ARTIFACT
from fleetcast.registry.readmodel.asked import (
    Kind,
    Name,
    Reference,
    Result,
    Short,
    Version,
    document,
    none_of,
    rows_as_dicts,
)
from fleetcast.registry.readmodel.consumed import counts_of
from fleetcast.registry.readmodel.listing import listed

_KEYED: Final = "model = ? AND version = ? AND kind = ?"
_LINEAGE: Final = (
    "run_id",
    "experiment_id",
    "git_commit",
    "environment",
    "reproducibility_hash",
    "data_sets",
    "training_data_hash",
    "training_dataset_size",
    "training_timestamp",
)
_DECISIONS: Final = 20


def info(db: sqlite3.Connection, *, model: Name, version: Version, kind: Kind = Kind.MODEL) -> Result:
    """Everything about a version.

    Returns:
        What lists show of it, and `facts`, `metadata`, `flags`, `approvals`, `evaluations`, `rating`, `stages` (how it
        came to where it is), `lineage` (with the run, where it is known), `content`, `rollout`, `distribution`,
        `consumption` (on how many nodes it is), `siblings` (versions with the same artifact), `decisions` (the newest
        audit records about it), `cause`.

    Raises:
        NothingFound: there is no such version.
    """
    key = (model, version, kind.value)
    found = db.execute(f"SELECT state, entry FROM documents WHERE {_KEYED}", key).fetchone()  # noqa: S608  # our own names
    if found is None:
        raise none_of(f"version {model}@{version}", f"fleetcast models {model} lists those there are")
    state, entry = document(found["state"]) or {}, document(found["entry"]) or {}
    shown, facts = listed(db, *key), entry.get("facts", {})
    return {
        **shown,
        "facts": facts,
        "metadata": entry.get("metadata") or state.get("metadata") or {},
        "flags": _flags(db, key),
        "approvals": entry.get("approvals", []),
        "evaluations": _evaluations(db, key),
        "rating": facts.get("rating"),
        "stages": _stages(db, key),
        "lineage": _lineage(db, facts, shown),
        "content": state.get("content"),
        "content_ref": state.get("content_ref"),
        "rollout": _document(db, "rollouts", "model = ? AND version = ?", (model, version)),
        "distribution": _document(db, "distributions", _KEYED, key),
        "consumption": counts_of(db, model, version),
        "siblings": _siblings(db, key, shown["artifact"]),
        "decisions": _decisions(db, model, version),
        "cause": entry.get("cause") or state.get("cause"),
    }


def _document(db: sqlite3.Connection, table: str, where: str, values: tuple[str, ...]) -> Any:
    row = db.execute(f"SELECT document FROM {table} WHERE {where}", values).fetchone()  # noqa: S608  # our own names
    return document(row[0]) if row else None


def _flags(db: sqlite3.Connection, key: tuple[str, str, str]) -> dict[str, Result]:
    wanted = f"SELECT flag, value, by, at, reason, report FROM flags WHERE {_KEYED} ORDER BY flag"  # noqa: S608  # ours
    return {
        row["flag"]: {
            "value": bool(row["value"]),
            "by": row["by"],
            "at": row["at"],
            "reason": row["reason"],
            "report": document(row["report"]),
        }
        for row in db.execute(wanted, key)
    }


def _evaluations(db: sqlite3.Connection, key: tuple[str, str, str]) -> dict[str, Result]:
    wanted = f"SELECT opponent, wins, losses, draws FROM evaluations WHERE {_KEYED} ORDER BY opponent"  # noqa: S608  # ours
    return {row["opponent"]: _games(row["wins"], row["losses"], row["draws"]) for row in db.execute(wanted, key)}


def _games(wins: int, losses: int, draws: int) -> Result:
    games = wins + losses + draws
    # Draws count in the denominator: a version that draws does not win.
    return {"wins": wins, "losses": losses, "draws": draws, "games": games, "win_rate": wins / games if games else None}


def _stages(db: sqlite3.Connection, key: tuple[str, str, str]) -> list[Result]:
    wanted = (
        "SELECT c.stage, c.at, c.n, a.actor, json_extract(a.document, '$.reason') AS reason FROM stage_changes c "
        "LEFT JOIN audit a ON a.model = c.model AND a.n = c.n "
        "WHERE c.model = ? AND c.version = ? AND c.kind = ? ORDER BY c.place"
    )
    return rows_as_dicts(db.execute(wanted, key).fetchall())


def _lineage(db: sqlite3.Connection, facts: Mapping[str, Any], shown: Mapping[str, Any]) -> Result:
    lineage = {name: facts.get(name) for name in _LINEAGE}
    lineage["run_id"] = shown["run_id"]
    return {**lineage, "run": _document(db, "runs", "run_id = ?", (shown["run_id"],)) if shown["run_id"] else None}


def _siblings(db: sqlite3.Connection, key: tuple[str, str, str], artifact: str) -> list[str]:
    if artifact == NO_ARTIFACT:
        return []
    found = db.execute("SELECT model, version, kind FROM versions WHERE artifact16 = ? LIMIT 100", (artifact[:16],))
    return sorted(f"{row['model']}@{row['version']}" for row in found if tuple(row) != key)


def _decisions(db: sqlite3.Connection, model: str, version: str) -> list[Result]:
    wanted = (
        "SELECT n, at, action, actor, json_extract(document, '$.reason') AS reason FROM audit "
        "WHERE model = ? AND version = ? ORDER BY n DESC LIMIT ?"
    )
    return rows_as_dicts(db.execute(wanted, (model, version, _DECISIONS)).fetchall())


# -- comparison

_COMPARED: Final = (
    "stage",
    "artifact",
    "bytes",
    "files",
    "format",
    "framework",
    "model_type",
    "owner",
    "team",
    "license",
    "tags",
    "origin",
    "registered_at",
    "registered_by",
    "slots",
)
_OF_FACTS: Final = (
    "description",
    *_LINEAGE,
    "expected_latency_p50_ms",
    "expected_latency_p95_ms",
    "expected_latency_p99_ms",
    "calibration_error",
)


def compare(db: sqlite3.Connection, *, a: Short, b: Short, kind: Kind = Kind.MODEL) -> Result:
    """Two versions (written `MODEL@VERSION`), field by field.

    Returns:
        `a`, `b`: which they are; `same_content`; `fields`: `{field, a, b, same}`; `flags`: the same of flags;
        `metrics`: `{metric, a, b, difference}` (b - a; None where one of them has no such number), with `elo`, win
        rates as `win_rate/OPPONENT`.

    Raises:
        NothingFound: there is no such version.
        BadQuery: one is not written so.
    """
    first, second = (_known(db, Reference.parse(text), kind) for text in (a, b))
    fields = [_field(name, first[name], second[name]) for name in _COMPARED]
    fields += [_field(name, _fact(first, name), _fact(second, name)) for name in _OF_FACTS]
    flags = sorted({*first["flags"], *second["flags"]})
    ours, theirs = _numbers(first), _numbers(second)
    return {
        "a": f"{first['model']}@{first['version']}",
        "b": f"{second['model']}@{second['version']}",
        "same_content": first["artifact"] == second["artifact"],
        "fields": fields,
        "flags": [_field(name, _set(first, name), _set(second, name)) for name in flags],
        "metrics": [_metric(name, ours.get(name), theirs.get(name)) for name in sorted({*ours, *theirs})],
    }


def _known(db: sqlite3.Connection, reference: Reference, kind: Kind) -> Result:
    return info(db, model=reference.model, version=reference.version, kind=kind)


def _fact(version: Mapping[str, Any], name: str) -> Any:
    return version["run_id"] if name == "run_id" else version["facts"].get(name)


def _set(version: Mapping[str, Any], flag: str) -> bool | None:
    found = version["flags"].get(flag)
    return found["value"] if found else None


def _field(name: str, a: Any, b: Any) -> Result:
    return {"field": name, "a": a, "b": b, "same": a == b}


def _numbers(version: Mapping[str, Any]) -> dict[str, float]:
    """All that can be subtracted."""
    rating = version["rating"] or {}
    given = {
        **version["metrics"],
        **{name: rating.get(name) for name in ("elo", "games", "delta")},
        **{f"win_rate/{name}": each["win_rate"] for name, each in version["evaluations"].items()},
        **{f"games/{name}": each["games"] for name, each in version["evaluations"].items()},
    }
    return {name: value for name, value in given.items() if isinstance(value, int | float)}


def _metric(name: str, a: float | None, b: float | None) -> Result:
    return {"metric": name, "a": a, "b": b, "difference": None if a is None or b is None else b - a}
