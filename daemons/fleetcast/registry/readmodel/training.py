"""Training runs: which there were, and one of them with all that was said about it."""

import sqlite3
from typing import Literal

from fleetcast.registry import slowdown as slower
from fleetcast.registry.readmodel.asked import (
    Limit,
    Name,
    Place,
    Result,
    Short,
    Values,
    document,
    none_of,
    place,
    rows_as_dicts,
    values_of,
)

RunState = Literal["queued", "running", "succeeded", "failed", "preempted", "cancelled"]


def runs(
    db: sqlite3.Connection,
    *,
    model: Name | None = None,
    lane: Name | None = None,
    state: RunState | None = None,
    degraded: bool | None = None,
    after: Place | None = None,
    limit: Limit = 50,
) -> Result:
    """Runs, the one that began last first.

    Returns:
        `runs`: what `run.started` said of each, `state`, `started_at`, `finished_at`, `epoch` (the newest), `degraded`
        (None: it is not), `faults` (how many), `checkpoint` (the newest); `next`.
    """
    conditions, values = ["1"], Values()
    for name, given in (("model", model), ("lane", lane), ("state", state), ("degraded", degraded)):
        if given is not None:
            conditions.append(f"r.{name} = ?")
            values.append(given)
    if after is not None:
        conditions.append("(r.started_at, r.run_id) < (?, ?)")
        values += values_of(after, "runs", 2)
    wanted = (
        "SELECT r.run_id, r.started_at, r.document, "  # noqa: S608  # our own names
        "(SELECT count(*) FROM faults f WHERE f.run_id = r.run_id) AS faults "
        f"FROM runs r WHERE {' AND '.join(conditions)} ORDER BY r.started_at DESC, r.run_id DESC LIMIT ?"
    )
    found = db.execute(wanted, (*values, limit + 1)).fetchall()
    shown = found[:limit]
    ends = place("runs", [shown[-1]["started_at"], shown[-1]["run_id"]]) if len(found) > limit else None
    return {"runs": [{**document(row["document"]), "faults": row["faults"]} for row in shown], "next": ends}


def run(db: sqlite3.Connection, *, run_id: Short, epochs: Limit = 500) -> Result:
    """A run with its newest *epochs*, its checkpoints, its faults, its fallbacks (each with `slowdown`: how much longer
    a step takes since; None: its epochs do not tell), and the versions that came of it.

    Raises:
        NothingFound: there is no such run.
    """
    found = db.execute("SELECT document FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if found is None:
        raise none_of(f"run {run_id}")
    newest = "SELECT at, document FROM epochs WHERE run_id = ? ORDER BY epoch DESC LIMIT ?"
    logged = db.execute(newest, (run_id, epochs)).fetchall()
    made = db.execute(
        "SELECT model, version, stage FROM versions WHERE run_id = ? ORDER BY model, version_key", (run_id,)
    )
    return {
        **document(found[0]),
        "epochs": [{**document(row["document"]), "at": row["at"]} for row in reversed(logged)],
        "best": _best(db, run_id),
        "checkpoints": _documents(db, "checkpoints", run_id),
        "faults": _documents(db, "faults", run_id),
        "fallbacks": _fallbacks(db, run_id),
        "versions": rows_as_dicts(made.fetchall()),
    }


def _documents(db: sqlite3.Connection, table: str, run_id: str) -> list[Result]:
    wanted = f"SELECT at, document FROM {table} WHERE run_id = ? ORDER BY at, event"  # noqa: S608  # our own names
    return [{**document(row["document"]), "at": row["at"]} for row in db.execute(wanted, (run_id,))]


def _fallbacks(db: sqlite3.Connection, run_id: str) -> list[Result]:
    found = _documents(db, "fallbacks", run_id)
    if not found:
        return []
    # A run may have thousands of epochs with dozens of metrics each: only what is compared is read.
    times = (
        "SELECT at, json_extract(document, '$.claim') AS claim, json_extract(document, '$.seconds') AS seconds, "
        "json_extract(document, '$.step_seconds') AS step_seconds FROM epochs WHERE run_id = ?"
    )
    epochs = rows_as_dicts(db.execute(times, (run_id,)).fetchall())
    return [{**each, "slowdown": slower.document(each, slower.slowdown(each, found, epochs))} for each in found]


def _best(db: sqlite3.Connection, run_id: str) -> dict[str, Result]:
    """The smallest, the largest and the last value of every metric."""
    wanted = (
        "SELECT metric, min(value) AS lowest, max(value) AS highest, "
        "(SELECT l.value FROM run_metrics l WHERE l.run_id = m.run_id AND l.metric = m.metric "
        "ORDER BY l.epoch DESC LIMIT 1) AS last FROM run_metrics m WHERE run_id = ? GROUP BY metric ORDER BY metric"
    )
    found = db.execute(wanted, (run_id,))
    return {row["metric"]: {name: row[name] for name in ("lowest", "highest", "last")} for row in found}
