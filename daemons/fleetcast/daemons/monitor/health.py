"""How a model stands, in the seed's words and numbers: of one model, and counted over a fleet."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleetcast.daemons.monitor.attribution import worse_by_chance
from fleetcast.daemons.monitor.deciding import Deciding, action
from fleetcast.daemons.monitor.detector import Detector
from fleetcast.daemons.monitor.measured import metrics, p95_ms, reported_drift
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.signals import (
    DRIFT,
    LATENCY,
    LATENCY_REPORTED,
    OOD_RATE,
    SIGNALS,
    counted_evidence,
    counted_sentence,
    drift_sentence,
    drift_words,
    seed_sentence,
)
from fleetcast.daemons.monitor.verdicts import HealthReport, Remedy, TriggerReport, VersionReport, rfc3339
from fleetcast.daemons.monitor.watch import VersionWatch
from fleetcast.events.incidents import Health, Verdict

SHOWN: Mapping[str, tuple[str, ...]] = {
    "error_rate": ("error_rate",),
    "latency_p95": (LATENCY, LATENCY_REPORTED),
    "ood_rate": (OOD_RATE,),
    "input_drift": (DRIFT, "input_drift_reported"),
}
"""The seeds' four conditions, and the signals that each is decided by."""
_SEEDS = ("avg_error_rate", "avg_latency_p95_ms", "avg_ood_rate", "snapshot_count")


def report(
    model: str,
    generation: int,
    policy: ModelPolicy,
    slots: Sequence[Deciding],
    minutes: int,
    dropped: Mapping[str, int],
) -> HealthReport:
    """How a model stands now."""
    versions = tuple(_version(deciding, minutes) for deciding in slots)
    return HealthReport(
        model=model,
        generation=generation,
        mode=policy.mode.value,
        health=standing({each.slot: each.health for each in versions}),
        should_rollback=any(t.remedy is Remedy.ROLL_BACK for each in versions for t in each.triggers),
        window_minutes=minutes,
        comparison=_comparison(slots),
        versions=versions,
        dropped=dict(dropped),
    )


def standing(health: Mapping[str, Health]) -> Health:
    """How a model stands, from its versions by slot: the worst that is wrong with any, else production's."""
    known = list(health.values())
    worst = next((h for h in (Health.CRITICAL, Health.DEGRADED) if h in known), None)
    return worst or health.get("production") or (known[0] if known else Health.UNKNOWN)


def fleet_summary(reports: Iterable[HealthReport]) -> dict[str, Any]:
    """Seed 003's answer about all production models: `critical` ones count as failing; those of which too little is
    known are counted beside."""
    found = list(reports)
    counts = {health: sum(each.health is health for each in found) for health in Health}
    issues = [
        {"model_id": each.model, "version": version.version, "reasons": list(version.reasons)}
        for each in found
        for version in each.versions
        if version.health in (Health.CRITICAL, Health.DEGRADED)
    ]
    return {
        "total_models": len(found),
        "healthy": counts[Health.HEALTHY],
        "degraded": counts[Health.DEGRADED],
        "failing": counts[Health.CRITICAL],
        "unknown": counts[Health.UNKNOWN],
        "issues": issues,
    }


def health_summary(found: HealthReport) -> dict[str, Any]:
    """Seed 003's answer about one model: of what production serves, or the canary where nothing is production."""
    version = next((each for each in found.versions if each.slot == "production"), None)
    version = version or next(iter(found.versions), None)
    if version is None:
        return {"model_id": found.model, "version": None, "status": None, "health_status": found.health.value}
    return {
        "model_id": found.model,
        "version": version.version,
        "status": version.slot,
        "deployed_at": version.since,
        "health_status": version.health.value,
        "metrics": {name: version.metrics[name] for name in _SEEDS},
    }


def rollback_check(found: HealthReport) -> dict[str, Any]:
    """Seed 003's answer to whether a model should be rolled back; asking changes nothing."""
    return {
        "model_id": found.model,
        "should_rollback": found.should_rollback,
        "reasons": [reason for each in found.versions for reason in each.reasons],
        "window_minutes": found.window_minutes,
    }


def _version(deciding: Deciding, minutes: int) -> VersionReport:
    watch = deciding.watch
    triggers = (*_triggers(deciding), *_node_triggers(deciding))
    breaches = [each for each in triggers if each.verdict is Verdict.BREACH]
    return VersionReport(
        version=watch.version,
        slot=watch.slot,
        health=deciding.health,
        since=rfc3339(watch.since),
        last_snapshot_at=rfc3339(watch.last_at) if watch.last_at else None,
        nodes=tuple(sorted(watch.nodes)),
        metrics=metrics(watch, minutes),
        reasons=tuple(_seed_reason(deciding, each) for each in breaches),
        explanations=tuple(f"{each.signal}: {each.actual}" for each in breaches),
        triggers=triggers,
        weights={weight.value: round(count, 3) for weight, count in watch.weights.items()},
    )


def _triggers(deciding: Deciding) -> list[TriggerReport]:
    watch = deciding.watch
    found = []
    for shown, names in SHOWN.items():
        detectors = [(name, watch.detectors[name]) for name in names if name in watch.detectors]
        if names[0] == DRIFT and watch.drift is not None:
            found.append(_drift(deciding))
        found += [_counted(deciding, name, None, detector) for name, detector in detectors]
        if not detectors and not (names[0] == DRIFT and watch.drift is not None):
            found.append(_nothing(deciding, shown))
    return found


def _node_triggers(deciding: Deciding) -> list[TriggerReport]:
    return [
        _counted(deciding, name, node, deciding.watch.nodes[node].detectors[name])
        for (name, node), told in deciding.told.items()
        if node is not None and told.verdict is Verdict.BREACH and node in deciding.watch.nodes
    ]


def _counted(deciding: Deciding, name: str, node: str | None, detector: Detector) -> TriggerReport:
    watch, told = deciding.watch, deciding.told.get((name, node))
    breached = told is not None and told.verdict is Verdict.BREACH
    verdict = detector.verdict
    if watch.stale and not breached:
        verdict = Verdict.STALE
    elif detector.alarm is not None and not breached and (name, node) not in deciding.settling:
        # One node's: it has a line of its own.
        verdict = Verdict.OK
    remedy = told.remedy if told is not None and breached else Remedy.NONE
    tally = detector.tally
    alone = node is None and verdict is Verdict.OK and detector.alarm is not None
    return TriggerReport(
        version=watch.version,
        slot=watch.slot,
        signal=name,
        verdict=verdict,
        severity=told.severity if told is not None and breached else None,
        remedy=remedy,
        action=action(remedy, watch.policy.mode),
        required=SIGNALS[name].required(watch.policy),
        actual=counted_sentence(name, tally) + ("; of single nodes, see theirs" if alone else ""),
        samples=round(tally.requests),
        node=node,
        since=rfc3339(told.began_at) if told is not None and breached else None,
        evidence=counted_evidence(detector, tally) | {"e_value_of_threshold": round(detector.e_value, 4)},
    )


def _drift(deciding: Deciding) -> TriggerReport:
    watch, told = deciding.watch, deciding.told.get((DRIFT, None))
    assert watch.drift is not None
    worst = watch.drift.worst
    breached = watch.drift.verdict is Verdict.BREACH
    remedy = Remedy.RETRAIN if breached else Remedy.NONE
    return TriggerReport(
        version=watch.version,
        slot=watch.slot,
        signal=DRIFT,
        verdict=Verdict.STALE if watch.stale and not breached else watch.drift.verdict,
        severity=told.severity if told is not None and breached else None,
        remedy=remedy,
        action=action(remedy, watch.policy.mode),
        required=f"drift (KL) <= {watch.drift.limit:g}",
        actual=drift_words(*worst) if worst is not None else "no inputs yet",
        samples=worst[1].size if worst is not None else 0,
        since=rfc3339(told.began_at) if told is not None and breached else None,
        evidence={} if worst is None else {"feature": worst[0], "kl": worst[1].kl, "psi": worst[1].psi},
    )


def _nothing(deciding: Deciding, shown: str) -> TriggerReport:
    """A condition that no snapshot says anything about."""
    watch = deciding.watch
    actual = "no snapshot says it"
    if not watch.last_at:
        actual = "no snapshot was received"
    elif shown == LATENCY and watch.policy.expected_latency_p95_ms is None:
        actual = f"set it: fleetcast evidence set {watch.model} {watch.version} expected_latency_p95_ms=40"
    required = f"drift (KL) <= {watch.policy.drift:g}" if shown == DRIFT else SIGNALS[shown].required(watch.policy)
    return TriggerReport(
        version=watch.version,
        slot=watch.slot,
        signal=shown,
        verdict=Verdict.STALE if watch.stale else Verdict.INSUFFICIENT,
        severity=None,
        remedy=Remedy.NONE,
        action="none",
        required=required,
        actual=actual,
        samples=0,
    )


def _seed_reason(deciding: Deciding, trigger: TriggerReport) -> str:
    watch = deciding.watch
    where = f" on {trigger.node}" if trigger.node else ""
    if trigger.signal == DRIFT:
        return drift_sentence(float(trigger.evidence.get("kl", 0.0)))
    if trigger.signal not in ("error_rate", OOD_RATE, LATENCY, LATENCY_REPORTED):
        return drift_sentence(reported_drift(watch) or 0.0)
    share = float(trigger.evidence["share"])
    return seed_sentence(trigger.signal, share, p95_ms(watch), watch.policy) + where


def _comparison(slots: Sequence[Deciding]) -> dict[str, Any] | None:
    """Canary against production over the same minutes."""
    watches = {each.watch.slot: each.watch for each in slots}
    canary, stable = watches.get("canary"), watches.get("production")
    if canary is None or stable is None:
        return None
    return {
        name: _compared(name, canary, stable)
        for name in SIGNALS
        if name in canary.detectors and name in stable.detectors
    }


def _compared(name: str, canary: VersionWatch, stable: VersionWatch) -> dict[str, Any]:
    ours, theirs = canary.detectors[name], stable.detectors[name]
    since = max(ours.tally.minute, theirs.tally.minute)
    one, other = ours.since(since), theirs.since(since)
    return {
        "since_minute": since,
        "canary": {
            "version": canary.version,
            "requests": round(one.requests),
            "bad": round(one.bad, 4),
            "share": round(one.share, 6),
        },
        "production": {
            "version": stable.version,
            "requests": round(other.requests),
            "bad": round(other.bad, 4),
            "share": round(other.share, 6),
        },
        "chance_of_difference": worse_by_chance(one, other),
    }
