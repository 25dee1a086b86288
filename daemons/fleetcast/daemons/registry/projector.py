"""Keeps the read model true: follows FC_REGISTRY, FC_EVENTS and FC_MINUTES into it, and makes it again when it cannot
be trusted.

One thread writes; others read. Nothing here waits for SQLite on the loop.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from fleetcast.bus import Bus, Entry
from fleetcast.bus.errors import BusError, NotFound, TransportFailed
from fleetcast.bus.retry import Backoff
from fleetcast.bus.shield import finish
from fleetcast.bus.streams import EVENTS, MINUTES, REGISTRY
from fleetcast.events.names import CATALOGUE
from fleetcast.registry.readmodel import ReadModel, ReadModelDamaged
from fleetcast.registry.readmodel.happenings import CONSUMED

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

T = TypeVar("T")

WAITING_RECORDS: Final = 512
"""Records that are held in memory while others are written: of large bundles each is half a megabyte."""
LOOK_SECONDS: Final = 5.0
"""Distance of the looks whether streams and file are still the same ones."""
READERS: Final = 3
"""Questions that are answered at once: each may have a cache of its own, and the machine has other work."""
AGAIN: Final = Backoff(base_seconds=0.2, cap_seconds=10.0, floor_ratio=0.5)
FILTERS: Final = {
    REGISTRY: (),
    EVENTS: tuple(
        subject
        for entry in CATALOGUE
        if entry.name in CONSUMED or entry.name.startswith("run.")
        for subject in entry.filters()
    ),
    MINUTES: (),
}
"""What is read of each stream; nothing: all of it, so that the sequence says how far the tables are true."""


class Remade(Exception):
    """A stream is not the one that the tables were made from."""


class Projector:
    """The read model of one daemon.

    Attributes:
        ready: set once the tables have all that the registry held when they were opened.
    """

    def __init__(self, bus: Bus, path: Path) -> None:
        self._bus = bus
        self._model = ReadModel(path)
        self._writer = ThreadPoolExecutor(1, "readmodel")
        self._readers = ThreadPoolExecutor(READERS, "queries")
        self.ready = asyncio.Event()
        self._open = False
        self._distrust: asyncio.Queue[str] = asyncio.Queue()
        self._as_of = 0
        self._head = 0
        self._moved = asyncio.Event()
        self._began = 0.0

    # -- how far

    @property
    def as_of_seq(self) -> int:
        """The sequence of FC_REGISTRY that answers are true as of; an answer may already be newer."""
        return self._as_of

    @property
    def behind(self) -> int:
        """How many sequences of FC_REGISTRY are known of that the tables do not have yet."""
        return max(self._head - self._as_of, 0)

    def behind_at(self, sequence: int) -> int:
        """How many sequences an answer as of *sequence* lacks."""
        return max(self._head - sequence, 0)

    async def wait_for(self, sequence: int, timeout: float) -> bool:
        """Wait until the tables have *sequence* of FC_REGISTRY; False when *timeout* seconds were not enough."""
        try:
            async with asyncio.timeout(timeout):
                while self._as_of < sequence:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def _set_as_of(self, sequence: int) -> None:
        self._as_of = sequence
        self._head = max(self._head, sequence)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # -- read

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Have a question answered from one state of all tables.

        Raises:
            ReadModelDamaged: it is being made again; the question may be asked again soon.
        """
        if not self._open:
            raise ReadModelDamaged("the read model is being opened")
        age = self._model.age
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._answer, question)
        except ReadModelDamaged as e:
            if self._open and age == self._model.age:
                self._distrust.put_nowait(str(e))
            raise

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        with self._model.reader() as db:
            return question(db)

    # -- write

    async def run(self) -> None:
        """Follow the streams until cancelled; then close and seal the file."""
        try:
            await self._follow_for_ever()
        finally:
            self._open = False
            await finish(self._close())

    async def _follow_for_ever(self) -> None:
        failures, reset = 0, ""
        while True:
            try:
                await self._begin(reset)
                reset, failures = "", 0
                await self._follow()
            except* (ReadModelDamaged, Remade) as e:
                reset = str(_first(e))
            except* (OSError, sqlite3.Error, BusError) as e:
                # The disk is full, the bus is away, a stream is being made: none of it is the file's fault.
                failures += 1
                log.warning("readmodel.waiting", reason=str(_first(e)), failures=failures)
                await asyncio.sleep(AGAIN.delay(failures))

    async def _begin(self, reset: str) -> None:
        """Open the file, or begin another one for the reason *reset*, and see to it that it is of these streams."""
        self._open = False
        self.ready.clear()
        if reset:
            await self._write(partial(self._model.reset, reset))
        elif not self._model.is_open:
            await self._write(self._model.open)
        self._began = time.monotonic()
        for stream in FILTERS:
            created, last = await self._recognised(stream)
            await self._write(partial(self._model.identify, stream, created))
            if stream == REGISTRY:
                # Also downwards: of a stream that was made anew, nothing is known yet but this.
                self._head = last
        self._set_as_of((await self._write(partial(self._model.cursor, REGISTRY))).sequence)
        self._open = True

    async def _follow(self) -> None:
        self._distrust = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            for stream in FILTERS:
                group.create_task(self._follow_stream(stream), name=f"projector-{stream}")
            group.create_task(self._look(), name="projector-look")
            group.create_task(self._heed(), name="projector-heed")

    async def _follow_stream(self, stream: str) -> None:
        waiting: asyncio.Queue[Entry] = asyncio.Queue(WAITING_RECORDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(stream, waiting), name=f"projector-read-{stream}")
            group.create_task(self._apply(stream, waiting), name=f"projector-write-{stream}")

    async def _read(self, stream: str, waiting: asyncio.Queue[Entry]) -> None:
        cursor = await self._write(partial(self._model.cursor, stream))
        subjects = FILTERS[stream]
        async for entry in self._bus.tail(stream, subjects, start_sequence=cursor.sequence + 1, follow=True):
            if stream == REGISTRY:
                self._head = max(self._head, entry.sequence)
            await waiting.put(entry)

    async def _apply(self, stream: str, waiting: asyncio.Queue[Entry]) -> None:
        _, last = await self._stream(stream)
        indexed = False
        while True:
            if stream == REGISTRY and not indexed and self._as_of >= last:
                await self._caught_up(last)
                indexed = True
            batch = [await waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get_nowait())
            sequence = await self._stored(stream, batch)
            if stream == REGISTRY:
                self._set_as_of(sequence)

    async def _caught_up(self, sequence: int) -> None:
        await self._write(self._model.index)
        self.ready.set()
        log.info("readmodel.ready", as_of_seq=sequence, seconds=round(time.monotonic() - self._began, 3))

    async def _stored(self, stream: str, batch: list[Entry]) -> int:
        failures = 0
        while True:
            try:
                return await self._write(partial(self._model.apply, stream, batch))
            except sqlite3.OperationalError as e:
                failures += 1
                log.warning("readmodel.unwritable", reason=str(e), failures=failures)
                await asyncio.sleep(AGAIN.delay(failures))

    async def _look(self) -> None:
        """Notice a stream that is not the same any more, and a file that somebody took away."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not await self._write(self._model.present):
                raise ReadModelDamaged("its file is gone")
            for stream in FILTERS:
                try:
                    _, last = await self._recognised(stream)
                except (TransportFailed, NotFound) as e:
                    log.debug("readmodel.not_looked", stream=stream, reason=str(e))
                    continue
                if stream == REGISTRY:
                    self._head = max(self._head, last)

    async def _heed(self) -> None:
        raise ReadModelDamaged(await self._distrust.get())

    async def _recognised(self, stream: str) -> tuple[str, int]:
        """As `_stream`.

        Raises:
            Remade: the tables are of another stream, or of records that this one has lost.
        """
        # The cursor first: what is written in between must not look as if it had been lost.
        cursor = await self._write(partial(self._model.cursor, stream))
        created, last = await self._stream(stream)
        if cursor.created and (created != cursor.created or cursor.sequence > last):
            raise Remade(f"{stream} was made anew")
        return created, last

    async def _stream(self, stream: str) -> tuple[str, int]:
        """When a stream was made, and its last sequence."""
        info = await self._bus.js.api(f"STREAM.INFO.{stream}")
        return str(info["created"]), int(info["state"]["last_seq"])

    async def _write(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _close(self) -> None:
        if self._model.is_open:
            await self._write(self._model.close)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=False)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The innermost reason of a group."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
