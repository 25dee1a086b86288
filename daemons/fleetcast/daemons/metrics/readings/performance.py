"""A monitor: how the models perform that it judges. Added up over all monitors, it is the whole fleet."""

import asyncio
from typing import Final

from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.monitor.clock import ServerClock
from fleetcast.daemons.monitor.deciding import Deciding
from fleetcast.daemons.monitor.flow import Flow
from fleetcast.daemons.monitor.health import standing
from fleetcast.daemons.monitor.judging import Judging
from fleetcast.daemons.monitor.measured import metrics, reported_drift
from fleetcast.daemons.monitor.minutes import MinuteWriter
from fleetcast.daemons.monitor.shards import Shards
from fleetcast.daemons.monitor.surroundings import Surroundings
from fleetcast.daemons.monitor.watch import VersionWatch
from fleetcast.events.incidents import Health, Verdict

COUNTED: Final = {
    Health.HEALTHY: "fleetcast_models_healthy",
    Health.DEGRADED: "fleetcast_models_degraded",
    Health.CRITICAL: "fleetcast_models_failing",
    Health.UNKNOWN: "fleetcast_models_unknown",
}


class PerformanceReading:
    """Of one monitor."""

    def __init__(
        self,
        judging: Judging,
        around: Surroundings,
        shards: Shards,
        flow: Flow,
        minutes: MinuteWriter,
        clock: ServerClock,
    ) -> None:
        self._judging, self._around, self._shards = judging, around, shards
        self._flow, self._minutes, self._clock = flow, minutes, clock

    async def read(self, sheet: Sheet) -> None:
        """Fill in all of it; gives way after each model."""
        for name in ("fleetcast_models_production", *COUNTED.values()):
            sheet.add(name, 0)
        for model, slot in list(self._around.slots.items()):
            if not self._judging.is_judged(model):
                continue
            judge = self._judging.judge(model)
            deciding = judge.deciding if judge is not None else ()
            if slot.production is not None:
                sheet.add("fleetcast_models_production", 1)
                sheet.add(COUNTED[standing({each.watch.slot: each.health for each in deciding})], 1)
            for each in deciding:
                self._version(sheet, model, each)
            await asyncio.sleep(0)
        self._own(sheet)

    def _version(self, sheet: Sheet, model: str, deciding: Deciding) -> None:
        watch, slot = deciding.watch, deciding.watch.slot
        measured = metrics(watch, watch.policy.window_minutes)
        p95 = measured["avg_latency_p95_ms"]
        sheet.put("fleetcast_model_error_ratio", measured["avg_error_rate"], model=model, slot=slot)
        sheet.put("fleetcast_model_ood_ratio", measured["avg_ood_rate"], model=model, slot=slot)
        sheet.put("fleetcast_model_window_requests", measured["num_requests"], model=model, slot=slot)
        sheet.put("fleetcast_model_latency_p95_seconds", None if p95 is None else p95 / 1000, model=model, slot=slot)
        sheet.put("fleetcast_model_drift_score", _drift(watch), model=model, slot=slot)
        if watch.last_at and self._clock.known:
            age = max(0.0, self._clock.now().timestamp() - watch.last_at)
            sheet.put("fleetcast_model_snapshot_age_seconds", age, model=model, slot=slot)
        for (signal, _), told in deciding.told.items():
            sheet.add("fleetcast_breaches", told.verdict is Verdict.BREACH, signal=signal)

    def _own(self, sheet: Sheet) -> None:
        sheet.put("fleetcast_monitor_shards", len(self._shards.held))
        sheet.put("fleetcast_snapshots_total", self._judging.snapshots)
        sheet.put("fleetcast_snapshots_behind_messages", self._flow.behind)
        sheet.put("fleetcast_snapshot_lag_seconds", self._flow.lag_seconds)
        sheet.put("fleetcast_snapshots_passed_over_total", self._flow.passed_over)
        sheet.put("fleetcast_aggregates_total", self._minutes.written, outcome="written")
        sheet.put("fleetcast_aggregates_total", self._minutes.lost, outcome="lost")


def _drift(watch: VersionWatch) -> float | None:
    worst = watch.drift.worst if watch.drift is not None else None
    return worst[1].kl if worst is not None else reported_drift(watch)
