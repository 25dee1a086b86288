"""Carries runs out: one task per run, every state written before it is acted on."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime

import structlog
from pydantic import ValidationError

from fleetcast.bus import tracing
from fleetcast.bus.errors import BusError, Conflict
from fleetcast.daemons.remedy.playbooks import rules, turns
from fleetcast.daemons.remedy.playbooks.rules import StepResult
from fleetcast.daemons.remedy.playbooks.steps import Step, StepContext, Surroundings
from fleetcast.daemons.remedy.playbooks.store import Kept, RunStore
from fleetcast.events.remedies import RUN_ENDED, PlaybookRunState, RunPhase, StepRecord
from fleetcast.registry.errors import RecordDamaged
from fleetcast.transport.failpoints import failpoint

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.remedy")

LONGEST_NAP_SECONDS = 1.0
WRITE_TRIES = 10
WELL_ENDED = frozenset({RunPhase.SUCCEEDED, RunPhase.NOTHING})


class Runner:
    """Owner of the tasks that carry runs out.

    Attributes:
        owner: this process, as runs name it.
        under_way: runs that are carried out here, by id.
    """

    def __init__(
        self,
        store: RunStore,
        steps: Mapping[str, Step],
        around: Surroundings,
        *,
        owner: str,
        on_left: Callable[[PlaybookRunState], None],
    ) -> None:
        self.owner = owner
        self.under_way: dict[str, asyncio.Task[None]] = {}
        self._store = store
        self._steps = steps
        self._around = around
        self._woken: dict[str, asyncio.Event] = {}
        self._on_left = on_left

    def begin(self, kept: Kept) -> None:
        """Carry a run out from where it is; nothing happens while that is done already."""
        run = kept.run.run
        if run in self.under_way:
            self.wake(run)
            return
        task = asyncio.get_running_loop().create_task(self._guarded(kept), name=f"playbook-{run}")
        self.under_way[run] = task
        task.add_done_callback(lambda _: self.under_way.pop(run, None))

    def wake(self, run: str) -> None:
        """Have a run looked at again now: somebody else wrote it, or its time has come."""
        if run in self._woken:
            self._woken[run].set()

    async def stop(self) -> None:
        """Leave all runs as they are: what they were about to do is written, and another process goes on."""
        tasks = list(self.under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, kept: Kept) -> None:
        run = kept.run
        with structlog.contextvars.bound_contextvars(
            run=run.run, playbook=run.playbook, correlation_id=run.cause.correlation
        ):
            self._woken[run.run] = asyncio.Event()
            try:
                with _span(run, self.owner) as span:
                    ended = await self._carry(kept)
                    span.note(phase=ended.phase.value)
                    if ended.phase not in WELL_ENDED:
                        span.failed(f"{ended.phase.value}: {ended.phase_detail}")
            except Conflict:
                log.info("playbook.left", reason="another daemon goes on with it")
            except (BusError, RecordDamaged) as e:
                # What it was about to do is written: the next look takes it up again.
                log.warning("playbook.interrupted", reason=str(e))
            except Exception:
                log.exception("playbook.interrupted")
            finally:
                self._woken.pop(run.run, None)

    async def _carry(self, kept: Kept) -> PlaybookRunState:
        """From the state that is written to the run's end, which is returned.

        Raises:
            Conflict: somebody else wrote the run.
        """
        while kept.run.phase not in RUN_ENDED:
            index = rules.current(kept.run)
            step = None if index is None else kept.run.steps[index]
            if kept.run.phase is RunPhase.APPROVAL or (step is not None and step.outcome.value == "pending"):
                kept = await self._wait(kept, step)
            elif step is None:
                kept = await self._put(kept, rules.advanced(kept.run, self._around.now()))
            else:
                kept = await self._attempt(kept, step)
        self._say_end(kept.run)
        self._on_left(kept.run)
        return kept.run

    async def _wait(self, kept: Kept, step: StepRecord | None) -> Kept:
        """Until a moment comes, or somebody says something."""
        now = self._around.now()
        if rules.expired(kept.run, now):
            return await self._put(kept, rules.lapsed(kept.run, now))
        if kept.run.phase is not RunPhase.APPROVAL:
            further = rules.advanced(kept.run, now)
            if further is not kept.run:
                return await self._put(kept, further)
        woken = self._woken[kept.run.run]
        woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_nap(step, now)):
                await woken.wait()
        # Somebody may have agreed, or cancelled, at any daemon: their word is what is stored.
        there = await self._store.find(kept.run.run) or kept
        if there.run.owner not in {self.owner, ""}:
            raise Conflict(f"{there.run.owner} goes on with it")
        return there

    async def _attempt(self, kept: Kept, step: StepRecord) -> Kept:
        """Carry out the step that is written as under way, and write what came of it together with what is next."""
        began = time.perf_counter()
        failpoint(f"playbook.{step.name}.do.before")
        result = await self._result(kept.run, step)
        failpoint(f"playbook.{step.name}.do.after")
        seconds = time.perf_counter() - began
        now = self._around.now()
        level = log.info if result.ok else log.warning
        level(
            "playbook.step",
            step=step.name,
            attempt=step.attempt,
            ok=result.ok,
            detail=result.detail,
            seconds=round(seconds, 4),
            model=kept.run.model,
        )
        after = rules.settled(kept.run, result, now, seconds)
        return await self._put(kept, rules.advanced(after, now))

    async def _result(self, run: PlaybookRunState, step: StepRecord) -> StepResult:
        action = self._steps.get(step.action)
        if action is None:
            return StepResult(False, f"this daemon has no step {step.action!r}", again=False)
        try:
            params = step.params if action.params is None else action.params.model_validate(step.params)
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return StepResult(False, f"params.{where}: {first['msg']}", again=False)
        left = self._left(step)
        try:
            async with asyncio.timeout(left):
                return await action.run(StepContext(run, step, self._around), params)
        except TimeoutError:
            return rules.timed_out(step)
        except Exception as e:
            # A step may be anybody's code: whatever it raises is a failed attempt, told and not fatal.
            log.warning("playbook.step.raised", step=step.name, exc_info=not isinstance(e, BusError))
            return StepResult(False, f"{type(e).__name__}: {e}")

    def _left(self, step: StepRecord) -> float:
        if step.deadline is None:
            return step.timeout_seconds
        return max(0.0, rules.seconds_until(step.deadline, self._around.now()))

    async def _put(self, kept: Kept, run: PlaybookRunState) -> Kept:
        """Write a run; at its end together with the books about its resource.

        Raises:
            Conflict: somebody else wrote the run.
        """
        now = self._around.now()
        if run.phase not in RUN_ENDED:
            return await self._store.save(kept, run, now)
        for _ in range(WRITE_TRIES):
            shelf = await self._store.shelf(run.resource_type, run.resource_id)
            books = turns.left(run, shelf.books)
            try:
                return await self._store.save(kept, run, now, shelf=shelf, books=books)
            except Conflict:
                there = await self._store.find(run.run)
                if there is None or there.sequence != kept.sequence:
                    raise
        raise Conflict(f"the books about {run.resource_id} change all the time")

    def _say_end(self, run: PlaybookRunState) -> None:
        level = log.info if run.phase in WELL_ENDED else log.warning
        level(
            "playbook.ended",
            phase=run.phase.value,
            detail=run.phase_detail,
            resource=run.resource_id,
            model=run.model,
            seconds=round(rules.seconds_since(run.asked_at, self._around.now()), 3),
        )


def _span(run: PlaybookRunState, owner: str) -> AbstractContextManager[tracing.Span]:
    return tracing.span(
        f"playbook {run.playbook}",
        parent=tracing.recall(run.cause.event),
        run=run.run,
        model=run.model,
        version=run.version,
        cid=run.cause.correlation,
        cause=run.cause.event,
        owner=owner,
    )


def _nap(step: StepRecord | None, now: datetime) -> float:
    """Seconds until a waiting run is looked at again."""
    moments = [m for m in (step.not_before, step.deadline) if m is not None] if step is not None else []
    if not moments:
        return LONGEST_NAP_SECONDS
    return min(LONGEST_NAP_SECONDS, max(0.005, rules.seconds_until(min(moments), now)))
