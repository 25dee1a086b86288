"""What runs of this node read, noted where the store of the node looks (`transport/store/readers.py`), so that no
eviction takes files away from a job that opens them by path, nor from a run that waits for a node.

A note is written before a process is started and removed when its end is known; it lies on the disk in between,
whatever becomes of the daemon. One for each claim: what an older one gives back does not end what the next one reads.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from fleetcast.daemons.trainer.claims.watching import RunWatch
from fleetcast.daemons.trainer.supervision.folder import write_whole
from fleetcast.events.content import Kind
from fleetcast.events.training import DataInput, TrainingRunState
from fleetcast.transport.errors import StoreError
from fleetcast.transport.store import layout
from fleetcast.transport.store.readers import SUFFIX, ReaderNote, ReadVersion, settled

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")

RENEW_SECONDS = 300.0
"""Between renewals: a note counts for a day."""
START_PATIENCE_SECONDS = 60.0
"""For the store to have removed what it is removing."""
WAITING = 0
"""In place of a claim: nobody has the run yet, and any node may get it."""
_NAMED = re.compile(r".+\.[0-9]+\.json\Z")

Alive = Callable[[str], Awaitable[bool]]
"""Whether something of a run still runs on this node."""


class RunReaders:
    """The notes of the runs of one node.

    Args:
        data: `store.data` of the node.
    """

    def __init__(self, data: Path) -> None:
        self._data = data

    async def begin(self, run: TrainingRunState) -> tuple[DataInput, ...]:
        """Note that a run reads its data sets from now on; gives those that are not here any more.

        Raises:
            OSError: the note cannot be written.
            StoreError: the store has been busy for a minute.
        """
        return await asyncio.to_thread(self._begin, run) if run.data else ()

    async def end(self, run: str, claim: int) -> None:
        """A claim of a run reads nothing any more; what is left of it is found by the next `drop_others`."""
        try:
            await asyncio.to_thread(self._path(run, claim).unlink, missing_ok=True)
        except OSError as fault:
            log.warning("run.data_still_held", run=run, claim=claim, reason=str(fault))

    async def renew(self, runs: Iterable[TrainingRunState]) -> None:
        """Have the notes of runs count for another day; one that is gone is written again."""
        for run in runs:
            if not run.data:
                continue
            try:
                await asyncio.to_thread(self._renew, run)
            except (OSError, StoreError) as fault:
                log.warning("run.data_not_held", run=run.run, claim=run.claim, reason=str(fault))

    async def drop_others(self, held: Callable[[], Iterable[TrainingRunState]], is_alive: Alive) -> None:
        """Remove the notes of all other claims, but for those of runs of which something still runs.

        Args:
            held: asked after the notes were looked for: who wrote one of them was in hand before.
        """
        for name in await asyncio.to_thread(self._listed):
            run, number, _ = name.rsplit(".", 2)
            claim = int(number)
            # Of a run that waits nothing runs: what does is noted by its claim.
            if name in _names(held()) or (claim != WAITING and await is_alive(run)):
                continue
            log.debug("run.data_released", run=run, claim=claim)
            await self.end(run, claim)

    async def keep(
        self,
        node: str,
        watch: RunWatch,
        *,
        in_hand: Callable[[], Iterable[TrainingRunState]],
        is_alive: Alive,
    ) -> None:
        """Renew the notes of this node's runs until cancelled, and of those that wait; drop those of runs that are
        gone: a daemon that was killed between an end and its note leaves one behind.

        Args:
            in_hand: the runs that are seen to here.
            is_alive: whether something of a run still runs on this node.
        """

        def held() -> list[TrainingRunState]:
            # What is ours by its record and not in hand yet is about to be.
            ours = {run.run: run for run in watch.owned if run.owner == node} | {run.run: run for run in in_hand()}
            return [*ours.values(), *(run.model_copy(update={"claim": WAITING}) for run in watch.queued)]

        woken = watch.waker()
        await watch.known.wait()
        known: set[str] | None = None
        while True:
            woken.clear()
            if (names := _names(now := held())) != known:
                await self.renew(now)
                await self.drop_others(held, is_alive)
                known = names
            try:
                async with asyncio.timeout(RENEW_SECONDS):
                    await woken.wait()
            except TimeoutError:
                known = None

    # -- in a thread

    def _begin(self, run: TrainingRunState) -> tuple[DataInput, ...]:
        with settled(self._data, START_PATIENCE_SECONDS):
            self._write(run)
            return tuple(each for each in run.data if not self._folder(each).is_dir())

    def _write(self, run: TrainingRunState) -> None:
        reads = tuple(ReadVersion(kind=Kind.DATASET, name=each.lane, version=each.version) for each in run.data)
        note = ReaderNote(reader=_reader(run), versions=reads)
        self._notes.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(run.run, run.claim), note.model_dump(mode="json"), mode=0o644)

    def _renew(self, run: TrainingRunState) -> None:
        try:
            os.utime(self._path(run.run, run.claim))
        except FileNotFoundError:
            with settled(self._data, START_PATIENCE_SECONDS):
                self._write(run)

    def _listed(self) -> list[str]:
        return sorted(path.name for path in self._notes.glob(f"*{SUFFIX}") if _NAMED.match(path.name))

    def _folder(self, data: DataInput) -> Path:
        return layout.absolute(self._data, layout.version(Kind.DATASET, data.lane, data.version))

    @property
    def _notes(self) -> Path:
        return layout.absolute(self._data, layout.READERS)

    def _path(self, run: str, claim: int) -> Path:
        return self._notes / _name(run, claim)


def _names(runs: Iterable[TrainingRunState]) -> set[str]:
    return {_name(run.run, run.claim) for run in runs}


def _reader(run: TrainingRunState) -> str:
    return f"run {run.run}" if run.claim != WAITING else f"run {run.run} once it has a node"


def _name(run: str, claim: int) -> str:
    return f"{run}.{claim}{SUFFIX}"
