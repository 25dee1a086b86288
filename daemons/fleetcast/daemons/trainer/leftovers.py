"""Processes of runs that are not this node's any more: another claim has them, or somebody cancelled them.

A run that is in hand is ended by whoever has it in hand (`runner.py`). What is found here was begun by an earlier life
of the daemon, and the record changed while no daemon was there to see it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from fleetcast.bus.errors import BusError
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.daemons.trainer.starting import Place
from fleetcast.daemons.trainer.supervision.handle import Handle
from fleetcast.daemons.trainer.supervision.supervisors import SupervisionFailed, Supervisor
from fleetcast.events.training import Cancellation, TrainingRunState
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

LOST_GRACE_SECONDS = 5.0
"""For the process of a run that is another node's by now: time to close files, not to save."""
LOOK_SECONDS = 1.0


async def end_stale(
    handle: Handle, holder: str, cancelled: Cancellation | None, hurried: asyncio.Event | None = None
) -> None:
    """End the process of a run that is not this node's any more. One that was cancelled has its lane's grace, unless it
    was to end at once.

    Args:
        handle: what runs.
        holder: who has the run instead.
        cancelled: by whom, where that is why.
        hurried: set when it is to end at once after all.
    """
    if cancelled is None:
        await handle.stop(LOST_GRACE_SECONDS, f"the run is not this node's any more: {holder}")
        return
    why = rules.told(cancelled)
    if cancelled.now:
        await handle.stop(0.0, why)
        return
    stopping = asyncio.ensure_future(handle.stop(None, why))
    hurrying = asyncio.ensure_future((hurried or asyncio.Event()).wait())
    try:
        await asyncio.wait((stopping, hurrying), return_when=asyncio.FIRST_COMPLETED)
        # Ordered twice, the shorter grace holds.
        await (stopping if stopping.done() else handle.stop(0.0, why))
    finally:
        for task in (stopping, hurrying):
            task.cancel()
        await asyncio.gather(stopping, hurrying, return_exceptions=True)


class Leftovers:
    """Finds and ends them: at the start in all folders of runs, then in that of each run whose record changes."""

    def __init__(
        self,
        place: Place,
        supervisor: Supervisor,
        store: RunStore,
        watch: RunWatch,
        *,
        in_hand: Callable[[str], bool],
    ) -> None:
        """Make one; *in_hand*: whether somebody here sees to a run."""
        self._place = place
        self._supervisor = supervisor
        self._store = store
        self._watch = watch
        self._in_hand = in_hand
        self._suspects: set[str] = set()
        self._ending: dict[str, asyncio.Event] = {}
        self._woken = asyncio.Event()
        watch.listen(self._seen)

    async def run(self) -> None:
        """Look until cancelled; what was told to end ends all the same."""
        await self._watch.known.wait()
        self._suspects.update(await asyncio.to_thread(_folders, self._place.runs))
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._woken.clear()
                for run in sorted(self._suspects - self._ending.keys()):
                    self._ending[run] = asyncio.Event()
                    tasks.create_task(self._look(run), name=f"leftover-{run}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._woken.wait()

    def _seen(self, run: TrainingRunState) -> None:
        if rules.is_held(run, self._place.node, run.claim):
            return
        if run.cancelled is not None and run.cancelled.now and run.run in self._ending:
            self._ending[run.run].set()
        if any(attempt.node == self._place.node for attempt in run.attempts):
            self._suspects.add(run.run)
            self._woken.set()

    async def _look(self, run: str) -> None:
        # First, so that a change that is seen meanwhile is looked at in its turn.
        self._suspects.discard(run)
        try:
            # Who has it in hand ends it, and may fail at that: it is looked at again then.
            settled = not self._in_hand(run) and await self._is_settled(run)
        except (BusError, RecordDamaged, SupervisionFailed, OSError) as e:
            log.info("leftover.waiting", run=run, reason=str(e))
            settled = False
        del self._ending[run]
        if not settled:
            self._suspects.add(run)

    async def _is_settled(self, run: str) -> bool:
        handle = await self._supervisor.adopt(self._place.folder(run))
        if handle is None or not handle.alive():
            return True
        kept = await self._store.find(run)
        if kept is None or rules.is_held(kept.run, self._place.node, handle.claim):
            return True
        log.warning("run.stale_process", run=run, stale_claim=handle.claim, pid=handle.pid)
        await end_stale(handle, rules.holder_of(kept.run), kept.run.cancelled, self._ending[run])
        return True


def _folders(runs: Path) -> list[str]:
    return [path.name for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
