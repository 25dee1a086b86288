"""How versions performed: charts from the minutes of all nodes, and what the record says of why a model was rolled
back."""

import sqlite3
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field

from fleetcast.events.performance import LatencyHistogram
from fleetcast.registry.readmodel.asked import Limit, Name, Result, Short, Values, Version, document, moment_asked
from fleetcast.registry.readmodel.flatten import stamp

MINUTE_SECONDS: Final = 60
POINTS: Final = 2000
"""Of one answer at most."""
BEFORE_MINUTES: Final = 10
"""What is told of a version from before it was rolled back: the window of seed 003."""
TAKEN_BACK: Final = ("slot.rolled_back", "rollout.withdrawn")
StepMinutes = Annotated[int, Field(ge=1, le=24 * 60)]


def performance(
    db: sqlite3.Connection,
    *,
    model: Name,
    version: Version | None = None,
    node: Short | None = None,
    since: Short | None = None,
    until: Short | None = None,
    step_minutes: StepMinutes = 1,
    by_node: bool = False,
    limit: Annotated[int, Field(ge=1, le=POINTS)] = 500,
) -> Result:
    """How the versions of a model performed, in steps of so many minutes, the oldest first; minutes are kept 90 days.

    Args:
        since, until: RFC 3339; only minutes that began from then on, and before.
        by_node: one point per node instead of one over all nodes: what is added up are counts and histograms.
        limit: the newest so many points.

    Returns:
        `points`: `{timestamp, version, node, slot, num_requests, errors, error_rate, ood_rate, latency_p50_ms,
        latency_p95_ms, latency_p99_ms, input_drift_score, accuracy, gpu_memory_mb, snapshots, nodes}`; `truncated`:
        whether there are older ones.

    Raises:
        BadQuery: a time is none.
    """
    conditions, values = ["model_id = ?"], Values([model])
    for name, given in (("version", version), ("node", node)):
        if given is not None:
            conditions.append(f"{name} = ?")
            values.append(given)
    for sign, said in ((">=", since), ("<", until)):
        if said is not None:
            conditions.append(f"minute {sign} ?")
            values.append(_minute(said))
    wanted = f"SELECT * FROM memory_model_performance WHERE {' AND '.join(conditions)} ORDER BY minute DESC"  # noqa: S608  # ours
    points: dict[tuple[int, str, str], _Point] = {}
    truncated = False
    for row in db.execute(wanted, values):
        key = (row["minute"] // step_minutes, row["version"], row["node"] if by_node else "")
        if key not in points and len(points) == limit:
            truncated = True
            break
        points.setdefault(key, _Point(row["version"], row["minute"] // step_minutes * step_minutes)).add(row)
    shown = [points[key].document(by_node=by_node) for key in sorted(points)]
    return {"points": shown, "truncated": truncated}


def rollback_reasons(db: sqlite3.Connection, *, model: Name, limit: Limit = 10) -> Result:
    """Why a model was taken back, the newest first.

    Returns:
        `rollbacks`: `{n, at, version, to, actor, reason, performance}`: the audit record, the version that was left and
        the one that it went to, and how both performed in the 10 minutes before (`{version: point}`, as `performance`
        gives them; none where nothing was reported).
    """
    marks = ", ".join("?" * len(TAKEN_BACK))
    wanted = f"SELECT * FROM audit WHERE model = ? AND action IN ({marks}) ORDER BY n DESC LIMIT ?"  # noqa: S608  # ours
    found = db.execute(wanted, (model, *TAKEN_BACK, limit)).fetchall()
    return {"rollbacks": [_rollback(db, model, row) for row in found]}


def _rollback(db: sqlite3.Connection, model: str, row: sqlite3.Row) -> Result:
    record = document(row["document"])
    before, after = (_slots(record.get(name)) for name in ("before", "after"))
    to = after.get("production") or before.get("production")
    left = before.get("production") if before.get("production") != to else before.get("canary")
    spoken = [version for version in (left, to) if version]
    return {
        "n": row["n"],
        "at": row["at"],
        "version": left or row["version"],
        "to": to,
        "actor": row["actor"],
        "reason": record.get("reason"),
        "performance": {version: _before(db, model, version, row["at"]) for version in spoken},
    }


def _slots(said: Result | None) -> dict[str, str]:
    """Versions by slot, of the state that a record holds."""
    slot = (said or {}).get("slot") or said or {}
    return {
        name: slot[name]["version"]
        for name in ("production", "canary")
        if isinstance(slot.get(name), dict) and "version" in slot[name]
    }


def _before(db: sqlite3.Connection, model: str, version: str, at: str) -> Result | None:
    end = _minute(at)
    rows = db.execute(
        "SELECT * FROM memory_model_performance WHERE model_id = ? AND version = ? AND minute BETWEEN ? AND ?",
        (model, version, end - BEFORE_MINUTES, end),
    ).fetchall()
    if not rows:
        return None
    point = _Point(version, end - BEFORE_MINUTES)
    for row in rows:
        point.add(row)
    return point.document(by_node=False)


def _minute(text: str) -> int:
    return int(datetime.fromisoformat(moment_asked(text)).timestamp() // MINUTE_SECONDS)


class _Point:
    """Minutes that are added up: counts and histograms, of which the rates are made in the end."""

    def __init__(self, version: str, minute: int) -> None:
        self._version = version
        self._minute = minute
        self._nodes: set[str] = set()
        self._slots: Counter[str] = Counter()
        self._sums: dict[str, float] = defaultdict(float)
        self._drift = 0.0
        self._accuracy = 0.0
        self._latency = LatencyHistogram()
        self._reported = LatencyHistogram()
        self._greatest: dict[str, float] = {}

    def add(self, row: sqlite3.Row) -> None:
        self._nodes.add(row["node"])
        self._slots[row["slot"]] += 1
        for name in ("num_requests", "errors", "error_requests", "ood", "ood_requests", "drift_requests", "snapshots"):
            self._sums[name] += row[name] or 0
        if row["input_drift_score"] is not None:
            self._drift += row["input_drift_score"] * row["drift_requests"]
        if row["accuracy"] is not None:
            self._accuracy += row["accuracy"] * row["num_requests"]
            self._sums["accuracy_requests"] += row["num_requests"]
        self._latency.add(LatencyHistogram(_buckets(row["latency"])))
        self._reported.add(LatencyHistogram(_buckets(row["reported_p95"])))
        for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "gpu_memory_mb"):
            if row[name] is not None:
                self._greatest[name] = max(row[name], self._greatest.get(name, 0.0))

    def document(self, *, by_node: bool) -> Result:
        sums = self._sums
        return {
            "timestamp": stamp(datetime.fromtimestamp(self._minute * MINUTE_SECONDS, UTC)),
            "version": self._version,
            "node": next(iter(self._nodes)) if by_node else None,
            "slot": self._slots.most_common(1)[0][0],
            "num_requests": round(sums["num_requests"]),
            "errors": round(sums["errors"], 3),
            "error_rate": _share(sums["errors"], sums["error_requests"]),
            "ood_rate": _share(sums["ood"], sums["ood_requests"]),
            "latency_p50_ms": self._percentile(0.5, "latency_p50_ms"),
            "latency_p95_ms": self._percentile(0.95, "latency_p95_ms"),
            "latency_p99_ms": self._percentile(0.99, "latency_p99_ms"),
            "input_drift_score": _share(self._drift, sums["drift_requests"]),
            "accuracy": _share(self._accuracy, sums["accuracy_requests"]),
            "gpu_memory_mb": self._greatest.get("gpu_memory_mb"),
            "snapshots": round(sums["snapshots"]),
            "nodes": len(self._nodes),
        }

    def _percentile(self, share: float, name: str) -> float | None:
        if self._latency:
            return self._latency.percentile(share)
        # Percentiles of several nodes cannot be added up: their median is shown, of the others the worst.
        return self._reported.percentile(0.5) if self._reported and share == 0.95 else self._greatest.get(name)


def _buckets(text: str | None) -> dict[int, int]:
    return {int(bucket): count for bucket, count in (document(text) or {}).items()}


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None
