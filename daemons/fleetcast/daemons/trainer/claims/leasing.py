"""How long a run is ours: the lease that is renewed while it is in hand, and what tells that it no longer is.

A lease that ran out is not yet a run that was lost: while the bus is away nobody can take it, and whoever returns first
goes on. What decides is the record: another claim in it is final.
"""

import asyncio
import time

import structlog

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, LeaseLost, LeaseTaken
from fleetcast.bus.jetstream import NANOSECONDS
from fleetcast.bus.leases import Lease
from fleetcast.bus.streams import LEASES_BUCKET
from fleetcast.client.ulid import new_ulid
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.rules import ClaimLost
from fleetcast.daemons.trainer.claims.store import Decide, RunStore
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.training import Cancellation, TrainingPhase, TrainingRunState, lease_name
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

RENEWALS = 4
"""Renewals in the life of a lease: three may fail."""


async def lease_seconds(bus: Bus) -> float:
    """How long a lease lasts that nobody renews: what the bucket says.

    Raises:
        TransportFailed: the bus does not answer.
    """
    answer = await bus.js.api(f"STREAM.INFO.KV_{LEASES_BUCKET}")
    return float(answer["config"]["max_age"]) / NANOSECONDS


async def is_leased(bus: Bus, run: str) -> bool:
    """Whether somebody's lease of a run has not run out. Raises TransportFailed."""
    entry = await bus.kv.newest(LEASES_BUCKET, lease_name(run))
    return entry is not None and not entry.deleted


async def inherit(bus: Bus, run: str, owner: str) -> Lease:
    """The lease of a run that is ours by its record: taken, or taken over from an earlier life of this daemon.

    Raises:
        LeaseTaken: another node holds it.
        BusUnavailable: the bus does not answer.
    """
    name = lease_name(run)
    try:
        return await bus.leases.acquire(name, owner)
    except LeaseTaken as taken:
        entry = await bus.kv.newest(LEASES_BUCKET, name)
        if entry is None or taken.owner.partition("/")[0] != owner.partition("/")[0]:
            raise
        former = Lease(name, owner, entry.sequence, entry.sequence, new_ulid())
        try:
            return await bus.leases.renew(former)
        except LeaseLost as lost:
            raise LeaseTaken(str(lost)) from lost


class Owned:
    """A run that this node claimed, as long as it is its own.

    Attributes:
        lane: its definition, as it was when the run was created.
        run: its record, as last read or written here.
        gpus: indices of those that it computes on; None: not known yet, an earlier life of the daemon began it.
        lost: set when another claim holds the run, or nobody's does: stop at once.
        cancelled: by whom, where that is why it is lost.
        hurried: set when its process is to get no time to end by itself.
    """

    def __init__(
        self,
        bus: Bus,
        store: RunStore,
        run: TrainingRunState,
        lease: Lease | None,
        *,
        gpus: tuple[int, ...] | None = None,
    ) -> None:
        self.lane = LaneDefinition.of(run.definition)
        self.run = run
        self.gpus = gpus
        self.lost = asyncio.Event()
        self.holder = ""
        """Who has it instead, once it is lost."""
        self.cancelled: Cancellation | None = None
        self.hurried = asyncio.Event()
        self.store = store
        self._bus = bus
        self._lease = lease
        self._owner = f"{bus.node}/{run.owner_pid}"

    @property
    def id(self) -> str:
        """The run."""
        return self.run.run

    @property
    def claim(self) -> int:
        """The number that all it does carries."""
        return self.run.claim

    async def change(self, decide: Decide) -> TrainingRunState:
        """Write what *decide* makes of the newest record, while this claim holds it.

        Raises:
            ClaimLost: it does not; `lost` is set.
            BusUnavailable: not stored before the publish deadline.
            RecordDamaged: what is there cannot be read.
        """
        try:
            self.run = (await self.store.change_held(self.id, self.claim, decide)).run
        except ClaimLost as e:
            self.lose(e.holder, e.cancelled)
            raise
        return self.run

    def seen(self, run: TrainingRunState) -> None:
        """The record changed, whoever wrote it."""
        if run.n <= self.run.n:
            return
        if rules.is_held(run, self._bus.node, self.claim):
            self.run = run
        elif run.claim > self.claim or run.owner is None or run.phase is TrainingPhase.CANCELLED:
            self.lose(rules.holder_of(run), run.cancelled)

    def lose(self, holder: str, cancelled: Cancellation | None = None) -> None:
        """The run is not ours any more. Said again, it may only tell more of a cancellation."""
        self.cancelled = cancelled or self.cancelled
        if cancelled is not None and cancelled.now:
            self.hurried.set()
        if not self.lost.is_set():
            self.holder = holder
            log.warning("run.lost", run=self.id, claim=self.claim, holder=holder)
            self.lost.set()

    async def keep(self, seconds: float) -> None:
        """Renew the lease until cancelled, or until the run is lost. While the bus is away the run goes on."""
        while not self.lost.is_set():
            try:
                if self._lease is None:
                    self._lease = await self._again()
                else:
                    self._lease = await self._bus.leases.renew(self._lease)
            except LeaseLost:
                self._lease = None
                continue
            except (BusError, RecordDamaged) as away:
                log.info("lease.waiting", run=self.id, reason=str(away))
            await self._pause(seconds / RENEWALS)

    async def _again(self) -> Lease | None:
        """Take the lease again that ran out, if the record still says that the run is ours."""
        kept = await self.store.find(self.id)
        if kept is None or not rules.is_held(kept.run, self._bus.node, self.claim):
            if kept is None:
                self.lose("its record is gone")
            else:
                self.lose(rules.holder_of(kept.run), kept.run.cancelled)
            return None
        self.run = kept.run
        lease = await inherit(self._bus, self.id, self._owner)
        log.warning("lease.taken_again", run=self.id, claim=self.claim)
        return lease

    async def _pause(self, seconds: float) -> None:
        # Machines that were stopped wake with this sleep long over: the next renewal then comes at once.
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.lost.is_set():
            try:
                async with asyncio.timeout(left):
                    await self.lost.wait()
            except TimeoutError:
                return

    async def release(self) -> None:
        """Give the lease back; what cannot be given back runs out."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            await self._bus.leases.release(lease)
        except BusError as away:
            log.info("lease.left", run=self.id, reason=str(away))
