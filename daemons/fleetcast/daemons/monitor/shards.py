"""Which monitor judges which models: shards of them, each under a lease, shared evenly among the monitors that live.

The lease says who may begin. What fences the work is `telling`: every batch of verdicts is stored by compare-and-swap
on the shard's state, so that a monitor that was stopped and wakes up later cannot store anything more.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from fleetcast.bus import Lease
from fleetcast.bus.errors import BusError, LeaseLost, LeaseTaken
from fleetcast.bus.leases import Leases
from fleetcast.bus.shield import finish
from fleetcast.bus.streams import LEASE_SECONDS

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.monitor")

SHARDS: Final = 16
LOOK_SECONDS: Final = 2.0
"""Distance of the looks at who is there; a lease is renewed every fifth of its time."""
GIVE_BACK_SECONDS: Final = 2.0
MARGIN: Final = 0.7
"""Share of a lease's time after which it counts as lost here when it could not be renewed: our clock and the server's
need not run alike, and a write takes its time."""


def shard_of(model: str, count: int = SHARDS) -> int:
    """The shard that a model belongs to, everywhere and always the same."""
    return int.from_bytes(hashlib.sha256(model.encode()).digest()[:4], "big") % count


def share(me: str, members: Collection[str], count: int = SHARDS) -> frozenset[int]:
    """The shards that *me* is to hold: every member that lives, in the order of their names, takes its turn. Members
    that see different fleets want the same shard for a moment; the lease decides between them."""
    ordered = sorted({*members, me})
    return frozenset(shard for shard in range(count) if ordered[shard % len(ordered)] == me)


@dataclass(slots=True)
class Held:
    """A lease that is held, and until when by our own monotonic clock."""

    lease: Lease
    until: float


class Owner(Protocol):
    """What is told of shards that come and go."""

    def gained(self, shard: int, lease: Lease) -> None:
        """Begin with a shard."""

    def lost(self, shard: int) -> None:
        """Stop with a shard at once: whatever was decided about it and is not stored is void."""


class Shards:
    """Keeps this monitor's share of the leases.

    Args:
        name: of this monitor among the members, `<node>`.
        owner: what leases are taken as, for people.
        members: the monitors that live, as far as is known now.
        lease_seconds: how long the bucket keeps a lease that is not renewed.
    """

    def __init__(
        self,
        leases: Leases,
        target: Owner,
        *,
        name: str,
        owner: str,
        members: Callable[[], Iterable[str]],
        lease_seconds: float = LEASE_SECONDS,
        count: int = SHARDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._target = target
        self._name = name
        self._owner = owner
        self._members = members
        self._lease_seconds = lease_seconds
        self._count = count
        self._monotonic = monotonic
        self._held: dict[int, Held] = {}
        self._look = asyncio.Event()

    @property
    def held(self) -> frozenset[int]:
        """The shards whose leases are good now."""
        now = self._monotonic()
        return frozenset(shard for shard, held in self._held.items() if held.until > now)

    def holds(self, shard: int) -> bool:
        """Whether a shard's lease is good now, as far as our clock tells."""
        held = self._held.get(shard)
        return held is not None and held.until > self._monotonic()

    def look(self) -> None:
        """Look now: a monitor came or went."""
        self._look.set()

    def give_up(self, shard: int) -> None:
        """A shard turned out to be another's; whatever lease we had is left alone."""
        if self._held.pop(shard, None) is not None:
            self._target.lost(shard)

    async def run(self) -> None:
        """Take, renew and give back until cancelled; then give everything back."""
        try:
            while True:
                self._look.clear()
                await self._round()
                try:
                    async with asyncio.timeout(min(LOOK_SECONDS, self._lease_seconds / 5)):
                        await self._look.wait()
                except TimeoutError:
                    continue
        finally:
            await finish(self._give_back(frozenset(self._held)))

    async def _round(self) -> None:
        self._expire()
        wanted = share(self._name, tuple(self._members()), self._count)
        await self._give_back(frozenset(self._held) - wanted)
        await asyncio.gather(*(self._renew(shard) for shard in sorted(self._held)))
        await asyncio.gather(*(self._take(shard) for shard in sorted(wanted - frozenset(self._held))))

    def _expire(self) -> None:
        now = self._monotonic()
        for shard in [shard for shard, held in self._held.items() if held.until <= now]:
            self._lose(shard, "it could not be renewed in time")

    async def _take(self, shard: int) -> None:
        began = self._monotonic()
        try:
            lease = await self._leases.acquire(lease_name(shard), self._owner)
        except LeaseTaken:
            return
        except BusError as away:
            log.info("shard.waiting", shard=shard, reason=str(away))
            return
        self._held[shard] = Held(lease, began + self._lease_seconds * MARGIN)
        log.info("shard.taken", shard=shard, fence=lease.fence)
        self._target.gained(shard, lease)

    async def _renew(self, shard: int) -> None:
        held = self._held[shard]
        began = self._monotonic()
        if held.until - began > self._lease_seconds * (MARGIN - 0.2):
            return
        try:
            held.lease = await self._leases.renew(held.lease)
        except LeaseLost as lost:
            self._lose(shard, str(lost))
        except BusError as away:
            log.info("shard.not_renewed", shard=shard, reason=str(away))
        else:
            held.until = began + self._lease_seconds * MARGIN

    def _lose(self, shard: int, reason: str) -> None:
        self._held.pop(shard, None)
        log.warning("shard.lost", shard=shard, reason=reason)
        self._target.lost(shard)

    async def _give_back(self, shards: frozenset[int]) -> None:
        given = {shard: self._held.pop(shard) for shard in sorted(shards)}
        for shard in given:
            # Before the lease goes: nothing of what is decided from now on may be said.
            self._target.lost(shard)
        await asyncio.gather(*(self._release(shard, held.lease) for shard, held in given.items()))

    async def _release(self, shard: int, lease: Lease) -> None:
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._leases.release(lease)
        except (BusError, TimeoutError) as away:
            # It expires by itself.
            log.info("shard.not_given_back", shard=shard, reason=str(away))
        else:
            log.info("shard.given_back", shard=shard)


def lease_name(shard: int) -> str:
    """The key of a shard's lease."""
    return f"monitor.{shard:02d}"
