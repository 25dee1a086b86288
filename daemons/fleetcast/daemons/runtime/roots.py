"""The root tasks of a daemon: named, guarded, and stopped in stages, each of them in bounded time.

`asyncio.TaskGroup` is not used here on purpose: it waits for ever for a task that does not obey its cancellation, and
it cannot stop some tasks before others. Below the roots, TaskGroup is the rule.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Stage(enum.IntEnum):
    """When a root task is stopped: first what takes in new work, then the work itself, last what the work leans on."""

    INTAKE = 1
    """Takes in new work (consumers, watches, listeners). Cancelled at once."""
    WORK = 2
    """Does work. Given the drain time to finish by itself, then cancelled."""
    SUPPORT = 3
    """Serves the others (heartbeats, forwarders, the watchdog). Cancelled when the others are gone."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a root task came to its end."""

    name: str
    error: BaseException | None

    @property
    def reason(self) -> str:
        """In words, for logs and for the status line."""
        return f"{self.name} failed: {self.error!r}" if self.error else f"{self.name} ended"


@dataclass(frozen=True, slots=True)
class Grace:
    """How long each step of a shutdown may take.

    `drain_seconds` is for work to finish by itself, `cancel_seconds` for a cancelled task to clean up, `exit_seconds`
    for what surrounds the roots (closing the bus); then the process ends all the same.
    """

    drain_seconds: float = 10.0
    cancel_seconds: float = 5.0
    exit_seconds: float = 5.0

    @property
    def total_seconds(self) -> float:
        """The longest that a whole staged stop takes: one drain, and one clean-up per stage."""
        return self.drain_seconds + len(Stage) * self.cancel_seconds


class Roots:
    """Owns the root tasks. `ended` is called once for each that ends before it was told to."""

    def __init__(self, ended: Callable[[Ending], None]) -> None:
        self._ended = ended
        self._tasks: dict[asyncio.Task[None], Stage] = {}
        self._stopping = False

    def start(self, name: str, work: Coroutine[Any, Any, object], *, stage: Stage = Stage.INTAKE) -> asyncio.Task[None]:
        """Start a root task. It is expected to run until it is cancelled (`WORK`: or until it is done, while draining).

        Raises:
            RuntimeError: the shutdown has begun; the coroutine is closed, not run.
        """
        if self._stopping:
            work.close()
            raise RuntimeError(f"root task {name!r} was started during the shutdown")
        task = asyncio.get_running_loop().create_task(self._guard(name, work), name=name)
        self._tasks[task] = stage
        task.add_done_callback(self._forget)
        return task

    def names(self) -> list[str]:
        """The root tasks that still run."""
        return sorted(task.get_name() for task in self._tasks)

    async def stop(self, grace: Grace, *, hurry: asyncio.Event) -> list[str]:
        """Stop all stages in order and return the names of tasks that did not obey. `hurry` cuts the drain short."""
        self._stopping = True
        for stage in Stage:
            if stage is Stage.WORK:
                await self._drain(grace.drain_seconds, hurry)
            await self._cancel(stage, grace.cancel_seconds)
        return self.names()

    async def _guard(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Run one root; its crash is logged at once, with its name, and never raised into anything else."""
        try:
            await work
        except asyncio.CancelledError:
            log.debug("root.cancelled", root=name)
            raise
        except Exception as error:
            log.exception("root.failed", root=name)
            self._report(Ending(name, error))
        else:
            self._report(Ending(name, None))

    def _report(self, ending: Ending) -> None:
        if not self._stopping:
            self._ended(ending)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        # A root cancelled from outside ends without a report from its guard; the daemon is not whole without it.
        if task.cancelled():
            self._report(Ending(task.get_name(), asyncio.CancelledError()))

    def _of(self, stage: Stage) -> set[asyncio.Task[None]]:
        return {task for task, of in self._tasks.items() if of is stage}

    async def _drain(self, seconds: float, hurry: asyncio.Event) -> None:
        work = self._of(Stage.WORK)
        if not work or hurry.is_set():
            return
        log.info("stop.draining", waiting_for=sorted(task.get_name() for task in work), seconds=seconds)
        await first_of(asyncio.wait(work), hurry.wait(), seconds=seconds)

    async def _cancel(self, stage: Stage, seconds: float) -> None:
        tasks = self._of(stage)
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=seconds)
        if left:
            log.error("stop.left", stage=stage.name.lower(), tasks=sorted(task.get_name() for task in left))


async def first_of(*waits: Awaitable[object], seconds: float) -> None:
    """Wait until one of these is over, or the time is; the others are cancelled, and all are awaited."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
