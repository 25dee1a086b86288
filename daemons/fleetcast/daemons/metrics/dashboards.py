"""Grafana dashboards, made from the catalogue: every metric has a panel, and no panel asks for what is not declared.

`python -m fleetcast.daemons.metrics.dashboards deploy/grafana` writes them; with `--check` it only says whether the
files are those (exit 1: they are not).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleetcast.daemons.metrics.catalogue import (
    BY_NAME,
    EVERY,
    FLEET,
    NOTICES,
    ON_NODES,
    PERFORMANCE,
    REMEDIES,
    TRAINING,
    Kind,
    Metric,
)

SCHEMA: Final = 39
"""Of Grafana 11; later ones read it."""
WIDTH, HEIGHT = 8, 7
SHOWN_AS: Final = {
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "percentunit",
    "percent": "percent",
    "celsius": "celsius",
    "": "short",
}
ADDED_UP: Final = frozenset(metric.name for metric in PERFORMANCE if metric.name.startswith("fleetcast_models_"))
"""Each monitor knows its share of these; of everything else that several daemons show, all of them know the same."""
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `queries`: expressions, each with the name of its lines."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. `uid`: what alerts link to, also the name of its file."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def panel_of(metric: Metric) -> Panel:
    """The picture of one metric."""
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels) or metric.name
    kind = "table" if metric.name.endswith("_info") else "timeseries"
    name = metric.name.removeprefix("fleetcast_")
    title = name.removesuffix("_total").removesuffix("_info").replace("_", " ")
    return Panel(title, _queries(metric, legend), _unit(metric), kind, metric.help)


def _unit(metric: Metric) -> str:
    if metric.name.endswith("_timestamp_seconds"):
        return "dateTimeFromNow"
    if metric.kind is Kind.COUNTER:
        return "Bps" if metric.unit == "bytes" else "ops"
    return SHOWN_AS.get(metric.unit, "short")


def _queries(metric: Metric, legend: str) -> tuple[tuple[str, str], ...]:
    by = ", ".join(metric.labels)
    asked = f"{metric.name}{_filter(metric.labels)}"
    match metric.kind:
        case Kind.HISTOGRAM:
            spread = f"sum by (le, {by}) (rate({metric.name}_bucket{_filter(metric.labels)}[$__rate_interval]))"
            return tuple((f"histogram_quantile({q}, {spread})", f"p{int(q * 100)} {legend}") for q in (0.5, 0.95))
        case Kind.COUNTER:
            expression = f"rate({asked}[$__rate_interval])"
        case Kind.GAUGE:
            expression = asked
            if metric.name.endswith("_timestamp_seconds"):
                expression = f"{asked} * 1000"
    word = "sum" if metric.kind is Kind.COUNTER or metric.name in ADDED_UP else "max"
    return ((f"{word} by ({by}) ({expression})" if by else f"{word}({expression})", legend),)


def _filter(labels: Sequence[str]) -> str:
    chosen = [f'{label}=~"${label}"' for label in ("node", "model") if label in labels]
    return f"{{{','.join(chosen)}}}" if chosen else ""


def _all(metrics: Iterable[Metric]) -> tuple[Panel, ...]:
    return tuple(panel_of(metric) for metric in metrics)


def _number(title: str, expression: str, unit: str = "short") -> Panel:
    return Panel(title, ((expression, title),), unit, "stat")


TRUTH: Final = tuple(
    metric
    for metric in FLEET
    if metric.name.startswith(
        ("fleetcast_stream_", "fleetcast_dlq", "fleetcast_jetstream", "fleetcast_consumer", "fleetcast_audit")
    )
    or metric.name.startswith("fleetcast_read_model")
)

DASHBOARDS: Final = (
    Dashboard(
        "fleetcast-fleet",
        "fleetcast: the fleet",
        (
            _number("nodes up", "sum(max by (node) (fleetcast_node_up))"),
            _number(
                "models behind",
                "count(max by (model) (fleetcast_slot_serving) < max by (model) (fleetcast_slot_wanted)) or vector(0)",
            ),
            _number("models failing", "sum(fleetcast_models_failing)"),
            _number("incidents open", "max(sum by (instance) (fleetcast_incidents_open)) or vector(0)"),
            _number("dead letters", "max(fleetcast_dlq_messages)"),
            _number("least room", "min(fleetcast_disk_free_bytes)", "bytes"),
            *_all(metric for metric in FLEET if metric not in TRUTH),
        ),
    ),
    Dashboard("fleetcast-transfers", "fleetcast: nodes and transfers", _all(ON_NODES)),
    Dashboard("fleetcast-truth", "fleetcast: streams and records", _all(TRUTH)),
    Dashboard("fleetcast-models", "fleetcast: models in production", _all(PERFORMANCE)),
    Dashboard("fleetcast-incidents", "fleetcast: incidents and messages", _all((*REMEDIES, *NOTICES))),
    Dashboard("fleetcast-training", "fleetcast: training", _all(TRAINING)),
    Dashboard("fleetcast-daemons", "fleetcast: daemons", _all(EVERY)),
)


def rendered(dashboard: Dashboard) -> str:
    """The JSON that Grafana imports."""
    document = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["fleetcast"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource(), _choice("node"), _choice("model")]},
        "links": [{"type": "dashboards", "tags": ["fleetcast"], "title": "fleetcast", "asDropdown": True}],
        "panels": [_drawn(panel, place) for place, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _choice(label: str) -> dict[str, Any]:
    metric = {"node": "fleetcast_disk_free_bytes", "model": "fleetcast_slot_generation"}[label]
    assert label in BY_NAME[metric].labels
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({metric}, {label})",
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _drawn(panel: Panel, place: int) -> dict[str, Any]:
    row, column = divmod(place, 24 // WIDTH)
    return {
        "id": place + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "instant": panel.kind != "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Write the files, or check them."""
    folder, check = Path(arguments[0]), "--check" in arguments
    files = {folder / f"{dashboard.uid}.json": rendered(dashboard) for dashboard in DASHBOARDS}
    if check:
        strange = {*folder.glob("*.json")} ^ files.keys()
        stale = [p for p, text in files.items() if p.exists() and p.read_text(encoding="utf-8") != text]
        for path in sorted({*strange, *stale}):
            print(f"{path} is not what the catalogue makes", file=sys.stderr)
        return int(bool(strange or stale))
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
