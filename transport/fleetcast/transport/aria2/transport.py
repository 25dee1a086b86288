"""The aria2 transport as the distributor sees it (ADR 0013)."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fleetcast.config.settings import Aria2Settings
from fleetcast.transport import metainfo
from fleetcast.transport.aria2 import options
from fleetcast.transport.aria2.asking import Asking
from fleetcast.transport.aria2.child import Nursery
from fleetcast.transport.aria2.fetching import Fetch
from fleetcast.transport.aria2.pace import AHEAD_SECONDS, Pace
from fleetcast.transport.capped import Moved
from fleetcast.transport.errors import TransferFailed
from fleetcast.transport.protocol import Availability, Ban, FetchRequest, Observer, Source

HOLD_SECONDS = 0.25
"""Distance of words to aria2c while it fetches under a cap; it looks at them once a second."""

BACKSTOP = 1.03
"""What aria2c lets pass of a cap that its mirrors hold: more than they send, less than the cap may be missed by."""


@dataclass(frozen=True, slots=True)
class Aria2Stats:
    """The transport: process id of aria2c (None when none is needed), starts of it, artifacts that are fetched."""

    child_pid: int | None
    starts: int
    fetching: tuple[str, ...]


class Aria2Transport:
    """Fetches artifacts by HTTP from every node that holds them whole; implements `protocol.Transport`.

    One aria2c serves all transfers of the node. It is started when the first of them needs it and ended with the last;
    it never outlives the daemon.

    Args:
        staging: folder for what aria2 notes about its downloads; what a crash leaves there may be removed.
        nice: niceness of aria2c; 0: that of this process.
        on_banned: told (artifact, ban) when a source sent wrong bytes and is not asked any more.
    """

    name = "aria2"

    def __init__(
        self,
        settings: Aria2Settings,
        *,
        staging: Path,
        nice: int = 0,
        on_banned: Callable[[str, Ban], None] | None = None,
    ) -> None:
        self._settings, self._staging, self._on_banned = settings, staging, on_banned
        self._asking = Asking()
        self._nursery = Nursery(nice, self._asking.header)
        self._looked = self._closed = False
        self._limit = self._received = 0
        self._holding: asyncio.Task[None] | None = None
        self._fetches: dict[str, tuple[Fetch, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        """Look for aria2c; nothing is started."""
        await asyncio.to_thread(self._nursery.look)
        self._looked = True

    async def close(self) -> None:
        """Stop. Fetches under way fail; the bytes stay for the next try."""
        self._closed = True
        tasks = [task for _, task in self._fetches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._holding is not None:
            await self._holding
        await self._asking.close()
        await self._nursery.end()

    def available(self) -> Availability:
        """Return whether artifacts can be fetched by aria2 on this node."""
        if not self._settings.enabled:
            return Availability(ok=False, reason="switched off in fleetcast.toml: [aria2] enabled")
        if not self._looked or self._closed:
            return Availability(ok=False, reason="not started")
        objection = options.objection(self._nursery.path, self._nursery.version)
        return Availability(ok=not objection, reason=objection)

    def stats(self) -> Aria2Stats:
        """How things stand."""
        return Aria2Stats(self._nursery.pid, self._nursery.starts, tuple(self._fetches))

    def moved(self) -> Moved:
        """How many bytes were received so far (`capped.Capped`)."""
        return Moved(received=self._received + sum(fetch.received for fetch, _ in self._fetches.values()))

    def limit(self, download: int | None, upload: int | None) -> None:
        """Cap what all transfers receive together, in bytes per second, from now on; None: no cap. Nothing is sent."""
        del upload
        self._limit = download or 0
        self._begin_holding()

    def _begin_holding(self) -> None:
        if self._holding is None or self._holding.done():
            self._holding = asyncio.create_task(self._hold(), name="aria2 limit")

    async def _hold(self) -> None:
        """Tell aria2c what keeps it at its limit, once when it does not fetch, and again and again while it does."""
        pace, obeyed, now = Pace(), False, asyncio.get_running_loop().time
        while True:
            limit = self._limit
            if self._asking.direct(limit, self._asked()) != obeyed:
                # Where mirrors keep to a rate, aria2 must not hold its breath for seconds for what came before.
                obeyed = not obeyed
                pace = Pace(AHEAD_SECONDS if obeyed else 0.0)
            speed = await self._nursery.speed() if limit else None
            told, received = limit, self.moved().received
            if limit and obeyed:
                told = pace.backstop(int(limit * BACKSTOP), received, speed or 0, now())
            elif limit and speed is not None:
                told = pace.told(limit, received, speed, now())
            await self._nursery.limit(told, cap=limit)
            if limit == self._limit and not (limit and self._fetches):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asking.news.wait(), HOLD_SECONDS)
            self._asking.news.clear()

    def _asked(self) -> set[str]:
        """Base URLs of all that are asked for bytes, or soon will be."""
        return {mirror.base for fetch, _ in self._fetches.values() for mirror in fetch.book.expected()}

    async def fetch(self, request: FetchRequest, observer: Observer) -> None:
        """Fetch the artifact; see `protocol.Transport.fetch`.

        Pieces in `request.have` are neither fetched nor claimed; others that lie in the folder are hashed first.
        """
        if request.artifact != request.content.artifact:
            raise TransferFailed(f"{request.artifact} is not the name of this content, {request.content.artifact}")
        if request.artifact in self._fetches:
            raise TransferFailed(f"{request.artifact} is being fetched already")
        if self._closed:
            raise TransferFailed("the aria2 transport is closed")
        info = metainfo.read(request.metainfo, request.content)
        fetch = Fetch(
            request,
            info,
            observer,
            self._settings,
            self._nursery,
            staging=self._staging,
            limit=lambda: self._limit,
            on_banned=self._on_banned,
        )
        await self._run(request.artifact, fetch)

    async def _run(self, artifact: str, fetch: Fetch) -> None:
        """A task of its own, so that `close` can end it while its caller waits."""
        task = asyncio.create_task(fetch.run(), name=f"aria2 fetch {artifact[:16]}")
        self._fetches[artifact] = fetch, task
        self._begin_holding()
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._closed and (current := asyncio.current_task()) is not None and not current.cancelling():
                raise TransferFailed("the aria2 transport is closed") from None
            raise
        finally:
            self._received += fetch.received
            self._fetches.pop(artifact, None)

    async def add_sources(self, artifact: str, sources: Iterable[Source]) -> None:
        """Tell a running transfer of more sources, or of known ones that are complete now; nothing when none runs."""
        found = self._fetches.get(artifact)
        if found is not None:
            found[0].learn(sources)
