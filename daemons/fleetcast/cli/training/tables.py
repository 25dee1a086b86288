"""Runs drawn for people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from fleetcast.cli.table import table
from fleetcast.cli.units import clock, duration, moment, size

Row = Mapping[str, Any]
_MARK = "-"
METRICS_SHOWN = 3
"""Metrics of a run in a list; `runs show` has all of them."""
CHECKPOINTS_SHOWN = 5
"""Newest checkpoints that a run said; what of them is kept is another question (`fleetcast checkpoints`)."""


def listed(rows: Sequence[Row]) -> Table:
    """One line for each run."""
    columns = ("RUN", "LANE", "MODEL", "STATE", "EPOCH", "STEP", "METRICS", "NODE", "STARTED", "ENDED")
    return table(columns, [_line(row) for row in rows], right=(4, 5))


def _line(row: Row) -> tuple[object, ...]:
    latest = row.get("latest") or {}
    state = f"{row['state']}, degraded" if row.get("degraded") and row["state"] == "running" else row["state"]
    return (
        row["run_id"],
        row.get("lane") or _MARK,
        row.get("model") or _MARK,
        f"{state}, {row['faults']} faults" if row.get("faults") else state,
        _plain(row.get("epoch")),
        _plain(latest.get("step")),
        metrics(latest, METRICS_SHOWN) or _MARK,
        row.get("node") or _MARK,
        _clock(row.get("started_at")),
        _clock(row.get("finished_at")),
    )


def shown(result: Row) -> list[Table]:
    """Everything about one run."""
    drawn = [table(("FACT", "VALUE"), _facts(result))]
    if result["epochs"]:
        drawn.append(_epochs(result["epochs"]))
    if result["best"]:
        best = [(name, *(_number(each[which]) for which in _BEST)) for name, each in result["best"].items()]
        drawn.append(table(("METRIC", "LAST", "LOWEST", "HIGHEST"), best, right=(1, 2, 3)))
    if result["checkpoints"]:
        drawn.append(_checkpoints(result["checkpoints"]))
    if result["faults"]:
        drawn.append(_faults(result["faults"]))
    if result.get("fallbacks"):
        drawn.append(_fallbacks(result["fallbacks"]))
    if result["versions"]:
        made = [(f"{v['model']}@{v['version']}", v["stage"]) for v in result["versions"]]
        drawn.append(table(("MADE", "STAGE"), made))
    return drawn


_BEST = ("last", "lowest", "highest")
_TOLD = (
    "state",
    "reason",
    "lane",
    "model",
    "experiment_id",
    "node",
    "host",
    "device",
    "git_commit",
    "environment",
    "reproducibility_hash",
)


def _facts(result: Row) -> list[tuple[str, str]]:
    rows = [("run", str(result["run_id"]))]
    rows += [(name, str(result[name])) for name in _TOLD if result.get(name) is not None]
    rows += [(name, _clock(result[name])) for name in ("started_at", "finished_at") if result.get(name)]
    latest = result.get("latest") or {}
    if result["state"] == "running" and latest:
        rows.append(("latest", f"step {_plain(latest.get('step'))}, {metrics(latest, 8) or 'no metrics'}"))
    if result.get("degraded"):
        rows.append(("degraded", f"since epoch {result['degraded']['since_epoch']}: {result['degraded']['reason']}"))
    rows += [("slower", each["slowdown"]["said"]) for each in result.get("fallbacks") or () if each.get("slowdown")]
    rows += [(f"data {number}", _slice(each)) for number, each in enumerate(result.get("data") or (), 1)]
    return rows + [(f"config.{name}", str(value)) for name, value in (result.get("config") or {}).items()]


def _slice(data: Row) -> str:
    more = [f"{name} {data[name]}" for name in ("filter", "range", "samples") if data.get(name) is not None]
    return ", ".join([str(data["data_set"]), *more])


def _epochs(epochs: Sequence[Row]) -> Table:
    columns = ("EPOCH", "TOOK", "STEPS", "A STEP", "DATA WAIT", "GPU PEAK", "HOST PEAK", "METRICS")
    return table(columns, [_epoch(each) for each in epochs], right=range(7))


def _epoch(epoch: Row) -> tuple[object, ...]:
    took, waited, step = (epoch.get(name) for name in ("seconds", "data_wait_seconds", "step_seconds"))
    return (
        epoch["epoch"],
        _MARK if took is None else duration(took),
        _plain(epoch.get("steps")),
        _MARK if step is None else duration(step),
        _MARK if waited is None or not took else f"{waited / took:.0%}",
        _bytes(epoch.get("gpu_peak_bytes")),
        _bytes(epoch.get("host_peak_bytes")),
        metrics(epoch, 8) or _MARK,
    )


def _checkpoints(checkpoints: Sequence[Row]) -> Table:
    columns = ("CHECKPOINT", "EPOCH", "STEP", "BYTES", "NODE", "SAVED")
    rows = [
        (c["path"], c["epoch"], _plain(c.get("step")), size(c["size"]), c["node"], _clock(c["at"]))
        for c in checkpoints[-CHECKPOINTS_SHOWN:]
    ]
    return table(columns, rows, right=(1, 2, 3))


def _faults(faults: Sequence[Row]) -> Table:
    columns = ("FAULT", "SIGNATURE", "AT", "WHY", "DONE")
    rows = [(f["fault_class"], f["signature"], _clock(f["at"]), f["reason"], f.get("action") or _MARK) for f in faults]
    return table(columns, rows)


def _fallbacks(fallbacks: Sequence[Row]) -> Table:
    columns = ("FALLBACK", "TO", "AT", "BACK", "WHY", "DONE")
    rows = [
        (f["from_device"], f["to_device"], _clock(f["at"]), _clock(f.get("returned_at")), f["reason"], f[_DONE])
        for f in fallbacks
    ]
    return table(columns, rows)


_DONE = "remedial_action"


def compared(result: Row) -> list[Table]:
    """Two runs beside each other: what differs of what they are, and every number."""
    differing = [
        (row["field"], _plain(row["a"]), _plain(row["b"]))
        for row in (*result["fields"], *({**row, "field": f"config.{row['field']}"} for row in result["config"]))
        if not row["same"]
    ]
    drawn = [table(("DIFFERS", result["a"], result["b"]), differing)]
    for head, rows in (("METRIC (LAST)", result["metrics"]), ("COST", result["cost"])):
        if rows:
            lines = [(m["metric"], *(_number(m[which]) for which in ("a", "b", "difference"))) for m in rows]
            drawn.append(table((head, result["a"], result["b"], "DIFFERENCE"), lines, right=(1, 2, 3)))
    return drawn


def metrics(said: Row, most: int) -> str:
    """Metrics of an epoch in one line; first those that are no numbers, which nobody should overlook."""
    odd: Iterable[tuple[str, object]] = (said.get("nonfinite") or {}).items()
    plain = ((name, _number(value)) for name, value in (said.get("metrics") or {}).items())
    found = [f"{name} {value}" for name, value in (*odd, *plain)]
    return ", ".join([*found[:most], *([f"and {len(found) - most} more"] if len(found) > most else [])])


def _plain(value: object) -> str:
    return _MARK if value is None else str(value)


def _number(value: float | None) -> str:
    return _MARK if value is None else f"{value:.6g}"


def _bytes(value: int | None) -> str:
    return _MARK if value is None else size(value)


def _clock(at: str | None) -> str:
    return clock(moment(at)) if at else _MARK
