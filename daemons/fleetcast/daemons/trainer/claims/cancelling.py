"""Runs that people cancel: `fc.svc.trainer.runs` in, JSON out.

Any trainer decides it, by the run's record; whether the run's node answers does not matter. From then on nobody holds
the run, so that nothing it still says has an effect; its node ends the process as soon as it sees that.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from pydantic import ValidationError

from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.commands import CancelRun, RunAnswer
from fleetcast.daemons.trainer.claims.store import Change, RunStore
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.runs import RunOutcome
from fleetcast.events.training import TRAINING_ENDED, Cancellation, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

EXAMPLE: Final = '{"ask":"cancel","run":"hex8_2p-0123456789abcdef0123","reason":"wrong labels","by":"ann"}'


class RunService:
    """Answers requests about runs."""

    def __init__(self, store: RunStore, *, now: Callable[[], datetime], is_silent: Callable[[str], bool]) -> None:
        """Make one.

        Args:
            store: where the runs are kept.
            now: the server's time.
            is_silent: whether a node's trainer should have been heard from by now.
        """
        self._store = store
        self._now = now
        self._is_silent = is_silent

    async def answer(self, body: bytes) -> bytes:
        """The answer to a request, as JSON.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        asked = read_request(CancelRun.model_validate_json, body, example=EXAMPLE)
        with refusals():
            answer = await self.cancel(asked)
        # What a run had as effects, and the lane's definition, may be long, and nobody asked for them.
        return answer.model_dump_json(by_alias=True, exclude={"run": {"commits", "definition"}}).encode()

    async def cancel(self, asked: CancelRun) -> RunAnswer:
        """End a run, or say what would become of it.

        Raises:
            BusError: it is not known to be stored.
            RecordDamaged: its record cannot be read.
        """
        before = await self._store.find(asked.run)
        if before is None:
            return _unknown(asked.run)
        made = [before.run]

        def decide(there: TrainingRunState) -> Change | None:
            made[:] = [there]
            return _change(there, asked, self._now())

        after = before.run if asked.dry_run else (await self._store.change(asked.run, decide)).run
        if not asked.dry_run:
            log.info("run.cancelled", run=asked.run, by=asked.by, now=asked.now, was=made[0].phase.value)
        return self._told(asked, made[0], after)

    def _told(self, asked: CancelRun, before: TrainingRunState, after: TrainingRunState) -> RunAnswer:
        first = after.cancelled is not None and after.cancelled.request == asked.request
        if before.phase in TRAINING_ENDED and before.cancelled is None:
            return _ended(before)
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


def _unknown(run: str) -> RunAnswer:
    return RunAnswer(
        outcome="unknown",
        message=f"no lane started a run {run}",
        next_step="fleetcast lanes    (RUN shows what is under way)",
    )


def _ended(run: TrainingRunState) -> RunAnswer:
    detail = f": {run.phase_detail}" if run.phase_detail else ""
    return RunAnswer(
        outcome="ended",
        message=f"{run.run} has ended before, at {run.ended_at}; it {run.phase.value}{detail}",
        next_step=f"fleetcast runs show {run.run}",
        run=run,
    )


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
