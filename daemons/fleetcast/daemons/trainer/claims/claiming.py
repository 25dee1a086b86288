"""Taking runs: every trainer sees every run that waits, and those that may take it race for it.

Who suits best is let go first, by a short delay; who wins is decided by the run's record alone. The lease before it
only spares the others the write: it is taken first, so that a run which is being claimed is left alone.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, Conflict, LeaseTaken
from fleetcast.bus.leases import Lease
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.eligibility import NodeFacts, eligible
from fleetcast.daemons.trainer.claims.leasing import Owned, inherit
from fleetcast.daemons.trainer.claims.store import Kept, RunStore
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.training import TrainingRunState, lease_name
from fleetcast.registry.errors import RecordDamaged
from fleetcast.transport.failpoints import failpoint

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")


@dataclass(frozen=True, slots=True)
class Pace:
    """How a trainer races.

    Attributes:
        delay_seconds: that a node which suits badly lets the others go first, at most.
        look_seconds: between looks at runs that only time lets go on.
    """

    delay_seconds: float = 0.2
    look_seconds: float = 1.0

    def delay(self, score: float, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds before a claim; nodes that suit equally do not all write at the same moment."""
        return self.delay_seconds * (1.0 - score) + uniform(0.0, self.delay_seconds / 10)


class Claimer:
    """Takes what this node may take.

    Attributes:
        claiming: the run that is being claimed: its record may say that it is ours before anybody has it in hand.
        settled: whether all that is ours is in hand, with the GPUs that it computes on; nothing is taken before.
    """

    def __init__(
        self,
        bus: Bus,
        store: RunStore,
        watch: RunWatch,
        *,
        pid: int,
        here: Callable[[], NodeFacts],
        device: Callable[[TrainingRunState, tuple[int, ...]], str],
        now: Callable[[], datetime],
        begin: Callable[[Owned], None],
        pace: Pace = Pace(),
    ) -> None:
        """Make one.

        Args:
            pid: of this process, for people and for leases.
            here: this node as it is now, with the runs that it has in hand.
            device: what a run computes on, with these GPUs.
            now: the server's time.
            begin: called with every run that was won; it has the run in hand when it returns.
        """
        self._bus = bus
        self._store = store
        self._watch = watch
        self._pid = pid
        self._here = here
        self._device = device
        self._now = now
        self._begin = begin
        self._pace = pace
        self._woken = watch.waker()
        self.claiming: set[str] = set()
        self.settled: Callable[[], bool] = lambda: True

    def look(self) -> None:
        """Look again now: something here has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Take runs until cancelled."""
        await self._watch.known.wait()
        while True:
            self._woken.clear()
            await self._round()
            try:
                async with asyncio.timeout(self._pace.look_seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        for run in self._watch.queued:
            if (chance := self._chance(run)) is None:
                continue
            await asyncio.sleep(self._pace.delay(chance))
            there = self._watch.get(run.run)
            if there is None or self._chance(there) is None:
                continue
            self.claiming.add(run.run)
            try:
                owned = await self.claim(run.run)
                if owned is not None:
                    self._begin(owned)
            except (BusError, RecordDamaged) as e:
                log.warning("run.waiting", run=run.run, reason=str(e))
            finally:
                self.claiming.discard(run.run)

    def _chance(self, run: TrainingRunState) -> float | None:
        """How well this node suits; None: it may not take the run now."""
        if not self.settled() or rules.claimable(run, self._now()):
            return None
        try:
            found = eligible(LaneDefinition.of(run.definition), run, self._here(), self._now())
        except ValidationError as e:
            log.warning("run.unreadable", run=run.run, reason=e.errors()[0]["msg"])
            return None
        return found.score if found.ok else None

    async def claim(self, run: str) -> Owned | None:
        """Claim a run; None: somebody else was quicker, or it is not to be had any more.

        Raises:
            BusError: the bus does not answer; what was written shows at the next look.
            RecordDamaged: the record cannot be read.
        """
        owner = f"{self._bus.node}/{self._pid}"
        try:
            lease = await self._bus.leases.acquire(lease_name(run), owner)
        except LeaseTaken:
            return await self._by_inheritance(run, owner)
        failpoint("training.lease.after")
        kept = await self._store.find(run)
        claimed = None if kept is None else await self._write(kept, lease)
        if claimed is None:
            await self._bus.leases.release(lease)
        return claimed

    async def _by_inheritance(self, run: str, owner: str) -> Owned | None:
        """A lease that an earlier life of this daemon took, and did not get to use, is ours."""
        try:
            lease = await inherit(self._bus, run, owner)
        except LeaseTaken:
            return None
        kept = await self._store.find(run)
        return None if kept is None else await self._write(kept, lease)

    async def _write(self, kept: Kept, lease: Lease) -> Owned | None:
        now = self._now()
        if rules.claimable(kept.run, now):
            return None
        lane = LaneDefinition.of(kept.run.definition)
        found = eligible(lane, kept.run, self._here(), now)
        if not found.ok:
            return None
        device = self._device(kept.run, found.gpus)
        mine = rules.claimed(kept.run, node=self._bus.node, pid=self._pid, device=device, now=now)
        try:
            claimed = await self._store.save(kept, mine)
        except Conflict:
            return None
        self._watch.take(claimed.run)
        log.info("run.claimed", run=mine.run, lane=mine.lane, claim=mine.claim, device=device, score=found.score)
        return Owned(self._bus, self._store, claimed.run, lease, gpus=found.gpus)
