"""What carries bytes to this node and away from it: transports, the HTTP server of the store, the caps that they share,
and the threads that prove what came. Started in this order, stopped in reverse."""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import structlog

from fleetcast.config.settings import RsyncSettings, Settings
from fleetcast.daemons.distributor.allowance import Allowance
from fleetcast.daemons.distributor.capability import kept_capability
from fleetcast.events.payloads import Endpoints
from fleetcast.transport.aria2 import Aria2Transport
from fleetcast.transport.bittorrent import BittorrentTransport
from fleetcast.transport.capped import Capped, Sending
from fleetcast.transport.lending.desk import LendingDesk
from fleetcast.transport.niceness import IDLE, lower
from fleetcast.transport.protocol import Ban, Transport
from fleetcast.transport.rsync import RsyncTransport
from fleetcast.transport.serve import StoreServer
from fleetcast.transport.store import Store

log = structlog.get_logger("fleetcast.distributor")

HASHING_THREADS = max(1, min(4, (os.cpu_count() or 2) // 2))
"""As many as libtorrent has for its own hashing: the other half of the cores is for what the machine is there for."""


@dataclass(frozen=True, slots=True)
class Notices:
    """What transports noticed, until somebody hears it: artifacts that are not seeded any more, and peers that sent
    what they should not have."""

    lost_seeds: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    bans: asyncio.Queue[tuple[str, Ban]] = field(default_factory=asyncio.Queue)

    def seed_lost(self, artifact: str, _reason: str) -> None:
        """BitTorrent gave an artifact up."""
        self.lost_seeds.put_nowait(artifact)

    def banned(self, artifact: str, ban: Ban) -> None:
        """A transport takes nothing from a peer any more."""
        self.bans.put_nowait((artifact, ban))


@dataclass(frozen=True, kw_only=True)
class Carriers:
    """The transports and the server."""

    bittorrent: BittorrentTransport
    aria2: Aria2Transport
    rsync: RsyncTransport
    server: StoreServer

    @classmethod
    async def make(cls, settings: Settings, store: Store, address: str, notices: Notices) -> Self:
        """None of them is started yet.

        Args:
            address: under which others reach this node.
        """
        bind, nice = settings.network.bind, settings.limits.nice
        bittorrent = BittorrentTransport(
            settings.bittorrent,
            bind=bind,
            advertise=address,
            nice=nice,
            on_seed_lost=notices.seed_lost,
            on_banned=notices.banned,
        )
        server = StoreServer(
            settings.http,
            bind=bind,
            advertise=address,
            find=store.find,
            content_of=store.content_of,
            capability=await kept_capability(settings.store.data),
            desk=LendingDesk(bittorrent.lendable),
        )
        aria2 = Aria2Transport(settings.aria2, staging=store.staging, nice=nice, on_banned=notices.banned)
        rsync = RsyncTransport(
            settings.rsync,
            staging=store.staging,
            nice=nice,
            relayed=settings.limits.can_cap,
            on_banned=notices.banned,
        )
        return cls(bittorrent=bittorrent, aria2=aria2, rsync=rsync, server=server)

    @property
    def transports(self) -> tuple[BittorrentTransport, Aria2Transport, RsyncTransport]:
        """The rungs."""
        return self.bittorrent, self.aria2, self.rsync

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """While they run."""
        async with contextlib.AsyncExitStack() as stack:
            await self.server.start()
            stack.push_async_callback(self.server.close)
            for transport in self.transports:
                await transport.start()
                stack.push_async_callback(transport.close)
            yield

    def allowance(self, settings: Settings) -> Allowance:
        """The caps that they share; they hold from the first byte."""
        sharers: dict[str, Capped] = {
            self.bittorrent.name: self.bittorrent,
            f"{self.bittorrent.name}/borrowing": self.bittorrent.borrowing,
            self.aria2.name: self.aria2,
            self.rsync.name: self.rsync,
            "http": Sending(lambda: self.server.sent_bytes, self.server.limit),
        }
        allowance = Allowance(settings.limits, sharers)
        allowance.look(0.0)
        return allowance

    def by_name(self) -> Mapping[str, Transport]:
        """The rungs by name; one that does not work here is named once, with what to do."""
        for each in self.transports:
            there = each.available()
            if not there.ok:
                log.warning("transport.unavailable", transport=each.name, reason=there.reason)
        return {each.name: each for each in self.transports}

    def endpoints(self, settings: RsyncSettings, address: str) -> Endpoints:
        """Where others reach them."""
        return Endpoints(
            bt=self.bittorrent.endpoint, http=self.server.endpoint, rsync=_rsync_endpoint(settings, address)
        )


def _rsync_endpoint(settings: RsyncSettings, address: str) -> str | None:
    host = f"[{address}]" if ":" in address else address
    return settings.serve.replace("{address}", host) or None


@contextlib.contextmanager
def threads(nice: int) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """Threads for hashing that somebody waits for, and one for what nobody waits for."""
    hashing = ThreadPoolExecutor(HASHING_THREADS, "hashing", initializer=functools.partial(lower, nice))
    idle = ThreadPoolExecutor(1, "idle", initializer=functools.partial(lower, nice, io=IDLE))
    try:
        yield hashing, idle
    finally:
        for pool in (idle, hashing):
            pool.shutdown(wait=False, cancel_futures=True)
