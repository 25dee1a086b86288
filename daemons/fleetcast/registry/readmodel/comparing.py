"""Two training runs beside each other."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from fleetcast.registry.readmodel.asked import Result, Short
from fleetcast.registry.readmodel.training import run

_FIELDS: Final = (
    "lane",
    "model",
    "state",
    "reason",
    "experiment_id",
    "node",
    "host",
    "device",
    "git_commit",
    "environment",
    "reproducibility_hash",
    "data",
)
MOST_EPOCHS: Final = 500


def compare_runs(db: sqlite3.Connection, *, a: Short, b: Short) -> Result:
    """Two runs, field by field and number by number.

    Returns:
        `a`, `b`: which they are; `fields`, `config`: `{field, a, b, same}`; `metrics`: `{metric, a, b, difference}` of
        the last values (b - a; None where one of them has none), with `lowest` and `highest` of both as pairs; `cost`:
        the same without these: seconds in all, epochs, mean seconds of an epoch and of a step, the share of time that
        was spent waiting for data, and peaks of memory.

    Raises:
        NothingFound: there is no such run.
    """
    first, second = (run(db, run_id=each, epochs=MOST_EPOCHS) for each in (a, b))
    ours, theirs = (_flat(each.get("config") or {}) for each in (first, second))
    cost_a, cost_b = cost(first), cost(second)
    return {
        "a": a,
        "b": b,
        "fields": [_field(name, first.get(name), second.get(name)) for name in _FIELDS],
        "config": [_field(name, ours.get(name), theirs.get(name)) for name in sorted({*ours, *theirs})],
        "metrics": [_metric(name, first["best"], second["best"]) for name in sorted({*first["best"], *second["best"]})],
        "cost": [{"metric": name, **_difference(cost_a[name], cost_b[name])} for name in cost_a],
    }


def cost(found: Mapping[str, Any]) -> dict[str, float | None]:
    """What a run cost, as far as its epochs say; None: they do not."""
    epochs: Sequence[Mapping[str, Any]] = found["epochs"]
    spent, waited = _all(epochs, "seconds"), _all(epochs, "data_wait_seconds")
    return {
        "seconds": _lasted(found),
        "epochs": float(len(epochs)),
        "epoch_seconds": _mean(spent),
        "step_seconds": _mean(_all(epochs, "step_seconds")),
        "data_wait_ratio": sum(waited) / sum(spent) if waited and sum(spent) else None,
        "gpu_peak_bytes": max(_all(epochs, "gpu_peak_bytes"), default=None),
        "host_peak_bytes": max(_all(epochs, "host_peak_bytes"), default=None),
    }


def _all(epochs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [each[name] for each in epochs if each.get(name) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _lasted(found: Mapping[str, Any]) -> float | None:
    if not found.get("finished_at"):
        return None
    began, ended = (datetime.fromisoformat(found[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


def _field(name: str, a: Any, b: Any) -> Result:
    return {"field": name, "a": a, "b": b, "same": a == b}


def _metric(name: str, ours: Mapping[str, Result], theirs: Mapping[str, Result]) -> Result:
    a, b = ours.get(name, {}), theirs.get(name, {})
    best = {each: [a.get(each), b.get(each)] for each in ("lowest", "highest")}
    return {"metric": name, **_difference(a.get("last"), b.get("last")), **best}


def _difference(a: float | None, b: float | None) -> Result:
    return {"a": a, "b": b, "difference": None if a is None or b is None else b - a}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in config.items():
        rows |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return rows
