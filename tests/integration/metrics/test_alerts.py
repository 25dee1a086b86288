"""The alert rules, tried by promtool: each fires on what it is for, and not on what is well."""

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetcast.daemons.metrics.catalogue import METRICS
from fleetcast.daemons.metrics.dashboards import DASHBOARDS

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy" / "prometheus" / "fleetcast.rules.yml"
NODE = 'node="node-2"'
OF = f'daemon="registry",{NODE}'
READY = 'fleetcast_daemon_ready{daemon="%s",node="node-1"}'
LAG = 'fleetcast_event_lag_seconds_bucket{daemon="remedy",node="node-1",le="%s"}'

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing (apt-get install prometheus)"
)

MINUTES = "30m"
"""When alerts are looked at; the longest `for` is 15 minutes."""
Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """What a rule is tried with; a value is held for the whole time, unless it says how it changes.

    Attributes:
        fires, quiet: series on which it fires, and on which it does not.
        labels: of the alert, besides its name and severity.
    """

    fires: Series
    quiet: Series
    labels: Series


def one(name: str, bad: float | str, well: float | str, labels: Series | None = None) -> Case:
    return Case({name: str(bad)}, {name: str(well)}, labels or {})


def on_node(name: str, bad: float | str, well: float | str) -> Case:
    return one(f"{name}{{{NODE}}}", bad, well, {"node": "node-2"})


def without(daemon: str) -> Case:
    return Case({}, {READY % daemon: "1"}, {})


def stream(name: str, bad: float | str, well: float | str) -> Case:
    return one(f'{name}{{stream="FC_AUDIT"}}', bad, well, {"stream": "FC_AUDIT"})


def expiry(days: int) -> Case:
    """A certificate that ends a second sooner than *days* after the alert is looked at (30 minutes from 1970 on)."""
    limit = 30 * 60 + days * 86400
    labels = {"certificate": "own", "daemon": "registry", "node": "node-2"}
    return one(f'fleetcast_certificate_expiry_timestamp_seconds{{certificate="own",{OF}}}', limit - 1, limit, labels)


UP, STOPPED = f"fleetcast_node_up{{{NODE}}}", f"fleetcast_node_stopped{{{NODE}}}"
FREE, RESERVE = f"fleetcast_disk_free_bytes{{{NODE}}}", f"fleetcast_disk_reserve_bytes{{{NODE}}}"
THERE, WANTED = 'fleetcast_stream_replicas{stream="FC_AUDIT"}', 'fleetcast_stream_replicas_wanted{stream="FC_AUDIT"}'
BYTES, LIMIT = 'fleetcast_stream_bytes{stream="%s"}', 'fleetcast_stream_limit_bytes{stream="%s"}'
STORED, ROOM = "fleetcast_jetstream_storage_bytes", "fleetcast_jetstream_storage_limit_bytes"
CASES = {
    "FleetcastNodeGone": Case({UP: "0", STOPPED: "0"}, {UP: "0", STOPPED: "1"}, {"node": "node-2"}),
    "FleetcastTargetDown": Case(
        {'up{job="fleetcast",instance="node-2/registry"}': "0"},
        {'up{job="fleetcast",instance="node-2/registry"}': "1", 'up{job="other",instance="x"}': "0"},
        {"job": "fleetcast", "instance": "node-2/registry"},
    ),
    "FleetcastNoRegistry": without("registry"),
    "FleetcastNoRemedy": without("remedy"),
    "FleetcastNoMonitor": without("monitor"),
    "FleetcastNoNotifier": without("notifier"),
    "FleetcastDaemonNotReady": one(f"fleetcast_daemon_ready{{{OF}}}", 0, 1, {"daemon": "registry", "node": "node-2"}),
    "FleetcastBusAway": one(f"fleetcast_bus_ready{{{OF}}}", 0, 1, {"daemon": "registry", "node": "node-2"}),
    "FleetcastCertificateEnds": expiry(days=21),
    "FleetcastCertificateEnded": expiry(days=1),
    "FleetcastBusUnsteady": one(
        f"fleetcast_bus_interruptions_total{{{OF}}}", "0+1x60", "0+0x60", {"daemon": "registry", "node": "node-2"}
    ),
    "FleetcastDiskLow": Case({FREE: "99", RESERVE: "100"}, {FREE: "101", RESERVE: "100"}, {"node": "node-2"}),
    "FleetcastDiskFull": Case({FREE: "24", RESERVE: "100"}, {FREE: "26", RESERVE: "100"}, {"node": "node-2"}),
    "FleetcastSpoolGrows": on_node("fleetcast_spool_entries", 1001, 1000),
    "FleetcastSpoolLost": on_node("fleetcast_spool_lost_total", "0+1x60", "7+0x60"),
    "FleetcastSlotNotConverged": Case(
        {'fleetcast_slot_behind{model="m",reason="not_verified",instance="a"}': "1"},
        {'fleetcast_slot_behind{model="m",reason="silent",instance="a"}': "1"},
        {"model": "m"},
    ),
    "FleetcastSlotStrangers": one('fleetcast_slot_strangers{model="m"}', 1, 0, {"model": "m"}),
    "FleetcastRolloutWaits": Case(
        {'fleetcast_rollouts{phase="halted"}': "1"}, {'fleetcast_rollouts{phase="baking"}': "1"}, {"phase": "halted"}
    ),
    "FleetcastHookFailed": on_node("fleetcast_hooks_failed", 1, 0),
    "FleetcastRollbacksMany": Case(
        {'fleetcast_rollbacks_total{trigger="remedy"}': "0+1x60"},
        {'fleetcast_rollbacks_total{trigger="cli"}': "0+1x60"},
        {},
    ),
    "FleetcastTransferStalled": on_node("fleetcast_transfer_idle_seconds", 301, 299),
    "FleetcastTransfersFail": Case(
        {f'fleetcast_transfers_total{{{NODE},outcome="failed"}}': "0+1x60"},
        {f'fleetcast_transfers_total{{{NODE},outcome="installed"}}': "0+1x60"},
        {"node": "node-2"},
    ),
    "FleetcastBytesRefused": one(
        f'fleetcast_verify_failures_total{{{NODE},reason="peer"}}',
        "0+1x60",
        "3+0x60",
        {"node": "node-2", "reason": "peer"},
    ),
    "FleetcastDeadLetters": one("fleetcast_dlq_messages", 1, 0),
    "FleetcastStreamWithoutLeader": stream("fleetcast_stream_led", 0, 1),
    "FleetcastReplicasMissing": Case({THERE: "2", WANTED: "3"}, {THERE: "3", WANTED: "3"}, {"stream": "FC_AUDIT"}),
    "FleetcastReplicaLag": stream("fleetcast_stream_replica_lag_messages", 1001, 1000),
    "FleetcastSourceLag": stream("fleetcast_stream_source_lag_messages", "5+0x60", "5 0 5 0 5 0 5 0 5 0 5 0"),
    "FleetcastStreamNearlyFull": Case(
        {BYTES % "FC_WORK": "81", LIMIT % "FC_WORK": "100"},
        {BYTES % "FC_EVENTS": "99", LIMIT % "FC_EVENTS": "100", BYTES % "FC_WORK": "79", LIMIT % "FC_WORK": "100"},
        {"stream": "FC_WORK"},
    ),
    "FleetcastStorageNearlyFull": Case({STORED: "81", ROOM: "100"}, {STORED: "79", ROOM: "100"}, {}),
    "FleetcastHandlersBehind": one(
        'fleetcast_consumer_pending_messages{stream="FC_EVENTS",consumer="intake"}',
        1001,
        1000,
        {"stream": "FC_EVENTS", "consumer": "intake"},
    ),
    "FleetcastEventsLate": Case(
        {LAG % "30.0": "0+0x60", LAG % "60.0": "0+10x60", LAG % "+Inf": "0+10x60"},
        {LAG % "30.0": "0+10x60", LAG % "60.0": "0+10x60", LAG % "+Inf": "0+10x60"},
        {"daemon": "remedy"},
    ),
    "FleetcastReadModelBehind": on_node("fleetcast_read_model_behind_messages", 1001, 1000),
    "FleetcastBackupOld": Case(
        {"fleetcast_backup_taken_timestamp_seconds": "0", "fleetcast_backup_recovery_point_seconds": "600"},
        {"fleetcast_backup_taken_timestamp_seconds": "0+60x60", "fleetcast_backup_recovery_point_seconds": "600"},
        {},
    ),
    "FleetcastAuditBroken": one("fleetcast_audit_broken", 1, 0),
    "FleetcastAuditNotChecked": one("fleetcast_audit_checked_timestamp_seconds", 0, "0+60x60"),
    "FleetcastAuditNeverChecked": Case(
        {READY % "registry": "1"},
        {READY % "registry": "1", "fleetcast_audit_checked_timestamp_seconds": "0+60x60"},
        {},
    ),
    "FleetcastModelFailing": one("fleetcast_models_failing", 1, 0),
    "FleetcastSnapshotsSilent": one(
        'fleetcast_model_snapshot_age_seconds{model="m",slot="canary"}', 901, 899, {"model": "m", "slot": "canary"}
    ),
    "FleetcastMonitorBehind": on_node("fleetcast_snapshot_lag_seconds", 61, 59),
    "FleetcastIncidentOpen": Case(
        {'fleetcast_incidents_open{severity="high",trigger="error_rate"}': "1"},
        {'fleetcast_incidents_open{severity="low",trigger="error_rate"}': "1"},
        {"trigger": "error_rate"},
    ),
    "FleetcastIncidentUnattended": one('fleetcast_incident_unattended_seconds{severity="critical"}', 901, 899),
    "FleetcastPlaybookFailed": Case(
        {'fleetcast_incidents_open{severity="high",trigger="playbook_failed"}': "1"},
        {'fleetcast_incidents_open{severity="high",trigger="error_rate"}': "1"},
        {"trigger": "playbook_failed"},
    ),
    "FleetcastNoticesParked": one(
        'fleetcast_notices_parked_total{channel="ops"}', "0+1x60", "5+0x60", {"channel": "ops"}
    ),
    "FleetcastChannelFails": one('fleetcast_channel_failing_seconds{channel="ops"}', 601, 599, {"channel": "ops"}),
    "FleetcastTrainingStuck": on_node("fleetcast_training_quiet_seconds", 21601, 21599),
    "FleetcastTrainingWaits": one('fleetcast_training_queued_seconds{work="gpu"}', 7201, 7199, {"work": "gpu"}),
    "FleetcastNodeQuarantined": on_node("fleetcast_node_quarantined", 1, 0),
    "FleetcastNodeReclaimed": Case(
        {f"fleetcast_node_reclaim_timestamp_seconds{{{NODE}}}": "1900"},
        # More than an hour ago, half an hour after 1970 began.
        {f"fleetcast_node_reclaim_timestamp_seconds{{{NODE}}}": "-1900"},
        {"node": "node-2"},
    ),
    "FleetcastGpuFault": one(
        f'fleetcast_gpu_usable{{{NODE},gpu="1",vendor="nvidia"}}',
        0,
        1,
        {"node": "node-2", "gpu": "1", "vendor": "nvidia"},
    ),
}


@functools.cache
def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def asks_for(alert: str) -> set[str]:
    """The metrics of its expression."""
    return set(re.findall(r"\b(?:fleetcast_\w+|up)\b", rules()[alert]["expr"]))


def groups(alerts: Iterable[str]) -> list[list[str]]:
    """Alerts that can be tried together, because none asks for a metric of another: promtool evaluates all rules for
    each group."""
    found: list[list[str]] = []
    for alert in alerts:
        fits = (group for group in found if not any(asks_for(alert) & asks_for(other) for other in group))
        group = next(fits, None)
        if group is None:
            found.append(group := [])
        group.append(alert)
    return found


def trial(cases: Mapping[str, Case], *, fires: bool) -> dict[str, Any]:
    """What promtool is to try: that these alerts fire, or are quiet."""
    series = {name: v for case in cases.values() for name, v in (case.fires if fires else case.quiet).items()}
    return {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": v if "x" in v or " " in v else f"{v}+0x60"} for name, v in series.items()
        ],
        "promql_expr_test": [expected(alert, case, fires=fires) for alert, case in cases.items()],
    }


def expected(alert: str, case: Case, *, fires: bool) -> dict[str, Any]:
    """What there is of an alert in the end. Its wording is not part of it: labels say which one it is."""
    severity = rules()[alert]["labels"]["severity"]
    labels = {"alertname": alert, "alertstate": "firing", "severity": severity, **case.labels}
    text = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return {
        "expr": f'ALERTS{{alertname="{alert}",alertstate="firing"}}',
        "eval_time": MINUTES,
        "exp_samples": [{"labels": f"ALERTS{{{text}}}", "value": 1}] if fires else [],
    }


def tried(folder: Path, *tests: dict[str, Any]) -> str:
    """What promtool says of the tests; empty: all of them hold."""
    file = folder / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=110)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_rule_is_tried() -> None:
    assert CASES.keys() == rules().keys()


@needs_promtool
def test_every_rule_fires_on_what_it_is_for_and_not_on_what_is_well(tmp_path: Path) -> None:
    together = [{alert: CASES[alert] for alert in group} for group in groups(CASES)]

    assert tried(tmp_path, *(trial(cases, fires=fires) for cases in together for fires in (True, False))) == ""


@needs_promtool
def test_a_rule_that_cannot_fire_and_one_that_always_does_are_noticed(tmp_path: Path) -> None:
    case = CASES["FleetcastDeadLetters"]
    swapped = {"FleetcastDeadLetters": Case(case.quiet, case.fires, {})}

    for fires in (True, False):
        assert "FleetcastDeadLetters" in tried(tmp_path, trial(swapped, fires=fires))


@pytest.mark.parametrize("alert", rules())
def test_a_rule_names_declared_metrics_a_page_that_there_is_and_who_is_to_hear_of_it(alert: str) -> None:
    rule = rules()[alert]
    declared = {series for metric in METRICS for series in metric.series}
    notes = rule["annotations"]

    assert set(re.findall(r"\bfleetcast_\w+", rule["expr"])) <= declared
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert (ROOT / notes["runbook_url"]).is_file()
    assert notes["dashboard_url"] in {f"/d/{board.uid}" for board in DASHBOARDS}
    assert notes["summary"]
    assert notes["description"].endswith(".")
    assert alert.startswith("Fleetcast")


@pytest.mark.parametrize("alert", rules())
def test_the_page_of_a_rule_that_is_about_no_incident_names_it(alert: str) -> None:
    page = (ROOT / rules()[alert]["annotations"]["runbook_url"]).read_text()
    assert alert in page or page.startswith("# Playbook:") or page.splitlines()[2].startswith("Trigger"), alert
