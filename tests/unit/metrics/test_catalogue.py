"""The catalogue keeps the rules of names that people who read metrics rely on."""

import re
from pathlib import Path

import pytest

from fleetcast.daemons.metrics import dashboards, document
from fleetcast.daemons.metrics.catalogue import (
    BY_NAME,
    DAEMONS,
    METRICS,
    Kind,
    Metric,
    shown_by,
)

ROOT = Path(__file__).parents[3]
LABELS = {
    *("node", "daemon", "model", "transport", "outcome", "reason", "slot", "stream", "consumer", "phase", "state"),
    *("type", "version", "python", "action", "gate", "decision", "trigger", "severity", "channel", "playbook"),
    *("lane", "gpu", "vendor", "work", "signal", "certificate"),
}
OTHER_UNITS = re.compile(r"_(milliseconds|ms|minutes|hours|days|mib|kb|megabytes|percent)(_|$)")
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def is_well_named(metric: Metric) -> bool:
    prefixed = metric.name.startswith("fleetcast_") or metric.name.startswith("process_")
    grows = metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    timed = metric.kind is not Kind.HISTOGRAM or metric.unit != ""
    return prefixed and grows and timed and OTHER_UNITS.search(metric.name) is None


@each_metric
def test_a_metric_has_our_prefix_a_base_unit_and_a_word_for_growing(metric: Metric) -> None:
    assert is_well_named(metric)
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert metric.help.endswith(".")


def test_a_name_that_breaks_a_rule_would_be_noticed() -> None:
    for name, kind in (("uptime", Kind.GAUGE), ("fleetcast_x", Kind.COUNTER), ("fleetcast_x_ms", Kind.GAUGE)):
        assert not is_well_named(Metric(name, kind, (), "X.", DAEMONS))


@each_metric
def test_labels_are_words_of_few_values_and_a_version_stands_only_beside_a_one(metric: Metric) -> None:
    assert set(metric.labels) <= LABELS
    assert len(set(metric.labels)) == len(metric.labels)
    assert "version" not in metric.labels or metric.name.endswith("_info")


def test_names_are_unique_and_every_daemon_shows_what_all_show() -> None:
    assert len(BY_NAME) == len(METRICS)
    for daemon in DAEMONS:
        assert {"fleetcast_build_info", "fleetcast_bus_ready"} <= {metric.name for metric in shown_by(daemon)}


def test_the_eight_metrics_that_were_asked_for_have_one_of_ours_each() -> None:
    assert sorted(metric.seed for metric in METRICS if metric.seed) == [
        "grace.models.production.count",
        "grace.models.production.degraded",
        "grace.models.production.failing",
        "grace.models.production.healthy",
        "grace.models.{model_id}.drift_score",
        "grace.models.{model_id}.error_rate",
        "grace.models.{model_id}.latency_p95",
        "grace.models.{model_id}.ood_rate",
    ]


def test_docs_and_dashboards_are_those_that_the_catalogue_makes(tmp_path: Path) -> None:
    assert document.main([str(ROOT / "docs" / "metrics.md"), "--check"]) == 0
    assert dashboards.main([str(ROOT / "deploy" / "grafana"), "--check"]) == 0

    page = tmp_path / "metrics.md"
    page.write_text((ROOT / "docs" / "metrics.md").read_text().replace("| gauge |", "| counter |", 1))
    assert document.main([str(page), "--check"]) == 1
    assert dashboards.main([str(tmp_path), "--check"]) == 1


def test_every_expression_of_a_dashboard_names_declared_metrics_and_every_metric_has_a_panel() -> None:
    named: set[str] = set()
    for board in dashboards.DASHBOARDS:
        for expression in (query for panel in board.panels for query, _ in panel.queries):
            words = set(re.findall(r"\b(?:fleetcast|process)_\w+", expression))
            assert words, expression
            named |= words
    assert {series for metric in METRICS for series in metric.series} >= named
    assert [metric.name for metric in METRICS if not named & set(metric.series)] == []
