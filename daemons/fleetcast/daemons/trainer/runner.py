"""One run under one claim of this node, from the claim to what is decided about its end.

Every step may be begun by one life of the daemon and finished by the next: what was started is found in the run's
folder, what was decided in its record. While the bus is away the process goes on; only another claim ends it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from fleetcast.daemons.trainer import finishing
from fleetcast.daemons.trainer.checkpoints.keeper import Checkpoints
from fleetcast.daemons.trainer.checkpoints.watch import CheckpointWatch
from fleetcast.daemons.trainer.claims import rules
from fleetcast.daemons.trainer.claims.leasing import Owned
from fleetcast.daemons.trainer.claims.rules import Again, ClaimLost, Ended
from fleetcast.daemons.trainer.claims.store import Change
from fleetcast.daemons.trainer.faults import fallback
from fleetcast.daemons.trainer.faults.judging import Judgement
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.daemons.trainer.leftovers import end_stale
from fleetcast.daemons.trainer.readers import RunReaders
from fleetcast.daemons.trainer.releasing import Release, asked_before, order
from fleetcast.daemons.trainer.starting import CPU, Place, gpus_in, spec_of
from fleetcast.daemons.trainer.supervision.handle import Handle
from fleetcast.daemons.trainer.supervision.spec import Exit, RunSpec
from fleetcast.daemons.trainer.supervision.supervisors import SupervisionFailed, Supervisor
from fleetcast.events.payloads import Payload
from fleetcast.events.runs import DataSlice, FaultClass, RunOutcome, RunStarted
from fleetcast.events.training import Remedy, RunReturned, TrainingPhase, TrainingRunState
from fleetcast.transport.errors import StoreError
from fleetcast.transport.failpoints import failpoint

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

OVERDUE_SECONDS = 5.0
"""Before the deadline of a node's machine: what has not ended by then is told to by signal."""
LATER = timedelta(seconds=15)
AWAY = timedelta(minutes=10)
"""For which a run is not given again to a node that could not bring its checkpoint, or does not have its data."""


class Ends(Protocol):
    """Judges how processes ended (`faults.desk.FaultDesk`)."""

    async def judge(
        self,
        run: TrainingRunState,
        lane: LaneDefinition,
        exit: Exit,  # noqa: A002
        *,
        env: Mapping[str, str],
        using: tuple[int, ...] = (),
        others: int | None = None,
    ) -> Judgement:
        """What is made of an end that was not a success; the same again when it is asked again."""
        ...


class Runner:
    """Does runs.

    Attributes:
        readers: what runs of this node read.
        others: how many other nodes could take a run on a GPU now; None: not known.
        is_held: whether a node beside this one has a version of a model or lane, which its machine does not take along.
        gpus_for: the GPUs for a run that was claimed in an earlier life of the daemon; None: there are not enough.
    """

    def __init__(
        self,
        place: Place,
        supervisor: Supervisor,
        checkpoints: Checkpoints,
        ends: Ends,
        *,
        now: Callable[[], datetime],
        queue: Callable[[TrainingRunState], Awaitable[object]],
        log_bytes: int,
        of_lane: Callable[[str], tuple[TrainingRunState, ...]] = lambda _lane: (),
    ) -> None:
        """Make one.

        Args:
            now: the server's time.
            queue: puts the job of a run that waits again.
            log_bytes: kept of each log of a run.
            of_lane: runs of a lane that are known, whose failures advise how often to save.
        """
        self._place = place
        self._supervisor = supervisor
        self._checkpoints = checkpoints
        self._ends = ends
        self._now = now
        self._queue = queue
        self._log_bytes = log_bytes
        self._of_lane = of_lane
        self.readers = RunReaders(place.data)
        self.others: Callable[[TrainingRunState], int | None] = lambda _run: None
        self.is_held: Callable[[str, str], bool] = lambda _line, _version: False
        self.gpus_for: Callable[[LaneDefinition, TrainingRunState], tuple[int, ...] | None] = lambda _lane, _run: ()
        self._asked: dict[str, asyncio.Future[Release]] = {}

    def release(self, run: str, why: Release) -> bool:
        """Ask a run to save and end here; False: it is not in hand, or was asked before."""
        asked = self._asked.get(run)
        if asked is None or asked.done():
            return False
        asked.set_result(why)
        return True

    async def carry(self, owned: Owned, adopted: bool) -> None:
        """See a run to the end of its claim.

        Raises:
            ClaimLost: another claim holds it; its process was ended.
            BusUnavailable: what was decided could not be written: the next life decides the same again.
        """
        self._asked[owned.id] = asyncio.get_running_loop().create_future()
        try:
            await self._carry(owned, adopted)
            await self.readers.end(owned.id, owned.claim)
        except ClaimLost as lost:
            owned.lose(lost.holder, lost.cancelled)
            await self._end_stale(owned)
            await self.readers.end(owned.id, owned.claim)
            raise
        finally:
            asked = self._asked.pop(owned.id)
            if asked.done() and not asked.result().saved.done():
                asked.result().saved.set_result(False)

    async def _carry(self, owned: Owned, adopted: bool) -> None:
        handle = await self._found(owned)
        begun = owned.run.phase is not TrainingPhase.CLAIMED
        if handle is None and adopted and begun:
            owned.gpus = ()
            gone = Exit(None, None, 0.0, (), "lost", "nothing of it is left in its folder")
            await self._judge(owned, gone, None)
            return
        there = handle or await self._start(owned)
        if isinstance(there, Exit):
            await self._judge(owned, there, None)
        elif there is not None:
            owned.gpus = gpus_in(there.spec.env)
            await self.readers.renew((owned.run,))
            if not begun:
                await owned.change(lambda run: Change(rules.running(run, self._now()), _returned(run, self._now())))
                log.info("run.started", pid=there.pid, device=owned.run.device, phase=owned.run.phase.value)
            await self._see_through(owned, there)

    # -- its beginning

    async def _found(self, owned: Owned) -> Handle | None:
        """What runs, or ran, under this claim in the run's folder; what is left of an older claim is ended."""
        handle = await self._supervisor.adopt(self._place.folder(owned.id))
        if handle is None or handle.claim == owned.claim:
            return handle
        if handle.alive():
            log.warning("run.stale_process", stale_claim=handle.claim, pid=handle.pid)
            await end_stale(handle, f"claim {owned.claim} has the run now", None)
        return None

    async def _start(self, owned: Owned) -> Handle | Exit | None:
        """Start the process; how it failed, where it could not be; None: it was given back to the queue."""
        gpus = self.gpus_for(owned.lane, owned.run) if owned.gpus is None else owned.gpus
        if gpus is None:
            await self._give_back(owned, "its GPU is not to be had here any more", (), "GPU not free")
            return None
        owned.gpus = gpus
        try:
            if lacking := await self._lacking_data(owned):
                await self._give_back(owned, "its data is not to be had here", lacking, "data not held")
                return None
            folder = await self._checkpoints.prepare(owned.run, owned.lane)
            await self._take_what_is_left(owned)
            resume = await _while_ours(owned, self._checkpoints.resume(owned.run))
            if resume.lost:
                # To begin anew would throw its work away.
                await self._give_back(
                    owned, "no checkpoint can be had here", resume.passed_over, "checkpoint not brought"
                )
                return None
            advice = self._checkpoints.cadence(owned.run, owned.lane, self._of_lane(owned.run.lane))
            spec = spec_of(
                self._place,
                owned.run,
                owned.lane,
                checkpoints=folder,
                resume=resume.path,
                cadence_seconds=advice.seconds,
                gpus=gpus,
                log_bytes=self._log_bytes,
            )
            await asyncio.to_thread(_clear, self._place.stop_file(owned.id), self._place.done_file(owned.id))
            if (reason := _fell_for(owned.run)) is not None:
                await asyncio.to_thread(
                    fallback.announce, self._place.folder(owned.id), owned.id, claim=owned.claim, reason=reason
                )
        except (OSError, ValueError) as fault:
            return Exit(None, None, 0.0, (str(fault),), "could_not_start", str(fault))
        # The last look before there is a process: the record still says that the run is ours, and tells what begins.
        await owned.change(lambda run: Change(run, (_started(run),)))
        failpoint("training.process.before")
        try:
            handle = await self._supervisor.start(spec)
        except SupervisionFailed as fault:
            return Exit(None, None, 0.0, (str(fault),), "could_not_start", str(fault))
        failpoint("training.process.after")
        return handle

    async def _take_what_is_left(self, owned: Owned) -> None:
        """Commit what this node's own claim before this one has saved and nobody committed, as its daemon was away: the
        run goes on from there, and not from further back."""
        if len(owned.run.attempts) < 2 or owned.run.attempts[-2].node != self._place.node:
            return
        await CheckpointWatch(self._checkpoints, owned.run, owned.lane).settle()
        await owned.change(lambda _run: None)

    async def _lacking_data(self, owned: Owned) -> tuple[str, ...]:
        """Why the run cannot read its data here; none: it can, and its data stays until the end of this claim."""
        try:
            missing = await self.readers.begin(owned.run)
        except StoreError as busy:
            return (str(busy),)
        return tuple(f"data set {each.lane}@{each.version} is gone" for each in missing)

    async def _give_back(self, owned: Owned, what: str, why: tuple[str, ...], signature: str) -> None:
        """The run cannot be done here as things are: another node may."""
        now, detail = self._now(), ": ".join(filter(None, (what, "; ".join(why))))[:500]
        # It costs no try: nothing has run, and the run waits for a node however long that takes.
        ended = Ended(FaultClass.CONTROL_PLANE.value, detail, FaultClass.CONTROL_PLANE, signature, counts=False)
        again = Again(now + LATER, owned.run.cpu, self._place.node, now + AWAY)
        log.warning("run.given_back", reason=detail)
        await owned.change(lambda run: rules.queued_again(run, ended, again, self._now()))
        await self._queue(owned.run)

    # -- while it runs

    async def _see_through(self, owned: Owned, handle: Handle) -> None:
        watch = CheckpointWatch(self._checkpoints, owned.run, owned.lane)
        file = self._place.stop_file(owned.id)
        if (before := await asked_before(file, owned.run, self._place.node)) is not None:
            self.release(owned.id, before)
        end, asked, commits = await self._until_over(owned, handle, watch)
        await watch.settle()
        if asked is not None:
            await self._released(owned, asked, end, saved=watch.commits > commits)
        elif end.ok:
            await self._succeeded(owned, end)
        else:
            await self._judge(owned, end, handle.spec)

    async def _until_over(
        self, owned: Owned, handle: Handle, watch: CheckpointWatch
    ) -> tuple[Exit, Release | None, int]:
        """Wait for the end of the process; bring it about when it is asked for. Also how many checkpoints had been
        committed by then.

        Raises:
            ClaimLost: another claim holds the run.
        """
        asked = self._asked[owned.id]
        async with _beside(watch.run(), owned.lost.wait(), handle.wait()) as (watching, lost, ended):
            while not ended.done():
                waits = [task for task in (watching, lost, ended) if not task.done()]
                await asyncio.wait([*waits, asked], return_when=asyncio.FIRST_COMPLETED)
                if watching.done() and isinstance(watching.exception(), ClaimLost):
                    raise watching.exception() or AssertionError
                if lost.done():
                    raise ClaimLost(owned.id, owned.claim, owned.holder)
                if asked.done() and not ended.done():
                    commits = watch.commits
                    return await self._ask_to_end(owned, handle, asked.result()), asked.result(), commits
            return await ended, None, watch.commits

    async def _ask_to_end(self, owned: Owned, handle: Handle, why: Release) -> Exit:
        """By the stop file first, which a job sees between two steps; by signal when that is not heard."""
        patience = owned.lane.grace_seconds
        if why.deadline is not None:
            patience = max(0.0, (why.deadline - self._now()).total_seconds() - OVERDUE_SECONDS)
        log.info("run.asked_to_end", reason=why.ended.detail, seconds=round(patience, 1), save=why.save)
        if not why.save:
            return await handle.stop(0.0, why.ended.detail)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._place.stop_file(owned.id).write_text, order(why))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                return await handle.wait()
        grace = OVERDUE_SECONDS if why.deadline is not None else owned.lane.grace_seconds
        return await handle.stop(grace, why.ended.detail)

    # -- its end

    async def _succeeded(self, owned: Owned, end: Exit) -> None:
        run = await owned.change(lambda there: succeeded(there, end, self._now()))
        await self._told_success(run, end)

    async def _told_success(self, run: TrainingRunState, end: Exit) -> None:
        log.info("run.succeeded", attempts=len(run.attempts), seconds=end.seconds)
        await self._checkpoints.release_copies(run)

    async def _released(self, owned: Owned, why: Release, end: Exit, *, saved: bool) -> None:
        word = await self._word_of(owned, why) if end.code == 0 else None

        def decide(there: TrainingRunState) -> Change | TrainingRunState:
            # By the newest record: what is not accepted by now never is under this claim; the next one says it again.
            if word is not None and word.is_accepted(there):
                return succeeded(there, end, self._now(), f"; it was done, though asked to end: {why.ended.detail}")
            return rules.queued_again(there, why.ended, why.again, self._now())

        run = await owned.change(decide)
        if not why.saved.done():
            why.saved.set_result(saved)
        if run.phase is TrainingPhase.SUCCEEDED:
            await self._told_success(run, end)
            return
        log.info("run.released", reason=why.ended.detail, saved=saved)
        await self._queue(run)

    async def _word_of(self, owned: Owned, why: Release) -> finishing.Done | None:
        """The job's word that it was done, once all that it said is accepted; None: it gave none, or some of it is not
        safe yet: what only this node has goes with its machine."""
        said = await asyncio.to_thread(finishing.done, self._place.done_file(owned.id), owned.claim)
        if said is None:
            return None
        patience = finishing.ACCEPTED_SECONDS
        if why.deadline is not None:
            patience = max(0.0, (why.deadline - self._now()).total_seconds())

        def is_safe() -> bool:
            return why.deadline is None or said.is_held(self.is_held)

        await finishing.waited(lambda: owned.lost.is_set() or (said.is_accepted(owned.run) and is_safe()), patience)
        return said if is_safe() else None

    async def _judge(self, owned: Owned, end: Exit, spec: RunSpec | None) -> None:
        env = spec.env if spec is not None else {}
        judgement = await self._ends.judge(
            owned.run, owned.lane, end, env=env, using=gpus_in(env), others=self.others(owned.run)
        )
        run = await owned.change(lambda there: ended_by(there, judgement, self._now()))
        if run.phase is TrainingPhase.QUEUED:
            await self._queue(run)

    async def _end_stale(self, owned: Owned) -> None:
        """End the process of a run that is not ours any more; what it saved stays where it is."""
        handle = await self._supervisor.adopt(self._place.folder(owned.id))
        if handle is not None and handle.claim == owned.claim and handle.alive():
            await end_stale(handle, owned.holder, owned.cancelled, owned.hurried)


def ended_by(run: TrainingRunState, judgement: Judgement, now: datetime) -> Change:
    """What becomes of a run's record by a judgement."""
    if judgement.again is not None:
        return Change(rules.queued_again(run, judgement.ended, judgement.again, now), judgement.facts)
    after = rules.finished(run, TrainingPhase.FAILED, judgement.ended, now)
    return Change(after, (*judgement.facts, *rules.told_end(after, RunOutcome.FAILED)))


def succeeded(run: TrainingRunState, end: Exit, now: datetime, more: str = "") -> Change:
    """What becomes of the record of a run that is done."""
    ended = Ended(rules.SUCCEEDED, f"exit 0 after {end.seconds:.1f} s{more}")
    after = rules.finished(run, TrainingPhase.SUCCEEDED, ended, now)
    return Change(after, rules.told_end(after, RunOutcome.SUCCEEDED))


def _started(run: TrainingRunState) -> RunStarted:
    return RunStarted(
        run_id=run.run,
        node=run.owner or "",
        claim=run.claim,
        lane=run.lane,
        model=run.model,
        data=tuple(DataSlice(data_set=each.artifact, samples=each.samples or None) for each in run.data),
        device=run.device or None,
    )


def _returned(run: TrainingRunState, now: datetime) -> tuple[Payload, ...]:
    """What is told of a run that was on the CPU until now, and is not any more."""
    if run.cpu or run.degraded_at is None:
        return ()
    degraded = (now - datetime.fromisoformat(run.degraded_at)).total_seconds()
    return (
        RunReturned(
            run_id=run.run,
            node=run.owner or "",
            claim=run.claim,
            lane=run.lane,
            from_device=CPU,
            # A simulated GPU computes on the CPU, and is returned to all the same.
            to_device=run.device if run.device not in ("", CPU) else "gpu",
            degraded_seconds=max(0.0, degraded),
        ),
    )


async def _while_ours(owned: Owned, work: Awaitable[T]) -> T:
    """What *work* gives, which is given up as soon as the run is lost: a checkpoint may take minutes to come.

    Raises:
        ClaimLost: another claim holds the run, or it was cancelled.
    """
    working, lost = asyncio.ensure_future(work), asyncio.ensure_future(owned.lost.wait())
    try:
        await asyncio.wait((working, lost), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClaimLost(owned.id, owned.claim, owned.holder, owned.cancelled)
        return await working
    finally:
        for task in (working, lost):
            task.cancel()
        await asyncio.gather(working, lost, return_exceptions=True)


def _fell_for(run: TrainingRunState) -> str | None:
    """Why a run goes on on the CPU from this claim on; None: it does not, or did so before."""
    before = run.attempts[-2] if len(run.attempts) > 1 else None
    fell = run.cpu and before is not None and before.remedy is Remedy.CPU
    return before.detail if before is not None and fell else None


def _clear(*files: Path) -> None:
    for each in files:
        each.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _beside(
    watching: Awaitable[None], lost: Awaitable[object], ended: Awaitable[Exit]
) -> AsyncIterator[tuple[asyncio.Future[None], asyncio.Future[object], asyncio.Future[Exit]]]:
    """Three tasks, ended with the block; what runs by itself is not among them."""
    tasks = (asyncio.ensure_future(watching), asyncio.ensure_future(lost), asyncio.ensure_future(ended))
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
