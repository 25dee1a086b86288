"""Runs whose node is gone go back into the queue: the lease has run out, the node's trainer has fallen silent, and both
have lasted for a grace. Every trainer looks; the record lets one of them write."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.leasing import is_leased
from fleetcast.daemons.trainer.claims.store import Change, RunStore
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.events.training import TrainingRunState
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

Lost = Callable[[TrainingRunState, datetime], Change]
"""What becomes of a run whose node is gone: back into the queue, or its end, where its budget is spent."""


class Takeover:
    """Looks for runs whose node is gone."""

    def __init__(
        self,
        bus: Bus,
        store: RunStore,
        watch: RunWatch,
        *,
        is_silent: Callable[[str], bool],
        lost: Lost,
        now: Callable[[], datetime],
        grace_seconds: float,
        look_seconds: float,
        queue: Callable[[TrainingRunState], Awaitable[object]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make one.

        Args:
            is_silent: whether a node's trainer should have been heard from by now.
            lost: decides.
            now: the server's time.
            queue: puts the job of a run that waits again where it is counted.
        """
        self._bus = bus
        self._store = store
        self._watch = watch
        self._is_silent = is_silent
        self._lost = lost
        self._now = now
        self._grace_seconds = grace_seconds
        self._look_seconds = look_seconds
        self._queue = queue
        self._monotonic = monotonic
        self._gone: dict[tuple[str, int], float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        await self._watch.known.wait()
        while True:
            await self.look()
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """One look at all runs that a node has."""
        silent = [run for run in self._watch.owned if run.owner is not None and self._is_elsewhere_and_silent(run)]
        keys = {(run.run, run.claim) for run in silent}
        self._gone = {key: since for key, since in self._gone.items() if key in keys}
        for run in silent:
            try:
                await self._consider(run)
            except (BusError, RecordDamaged, KeyError, ValidationError) as e:
                # One run that cannot be judged here must not keep all others waiting.
                log.info("takeover.waiting", run=run.run, reason=" ".join(str(e).split()))

    def _is_elsewhere_and_silent(self, run: TrainingRunState) -> bool:
        # Our own node's runs are adopted, whatever became of their process.
        return run.owner != self._bus.node and self._is_silent(run.owner or "")

    async def _consider(self, run: TrainingRunState) -> None:
        key = (run.run, run.claim)
        if await is_leased(self._bus, run.run):
            self._gone.pop(key, None)
            return
        since = self._gone.setdefault(key, self._monotonic())
        if self._monotonic() - since < self._grace_seconds:
            return

        def decide(there: TrainingRunState) -> Change | None:
            still = rules.is_held(there, run.owner or "", run.claim)
            return self._lost(there, self._now()) if still else None

        kept = await self._store.change(run.run, decide)
        self._gone.pop(key, None)
        self._watch.take(kept.run)
        if kept.run.owner is None and kept.run.claim == run.claim:
            log.warning("run.taken_back", run=run.run, of=run.owner, claim=run.claim, phase=kept.run.phase.value)
            await self._queue(kept.run)
