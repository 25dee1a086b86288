"""A trainer: the runs of the fleet, those of its node, and the node's GPUs."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.trainer.claims.keeper import Keeper
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.daemons.trainer.faults.ward import Ward
from fleetcast.daemons.trainer.lanes.desk import LaneDesk
from fleetcast.daemons.trainer.spot.leaving import Leaving
from fleetcast.events.gpus import Gpu
from fleetcast.events.training import TRAINING_ENDED, TrainingPhase, WorkClass

OPEN: Final = tuple(phase for phase in TrainingPhase if phase not in TRAINING_ENDED)


class TrainingReading:
    """Of one trainer. Several know the same runs of the fleet: take the greatest value.

    Args:
        now: the server's time.
    """

    def __init__(
        self,
        runs: RunWatch,
        keeper: Keeper,
        ward: Ward,
        leaving: Leaving,
        lanes: LaneDesk,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._runs, self._keeper, self._ward = runs, keeper, ward
        self._leaving, self._lanes, self._now = leaving, lanes, now

    async def read(self, sheet: Sheet) -> None:
        """Fill in all of it."""
        self._fleet(sheet)
        self._here(sheet)
        for gpu in self._ward.gpus:
            _gpu(sheet, gpu)

    def _fleet(self, sheet: Sheet) -> None:
        queued, owned = self._runs.queued, self._runs.owned
        sheet.start("fleetcast_training_runs", "phase", OPEN)
        for run in (*queued, *owned):
            sheet.add("fleetcast_training_runs", 1, phase=run.phase.value)
        waits = dict.fromkeys((work.value for work in WorkClass), 0.0)
        for run in queued:
            waits[run.work_class.value] = max(waits[run.work_class.value], self._since(run.created_at))
        for work, seconds in waits.items():
            sheet.put("fleetcast_training_queued_seconds", seconds, work=work)
        for lane in self._lanes.states:
            sheet.put("fleetcast_lane_tokens_samples", lane.tokens, lane=lane.lane)
            sheet.put("fleetcast_lane_paused", lane.paused is not None, lane=lane.lane)

    def _here(self, sheet: Sheet) -> None:
        owned = [each.run for each in self._keeper.owned.values()]
        quiet = max((self._since(run.at) for run in owned), default=0.0)
        deadline = self._leaving.deadline
        sheet.put("fleetcast_training_runs_here", len(owned))
        sheet.put("fleetcast_training_quiet_seconds", quiet)
        sheet.put("fleetcast_node_quarantined", bool(self._ward.quarantine))
        sheet.put("fleetcast_node_reclaim_timestamp_seconds", None if deadline is None else deadline.timestamp())
        sheet.put("fleetcast_reclaim_notices_total", self._leaving.notices)
        sheet.put("fleetcast_reclaim_saves_total", self._leaving.saves)

    def _since(self, moment: str) -> float:
        return max(0.0, (self._now() - datetime.fromisoformat(moment)).total_seconds())


def _gpu(sheet: Sheet, gpu: Gpu) -> None:
    name = str(gpu.index)
    sheet.put("fleetcast_gpu_usable", not gpu.fault, gpu=name, vendor=gpu.vendor)
    sheet.put("fleetcast_gpu_memory_total_bytes", gpu.memory_total, gpu=name)
    sheet.put("fleetcast_gpu_memory_free_bytes", gpu.memory_free, gpu=name)
    sheet.put("fleetcast_gpu_temperature_celsius", gpu.temperature, gpu=name)
    sheet.put("fleetcast_gpu_ecc_errors_total", gpu.ecc, gpu=name)
