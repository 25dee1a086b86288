"""A run that is supervised, as the daemon holds it: wait for its end, or bring it about."""

import asyncio
import os
import signal
import time
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from fleetcast.daemons.trainer.supervision.cage import Cage
from fleetcast.daemons.trainer.supervision.folder import LOGS, STATE, read_state, write_order, write_whole
from fleetcast.daemons.trainer.supervision.job import LEFT_SECONDS, STUCK_SECONDS
from fleetcast.daemons.trainer.supervision.output import last_lines
from fleetcast.daemons.trainer.supervision.processes import boot_id, end_all, has_ended, marked, opened
from fleetcast.daemons.trainer.supervision.reading import read_end
from fleetcast.daemons.trainer.supervision.spec import Exit, Process, RunSpec, State

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer.supervision")

FORCE_SECONDS = STUCK_SECONDS + 2 * LEFT_SECONDS
"""After the grace: a supervisor that has not ended by then hangs, and is ended itself."""


class Handle:
    """One start of a run's command. Any number of handles may exist, one after the other or at once: what they know
    lies in the run's folder and in the kernel.

    Attributes:
        spec: what was started.
        state: as it was when this handle was made.
    """

    def __init__(self, spec: RunSpec, state: State) -> None:
        self.spec = spec
        self.state = state
        self._folder = Path(spec.folder)
        self._supervisor = opened(state.supervisor)
        if self._supervisor is not None:
            weakref.finalize(self, os.close, self._supervisor)

    @property
    def run(self) -> str:
        """The run."""
        return self.spec.run

    @property
    def claim(self) -> int:
        """The claim under which it was started."""
        return self.spec.claim

    @property
    def pid(self) -> int | None:
        """Number of the command's main process, for people; None: it never ran."""
        return self.state.main.pid if self.state.main is not None else None

    def alive(self) -> bool:
        """Whether its supervisor runs, and with it the command or its last steps."""
        return self._supervisor is not None and not has_ended(self._supervisor)

    async def wait(self) -> Exit:
        """How it ended, once nothing of it is left. May be asked again, and by many at once."""
        if self._supervisor is not None:
            await _readable(self._supervisor)
        return await asyncio.to_thread(self._conclude)

    async def stop(self, grace_seconds: float | None = None, reason: str = "the trainer was told to stop it") -> Exit:
        """SIGTERM to its main process; after *grace_seconds* (None: as its spec says) SIGKILL to all that is left.
        Returns how it ended. Once ordered, the stop is carried out even if this call is cancelled.

        Args:
            reason: for its log and for `Exit.detail`.
        """
        grace = self.spec.grace_seconds if grace_seconds is None else grace_seconds
        if self.alive():
            await asyncio.to_thread(self._order, grace, reason)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace + FORCE_SECONDS):
                    return await self.wait()
            log.error("run.supervisor_hangs", run=self.run, claim=self.claim, pid=self.state.supervisor.pid)
            self._signal(signal.SIGKILL)
        return await self.wait()

    def _order(self, grace_seconds: float, reason: str) -> None:
        try:
            write_order(self._folder, self.state.token, grace_seconds, reason)
        except OSError as fault:
            # Then it is stopped with the grace of its spec.
            log.warning("run.order_not_written", run=self.run, error=str(fault))
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._supervisor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._supervisor, number)

    def _conclude(self) -> Exit:
        """What its supervisor wrote at its end; where it could not, the rest of the command is ended here."""
        state = read_state(self._folder)
        if state is None or state.token != self.state.token:
            # Another start has followed, or the folder is gone.
            state = self.state
        if state.exit is not None:
            return state.exit
        left = _sweep(state)
        exit_ = self._lost(state, left)
        log.warning("run.lost", run=self.run, claim=self.claim, detail=exit_.detail)
        with suppress(OSError):
            current = read_state(self._folder)
            if current is not None and current.token == state.token:
                write_whole(self._folder / STATE, replace(state, exit=exit_).dump())
        return exit_

    def _lost(self, state: State, left: set[int]) -> Exit:
        detail = "its supervisor was killed" if state.supervisor.boot == boot_id() else "the machine was started again"
        if left:
            detail += f"; processes that SIGKILL does not end: {', '.join(map(str, sorted(left)[:8]))}"
        seconds = max(self._last_sign() - state.started_at, 0.0)
        return Exit(None, None, round(seconds, 3), self._last_words(state), "lost", detail)

    def _last_words(self, state: State) -> tuple[str, ...]:
        with suppress(OSError):
            return last_lines(read_end(self._folder / LOGS["stderr"], state.stderr_from).data)
        return ()

    def _last_sign(self) -> float:
        """When it was last known to run, wall clock."""
        moments = [self.state.started_at]
        for name in LOGS.values():
            with suppress(OSError):
                moments.append((self._folder / name).stat().st_mtime)
        return min(max(moments), time.time())


def _sweep(state: State) -> set[int]:
    """End what a supervisor that was killed has left; what does not end even so."""
    cage = Cage(Path(state.cage)) if state.cage and state.supervisor.boot == boot_id() else None
    if cage is not None:
        cage.kill()

    def left() -> set[int]:
        return marked(state.token) | (cage.members() if cage is not None else set()) | _main(state.main)

    remaining = end_all(left, LEFT_SECONDS, lambda: None)
    if cage is not None:
        cage.remove()
    return remaining


def _main(main: Process | None) -> set[int]:
    handle = opened(main) if main is not None else None
    if main is None or handle is None:
        return set()
    os.close(handle)
    return {main.pid}


async def _readable(process: int) -> None:
    """Wait until a process has ended, by its handle."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    # A copy, for a loop watches a descriptor for one reader only.
    watched = os.dup(process)
    loop.add_reader(watched, lambda: None if ended.done() else ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(watched)
        os.close(watched)
