"""Runs that people let go to a node again, from which a fault keeps them: somebody has repaired it."""

from collections.abc import Callable
from datetime import datetime

import structlog

from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.commands import AllowNode, RunAnswer, ended, unknown
from fleetcast.daemons.trainer.claims.store import Change, RunStore
from fleetcast.events.training import TRAINING_ENDED, NodeAllowed, RunNodeAllowed, TrainingPhase, TrainingRunState
from fleetcast.registry.commands import stamp

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")


class Allowing:
    """Lifts what keeps a run away from a node."""

    def __init__(self, store: RunStore, *, now: Callable[[], datetime]) -> None:
        """Make one; *now*: the server's time."""
        self._store = store
        self._now = now

    async def allow(self, asked: AllowNode) -> RunAnswer:
        """Let a run go to a node again, or say what would become of it.

        Raises:
            BusError: it is not known to be stored.
            RecordDamaged: its record cannot be read.
        """
        found = await self._store.order(
            asked.run, lambda there: allowed(there, asked, self._now()), dry_run=asked.dry_run
        )
        if found is None:
            return unknown(asked.run)
        before, after = found
        if after.n > before.n:
            log.info("run.node_allowed", run=asked.run, allowed=asked.node, by=asked.by, reason=asked.reason)
        return told(asked, before, after, self._now())


def allowed(run: TrainingRunState, asked: AllowNode, now: datetime) -> Change | None:
    """What becomes of a run's record, and what is told of it; None: nothing keeps it away from there."""
    until = rules.kept_away(run, now).get(asked.node)
    if until is None:
        return None
    why = NodeAllowed(
        node=asked.node, until=until, reason=asked.reason, by=asked.by, at=stamp(now), request=asked.request
    )
    after = rules.allowed(run, why, now)
    if after is None:
        return None
    fact = RunNodeAllowed(
        run_id=run.run,
        node=asked.node,
        claim=run.claim or None,
        lane=run.lane,
        until=until,
        reason=asked.reason,
        by=asked.by,
    )
    return Change(after, (fact,))


def told(asked: AllowNode, before: TrainingRunState, after: TrainingRunState, now: datetime) -> RunAnswer:
    """What is answered; *before*: the record that was decided by."""
    made = next((each for each in after.allowed if each.request == asked.request), None)
    if made is None and before.phase in TRAINING_ENDED:
        return ended(before)
    away = rules.kept_away(before, now)
    until = made.until if made is not None else away.get(asked.node)
    if until is None:
        others = ", ".join(f"{node} until {when}" for node, when in sorted(away.items())) or "no node"
        return RunAnswer(
            message=f"nothing keeps {asked.run} away from {asked.node}; it is kept away from {others}", run=after
        )
    would = "dry run: " if asked.dry_run else ""
    may = "might" if asked.dry_run else "may"
    return RunAnswer(
        message=f"{would}{asked.run} {may} go to {asked.node} again, from which it was kept until {until}; "
        f"{_where(after)}",
        next_step=f"fleetcast why {asked.run}    (which nodes may take it)",
        run=after,
    )


def _where(run: TrainingRunState) -> str:
    if run.phase in TRAINING_ENDED:
        return "it has ended since"
    if run.phase is TrainingPhase.QUEUED:
        wait = f", not before {run.not_before}" if run.not_before is not None else ""
        return f"it waits for a node{wait}"
    return f"it is on {run.owner}, and stays there while that goes well"
