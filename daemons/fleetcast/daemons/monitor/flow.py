"""The flow of FC_PERF: what comes is judged in batches; what a shard missed is replayed beside it; time goes on."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from fleetcast.bus import Bus, BusState, Entry, Lease
from fleetcast.bus.errors import BusError
from fleetcast.bus.retry import CONFLICT
from fleetcast.bus.streams import PERF
from fleetcast.daemons.monitor.clock import ServerClock
from fleetcast.daemons.monitor.judging import Judging, Shard
from fleetcast.daemons.monitor.shards import SHARDS
from fleetcast.daemons.monitor.telling import Teller

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.monitor")

TICK_SECONDS: Final = 0.25
"""Distance of the ticks; every shard has its turn once in `SHARDS` of them, so that none of them takes long."""
SLICE: Final = 100
"""Snapshots that are judged before the loop may do something else: some milliseconds."""
GATHER_SECONDS: Final = 0.05
LATE_SECONDS: Final = 300.0
"""A snapshot that waited longer than this tells nothing that is worth the others' waiting."""
RESUME_SECONDS: Final = 5.0
"""How old the snapshots are with which the flow then goes on."""


class Flow:
    """Reads the stream for the shards that are held.

    Args:
        replay_seconds: how far back a shard that was gained is judged again.

    Attributes:
        behind: snapshots that wait.
        passed_over: snapshots that were not judged, because too many came for too long.
        replayed: snapshots that were judged again.
    """

    def __init__(
        self,
        bus: Bus,
        clock: ServerClock,
        judging: Judging,
        teller: Teller,
        *,
        replay_seconds: float,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._judging = judging
        self._teller = teller
        self._replay_seconds = replay_seconds
        self._position = 0
        self._reached: datetime | None = None
        self._begun = asyncio.Event()
        self._wanted: asyncio.Queue[int] = asyncio.Queue()
        self._leases: dict[int, Lease] = {}
        self.behind = 0
        self.passed_over = 0
        self.replayed = 0

    # -- shards come and go

    def gained(self, shard: int, lease: Lease) -> None:
        """Begin with a shard."""
        self._leases[shard] = lease
        self._wanted.put_nowait(shard)

    def lost(self, shard: int) -> None:
        """Stop with a shard at once."""
        self._leases.pop(shard, None)
        self._judging.end(shard)
        self._teller.lose(shard)

    async def take_over(self) -> None:
        """Replay the shards that are gained until cancelled; those that are gained together, together."""
        await self._begun.wait()
        failures = 0
        while True:
            group = {await self._wanted.get()}
            await asyncio.sleep(GATHER_SECONDS)
            while not self._wanted.empty():
                group.add(self._wanted.get_nowait())
            try:
                await self._replay(sorted(group))
                failures = 0
            except BusError as away:
                failures += 1
                log.info("replay.waiting", reason=str(away), failures=failures)
                await asyncio.sleep(CONFLICT.delay(failures))
                for shard in group:
                    self._wanted.put_nowait(shard)

    async def _replay(self, group: Sequence[int]) -> None:
        """Bring shards to where the stream is, then let them follow it.

        Raises:
            BusError: not now.
        """
        since = self._clock.now() - timedelta(seconds=self._replay_seconds)
        leases = {
            number: lease
            for number in group
            if (lease := self._leases.get(number)) is not None and not self._judging.live(number)
        }
        said = await self._teller.take_over(leases)
        shards = {number: self._judging.begin(number, since.timestamp()) for number in said}
        position = await self._read(shards, start_time=since)
        # Meanwhile the flow went on: what is between is little, and less each time.
        while position < self._position:
            position = await self._read(shards, start_sequence=position + 1)
        # From here to the end nothing waits: no snapshot can fall between replay and flow.
        for number, shard in shards.items():
            if self._leases.get(number) is leases[number]:
                self._judging.go_live(shard, position, said[number])
                self._judging.tick(self._stream_time().timestamp(), number)
            else:
                self._judging.end(number)
                self._teller.lose(number)
        log.info("shards.live", shards=sorted(shards), position=position, replayed=self.replayed)

    async def _read(self, shards: Mapping[int, Shard], **start: Any) -> int:
        """Judge what is stored from *start* on; the sequence up to which that is all."""
        position = self._position
        waiting: list[Entry] = []
        async for entry in self._bus.tail(PERF, (), **start):
            waiting.append(entry)
            if len(waiting) >= SLICE:
                position = max(position, self._judged_again(shards, waiting))
                waiting = []
                await asyncio.sleep(0)
        return max(position, self._judged_again(shards, waiting)) if waiting else position

    def _judged_again(self, shards: Mapping[int, Shard], entries: Sequence[Entry]) -> int:
        self._judging.replay(shards, entries)
        self.replayed += len(entries)
        return entries[-1].sequence

    # -- what comes

    async def follow(self) -> None:
        """Judge what comes until cancelled."""
        self._position = await self._last_sequence()
        self._begun.set()
        start: dict[str, Any] = {"start_sequence": self._position + 1}
        while True:
            await self._follow_from(start)
            start = {"start_time": self._clock.now() - timedelta(seconds=RESUME_SECONDS)}

    async def _last_sequence(self) -> int:
        failures = 0
        while True:
            try:
                return await self._bus.last_sequence(PERF)
            except BusError as away:
                failures += 1
                log.info("flow.waiting", reason=str(away), failures=failures)
                await asyncio.sleep(CONFLICT.delay(failures))

    async def _follow_from(self, start: Mapping[str, Any]) -> None:
        """Judge what comes, until it is so old by then that it is better passed over."""
        async with aclosing(self._bus.batches(PERF, (), **start)) as batches:
            async for entries in batches:
                skipped = entries[0].sequence - self._position - 1
                if skipped > 0 and "start_time" in start:
                    self.passed_over += skipped
                    log.warning("snapshots.passed_over", count=skipped)
                for first in range(0, len(entries), SLICE):
                    self._take(entries[first : first + SLICE])
                    await asyncio.sleep(0)
                self.behind = entries[-1].pending
                if self.lag_seconds > LATE_SECONDS:
                    return

    def _take(self, entries: Sequence[Entry]) -> None:
        self._clock.seen(entries[-1].time)
        self._judging.take(entries)
        self._position = max(self._position, entries[-1].sequence)
        self._reached = entries[-1].time

    @property
    def lag_seconds(self) -> float:
        """How old the newest snapshot is that was judged, while others wait; 0: none waits."""
        if not self.behind or self._reached is None:
            return 0.0
        return max(0.0, (self._clock.now() - self._reached).total_seconds())

    @property
    def position(self) -> int:
        """Sequence up to which everything was judged."""
        return self._position

    # -- time

    async def tick(self) -> None:
        """Tell the judges the time until cancelled, one shard after the other."""
        shard = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._clock.known and self._bus.state is BusState.READY:
                self._judging.tick(self._stream_time().timestamp(), shard)
                shard = (shard + 1) % SHARDS

    def _stream_time(self) -> datetime:
        """The server's time; while snapshots wait, that of the newest that was judged: nobody is silent whose snapshots
        were not looked at."""
        return self._reached if self.behind and self._reached is not None else self._clock.now()
