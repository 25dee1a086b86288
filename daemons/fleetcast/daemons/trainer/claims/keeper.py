"""The runs that this node has in hand: one task each for what is done, one for its lease; and those that their records
say are ours and that nobody here has in hand, because the daemon was started anew."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from pydantic import ValidationError

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError, LeaseTaken
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.leasing import Owned, inherit
from fleetcast.daemons.trainer.claims.rules import ClaimLost
from fleetcast.daemons.trainer.claims.store import RunStore
from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.events.gpus import RunOnNode
from fleetcast.events.training import TrainingRunState, WorkClass
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

FAILED_SECONDS = 15.0
"""Before a run is taken up again that could not be carried for a reason that nobody has thought of."""

Carry = Callable[[Owned, bool], Awaitable[None]]
"""Sees a run to the end of its claim; True: it was begun by an earlier life of this daemon. Whatever it raises, the
run is taken up again."""


class Keeper:
    """Has runs in hand.

    Attributes:
        owned: by run.
        claiming: whether a run is being claimed here just now: whoever does that takes it in hand.
    """

    def __init__(
        self,
        bus: Bus,
        store: RunStore,
        watch: RunWatch,
        *,
        pid: int,
        now: Callable[[], datetime],
        lease_seconds: float,
        carry: Carry,
        look_seconds: float = 1.0,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one; *changed* is called whenever `owned` does, or the phase of one of them."""
        self.owned: dict[str, Owned] = {}
        self.claiming: Callable[[str], bool] = lambda _run: False
        self._bus = bus
        self._store = store
        self._watch = watch
        self._pid = pid
        self._now = now
        self._lease_seconds = lease_seconds
        self._carry = carry
        self._look_seconds = look_seconds
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._not_before: dict[str, float] = {}
        self._woken = watch.waker()
        watch.listen(self._seen)

    def begin(self, owned: Owned, adopted: bool = False) -> None:
        """Take a run in hand."""
        self.owned[owned.id] = owned
        self._not_before.pop(owned.id, None)
        task = asyncio.get_running_loop().create_task(self._hold(owned, adopted), name=f"run-{owned.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._changed()

    @property
    def reported(self) -> tuple[RunOnNode, ...]:
        """What is in hand, as the heartbeat says it."""
        return tuple(_reported(self.owned[run]) for run in sorted(self.owned))

    @property
    def settled(self) -> bool:
        """Whether all that is ours by the records is in hand, with the GPUs that it computes on: what a former life of
        the daemon began may use any of them."""
        return not self._waiting() and all(owned.gpus is not None for owned in self.owned.values())

    async def run(self) -> None:
        """Take up what is ours until cancelled; what is in hand then is left as it is, for the next life."""
        await self._watch.known.wait()
        try:
            while True:
                self._woken.clear()
                await self._look()
                try:
                    async with asyncio.timeout(self._look_seconds):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for run in self._waiting():
            if now < self._not_before.get(run.run, 0.0):
                continue
            try:
                await self._adopt(run)
            except (ClaimLost, LeaseTaken) as e:
                log.info("run.not_adopted", run=run.run, reason=str(e))
            except (BusError, RecordDamaged, KeyError, ValidationError) as e:
                log.warning("run.waiting", run=run.run, reason=_words(e))
                if isinstance(e, ValidationError):
                    self._not_before[run.run] = now + FAILED_SECONDS

    def _waiting(self) -> list[TrainingRunState]:
        """What is ours by the records, and nobody here has in hand."""
        ours = (run for run in self._watch.owned if run.owner == self._bus.node)
        return [run for run in ours if run.run not in self.owned and not self.claiming(run.run)]

    async def _adopt(self, run: TrainingRunState) -> None:
        lease = await inherit(self._bus, run.run, f"{self._bus.node}/{self._pid}")
        kept = await self._store.change_held(
            run.run, run.claim, lambda there: rules.adopted(there, pid=self._pid, now=self._now())
        )
        self._watch.take(kept.run)
        log.info("run.adopted", run=run.run, claim=run.claim, phase=run.phase.value)
        self.begin(Owned(self._bus, self._store, kept.run, lease), adopted=True)

    async def _hold(self, owned: Owned, adopted: bool) -> None:
        """Keep the lease while the run is carried; the one that ends first ends the other."""
        with_correlation = structlog.contextvars.bound_contextvars(
            run=owned.id, claim=owned.claim, lane=owned.run.lane, correlation_id=owned.run.cause.correlation
        )
        with with_correlation:
            lease = asyncio.get_running_loop().create_task(owned.keep(self._lease_seconds), name=f"lease-{owned.id}")
            try:
                await self._carry(owned, adopted)
            except ClaimLost as lost:
                log.info("run.left", reason=str(lost))
            except (BusError, RecordDamaged) as e:
                log.warning("run.interrupted", reason=str(e))
            except Exception:
                # Each time it is taken up it is written: what fails again and again must not fill the stream.
                self._not_before[owned.id] = asyncio.get_running_loop().time() + FAILED_SECONDS
                log.exception("run.interrupted", again_seconds=FAILED_SECONDS)
            finally:
                lease.cancel()
                await asyncio.gather(lease, return_exceptions=True)
                self.owned.pop(owned.id, None)
                self._changed()
            if not rules.is_held(owned.run, self._bus.node, owned.claim):
                await owned.release()
            self._watch.take(owned.run)
            self._woken.set()

    def _seen(self, run: TrainingRunState) -> None:
        owned = self.owned.get(run.run)
        if owned is not None:
            owned.seen(run)
            self._changed()


def _words(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        return f"its lane's definition cannot be read here, a newer fleetcast may: {problem.errors()[0]['msg']}"
    return str(problem)


def _reported(owned: Owned) -> RunOnNode:
    run = owned.run
    began = run.attempts[-1].started_at if run.attempts else run.at
    return RunOnNode(
        run=run.run,
        lane=run.lane,
        claim=run.claim,
        work_class=WorkClass.CPU.value if run.cpu else run.work_class.value,
        phase=run.phase.value,
        device=run.device,
        gpus=owned.gpus or (),
        since=began,
    )
