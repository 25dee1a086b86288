"""Runs that people cancel.

Any trainer decides it, by the run's record; whether the run's node answers does not matter. From then on nobody holds
the run, so that nothing it still says has an effect; its node ends the process as soon as it sees that.
"""

from collections.abc import Callable
from datetime import datetime

import structlog
from pydantic import ValidationError

from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.commands import CancelRun, RunAnswer, ended, unknown
from fleetcast.daemons.trainer.claims.store import Change, RunStore
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.runs import RunOutcome
from fleetcast.events.training import TRAINING_ENDED, Cancellation, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")


class Cancelling:
    """Ends runs by their records."""

    def __init__(self, store: RunStore, *, now: Callable[[], datetime], is_silent: Callable[[str], bool]) -> None:
        self._store = store
        self._now = now
        self._is_silent = is_silent

    async def cancel(self, asked: CancelRun) -> RunAnswer:
        """End a run, or say what would become of it.

        Raises:
            BusError: it is not known to be stored.
            RecordDamaged: its record cannot be read.
        """
        found = await self._store.order(
            asked.run, lambda there: _change(there, asked, self._now()), dry_run=asked.dry_run
        )
        if found is None:
            return unknown(asked.run)
        before, after = found
        if not asked.dry_run:
            log.info("run.cancelled", run=asked.run, by=asked.by, now=asked.now, was=before.phase.value)
        return self._told(asked, before, after)

    def _told(self, asked: CancelRun, before: TrainingRunState, after: TrainingRunState) -> RunAnswer:
        first = after.cancelled is not None and after.cancelled.request == asked.request
        if before.phase in TRAINING_ENDED and before.cancelled is None:
            return ended(before)
        if before.cancelled is not None and not first:
            hurried = " and its process, if it still runs, is ended at once" if asked.now else ""
            at = f"{before.cancelled.at}: {before.cancelled.reason}"
            return RunAnswer(
                message=f"{asked.run} was cancelled before by {before.cancelled.by} at {at}{hurried}", run=after
            )
        would = f"dry run: {asked.run} would be cancelled" if asked.dry_run else f"{asked.run} is cancelled"
        return RunAnswer(message=f"{would}; {self._process(before, now=asked.now)}; {_spent(before)}", run=after)

    def _process(self, run: TrainingRunState, *, now: bool) -> str:
        """What becomes of what runs, by the record before."""
        if run.owner is None:
            return "it waited for a node, and none takes it now"
        if self._is_silent(run.owner):
            return f"{run.owner} is silent: it ends the process when it is back, and nothing that it says is accepted"
        if run.phase is TrainingPhase.CLAIMED:
            return f"{run.owner} was preparing it, and stops"
        if now:
            return f"its process on {run.owner} is ended at once"
        lane = _lane_of(run)
        after = f"{lane.grace_seconds:g} s" if lane is not None else "the lane's grace"
        return f"its process on {run.owner} gets SIGTERM, and SIGKILL after {after}"


def _change(there: TrainingRunState, asked: CancelRun, now: datetime) -> Change | None:
    why = Cancellation(reason=asked.reason, by=asked.by, at=stamp(now), request=asked.request, now=asked.now)
    after = rules.cancelled(there, why, now)
    if after is None:
        return None
    return Change(after, rules.told_end(after, RunOutcome.CANCELLED) if there.cancelled is None else ())


def _spent(run: TrainingRunState) -> str:
    lane = _lane_of(run)
    spent = f"{lane.bucket.required:,} samples" if lane is not None else "samples"
    again = f"fleetcast trigger {run.lane} --reason TEXT begins another run"
    return f"the {spent} that it was queued for stay spent: {again}"


def _lane_of(run: TrainingRunState) -> LaneDefinition | None:
    """The lane as it was; None: a newer fleetcast wrote it, and this one cannot read it. The run ends all the same."""
    try:
        return LaneDefinition.of(run.definition)
    except ValidationError:
        return None
