"""What nodes did with versions: the record, and where each of them is now as far as events tell."""

import sqlite3

from fleetcast.registry.readmodel.asked import (
    Limit,
    Name,
    Place,
    Result,
    Values,
    Version,
    place,
    rows_as_dicts,
    values_of,
)


def consumption(
    db: sqlite3.Connection,
    *,
    model: Name,
    version: Version | None = None,
    node: Name | None = None,
    after: Place | None = None,
    limit: Limit = 100,
) -> Result:
    """What nodes did with the versions of a model, the newest first. FC_EVENTS keeps 90 days.

    Returns:
        `events`: `{what, model, version, node, at, artifact, generation, slot, bytes, transport, seconds, reason}` with
        `what` one of `installed`, `activated`, `removed`; `nodes`: `{version: {installed, activated}}`, on how many it
        is; `next`.
    """
    conditions, values = ["model = ?"], [model]
    for name, given in (("version", version), ("node", node)):
        if given is not None:
            conditions.append(f"{name} = ?")
            values.append(given)
    bounds: Values = []
    if after is not None:
        conditions.append("sequence < ?")
        bounds = values_of(after, "consumption", 1)
    wanted = f"SELECT * FROM consumption WHERE {' AND '.join(conditions)} ORDER BY sequence DESC LIMIT ?"  # noqa: S608  # ours
    found = db.execute(wanted, (*values, *bounds, limit + 1)).fetchall()
    shown = rows_as_dicts(found[:limit])
    return {
        "events": shown,
        "nodes": {each: counts_of(db, model, each) for each in _versions(db, model, version)},
        "next": place("consumption", [shown[-1]["sequence"]]) if len(found) > limit else None,
    }


def _versions(db: sqlite3.Connection, model: str, version: str | None) -> list[str]:
    if version is not None:
        return [version]
    return [
        row[0] for row in db.execute("SELECT DISTINCT version FROM consumption WHERE model = ? ORDER BY 1", (model,))
    ]


def counts_of(db: sqlite3.Connection, model: str, version: str) -> Result:
    """On how many nodes a version is installed, and on how many it was the last that was activated.

    What a node says of itself in its heartbeat is nearer to the truth: events tell what it did.
    """
    installed = db.execute(
        "SELECT count(*) FROM (SELECT node, what, max(sequence) FROM consumption "
        "WHERE model = ? AND version = ? AND what IN ('installed', 'removed') GROUP BY node) WHERE what = 'installed'",
        (model, version),
    ).fetchone()[0]
    nodes = db.execute(
        "SELECT DISTINCT node FROM consumption WHERE model = ? AND version = ? AND what = 'activated'", (model, version)
    ).fetchall()
    active = sum(_last_activated(db, model, row["node"]) == version for row in nodes)
    return {"installed": installed, "activated": active}


def _last_activated(db: sqlite3.Connection, model: str, node: str) -> str:
    newest = (
        "SELECT version FROM consumption WHERE model = ? AND node = ? AND what = 'activated' "
        "ORDER BY sequence DESC LIMIT 1"
    )
    return str(db.execute(newest, (model, node)).fetchone()[0])
