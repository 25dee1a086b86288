"""Climbing: runs the rungs of one transfer one after the other, as the rules of the ladder say (ADR 0015)."""

import asyncio
import time
from dataclasses import replace

import structlog

from fleetcast.daemons.distributor.neighbours import Neighbours
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.progress import TransferProgress
from fleetcast.daemons.distributor.reach import live_sources
from fleetcast.daemons.distributor.rules import Offer, receivers
from fleetcast.daemons.distributor.rungs import DONE, FAILED, STALLED
from fleetcast.events.payloads import TransferMoved
from fleetcast.transport.errors import (
    BadData,
    StoreError,
    TransferError,
    TransferFailed,
    TransferStalled,
    TransportError,
    VerificationFailed,
)
from fleetcast.transport.ladder import Climb, Fault, GiveUp, Ladder, Left, better, choose, next_step
from fleetcast.transport.protocol import FetchRequest

log = structlog.get_logger("fleetcast.distributor.ladder")

BITTORRENT = "bittorrent"
"""The rung that checks the folder by itself."""
LOOK_SECONDS = 0.5
"""Distance of looks at a running rung; its progress comes as often."""
AGAIN_SECONDS = 2.0
"""Distance of looks for another rung once one has found none: each asks other nodes for a word."""
WAIT_SECONDS = 1.0
"""Distance of looks at whether a source has appeared, while there is none that any transport could use."""


class Climber:
    """Brings the bytes of one offer, by whichever transport can."""

    def __init__(self, parts: Parts, neighbours: Neighbours, offer: Offer, progress: TransferProgress) -> None:
        self._parts = parts
        self._neighbours = neighbours
        self._offer = offer
        self._progress = progress
        self._climb = Climb()
        self._fault: TransportError | None = None

    def plan(self) -> Ladder:
        """The ladder as it is now; shown by the transfer's status."""
        parts, offer = self._parts, self._offer
        ladder = choose(
            offer.content.size,
            receivers(self._neighbours.statuses, offer),
            available=parts.available,
            sources=parts.swarm.sources(offer.artifact),
            settings=parts.settings.ladder,
        )
        self._progress.plan(ladder)
        return ladder

    async def climb(self, request: FetchRequest) -> None:
        """Return when every piece is proven.

        Raises:
            TransferFailed: no transport can bring it; worth another try later.
            BadData: what is asked for does not fit together, by any transport.
            StoreError: this node failed.
        """
        transport = await self._beginning()
        self._log_chosen(transport)
        if transport != BITTORRENT:
            await self._progress.prove_here()
        reason = ""
        while (left := await self._run(transport, request, reason)) is not None:
            target = await self._after(left)
            if target != transport:
                self._move(transport, target, left)
                reason = f"after {transport}: {left.reason}"
            transport = target

    async def _beginning(self) -> str:
        """The first rung, as soon as there is one: a wait for any source at all is no failure."""
        while (ladder := self.plan()).first is None:
            if not any(there.ok for there in self._parts.available.values()):
                raise TransferFailed(ladder.choice)
            await asyncio.sleep(WAIT_SECONDS)
        return ladder.first

    async def _run(self, transport: str, request: FetchRequest, reason: str) -> Left | None:
        """Run one rung to its end; None: every byte is here."""
        progress = self._progress
        before = progress.proven_bytes
        sources = self._parts.swarm.sources(self._offer.artifact)
        progress.enter_rung(transport, reason)
        left = await self._raced(transport, replace(request, sources=sources, have=progress.proven))
        if left is None:
            progress.leave_rung(DONE, reason)
            return None
        progress.leave_rung(FAILED if left.fault is Fault.FAILED else STALLED, left.reason)
        await progress.prove_here()
        if progress.proven_bytes == self._offer.content.size:
            return None  # it broke after its last byte
        return replace(left, brought=max(0, progress.proven_bytes - before))

    async def _raced(self, transport: str, request: FetchRequest) -> Left | None:
        """The rung against the watch over it. A rung that loses has let go of the files when this returns."""
        fetching = asyncio.create_task(self._fetched(transport, request), name=f"fetch:{transport}")
        watching = asyncio.create_task(self._watched(transport), name=f"watch:{transport}")
        try:
            done, _ = await asyncio.wait({fetching, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            fetching.cancel()
            watching.cancel()
            await asyncio.gather(fetching, watching, return_exceptions=True)
        return fetching.result() if fetching in done else watching.result()

    async def _fetched(self, transport: str, request: FetchRequest) -> Left | None:
        try:
            await self._parts.transports[transport].fetch(request, self._progress)
        except TransferStalled as stalled:
            return self._left(transport, Fault.STALLED, stalled)
        except (TransferError, VerificationFailed) as failed:
            return self._left(transport, Fault.FAILED, failed)
        except (BadData, StoreError):
            raise
        except Exception as broken:
            # A fault of ours in one transport is no reason to leave the others untried.
            log.exception("ladder.rung_broken", version=self._offer.version, transport=transport)
            return self._left(transport, Fault.FAILED, TransferFailed(f"{type(broken).__name__}: {broken}"))
        return None

    def _left(self, transport: str, kind: Fault, fault: TransportError) -> Left:
        self._fault = fault
        return Left(transport, kind, fault.reason)

    async def _watched(self, transport: str) -> Left:
        """Return when nothing moves, or the carrying process has ended, and another rung has a source that answers."""
        pause, restarts = LOOK_SECONDS, 0
        while True:
            await asyncio.sleep(pause)
            pause = LOOK_SECONDS
            left = self._trouble(transport, restarts)
            if left is not None:
                live = await self._live()
                self._progress.note_answers(sum(live.values()))
                if better(self.plan(), self._climb, transport, live, time.monotonic()) is not None:
                    return left
                pause, restarts = AGAIN_SECONDS, self._progress.restarts

    def _trouble(self, transport: str, restarts: int) -> Left | None:
        """What is wrong with the running rung; *restarts* were noticed before."""
        if self._progress.restarts > restarts:
            return Left(transport, Fault.CRASHED, "the process that carried it ended")
        limit, peers = self._parts.settings.ladder.stall_seconds, self._progress.peers
        if self._progress.idle_seconds < limit:
            return None
        return Left(transport, Fault.STALLED, f"no byte for {limit:g} s, {peers or 'no'} sources connected")

    async def _live(self) -> dict[str, int]:
        """By transport that can be used: complete sources that answer."""
        sources = self._parts.swarm.sources(self._offer.artifact)
        seconds = self._parts.settings.ladder.probe_seconds
        usable = self.plan().usable
        counts = await asyncio.gather(*(live_sources(t, sources, self._offer.content, seconds) for t in usable))
        return dict(zip(usable, counts, strict=True))

    async def _after(self, left: Left) -> str:
        """The rung to take next, once its time has come.

        Raises:
            TransferFailed: there is none.
        """
        now = time.monotonic()
        self._climb = self._climb.after(left, now, self._parts.settings.ladder)
        live = await self._live()
        step = next_step(self.plan(), self._climb, left, live, now)
        if isinstance(step, GiveUp):
            # A single fault says more in its own words, next step included.
            alone = self._fault if len(self._climb.records) == 1 else None
            raise alone or TransferFailed(step.reason)
        await self._rest(step.pause_seconds, sum(live.values()))
        return step.transport

    async def _rest(self, seconds: float, answering: int) -> None:
        """Wait for so long, or until another source answers than the *answering* ones that were of no use."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(left, AGAIN_SECONDS))
            now = sum((await self._live()).values())
            self._progress.note_answers(now)
            if now > answering:
                return
            answering = now

    def _move(self, origin: str, target: str, left: Left) -> None:
        progress, offer = self._progress, self._offer
        log.warning(
            "ladder.moved",
            version=offer.version,
            artifact=offer.artifact,
            **{"from": origin, "to": target},
            reason=left.reason,
            bytes_kept=progress.proven_bytes,
        )
        fact = TransferMoved(
            transfer=progress.transfer,
            artifact=offer.artifact,
            node=self._parts.node,
            transport=target,
            model=offer.name,
            version=offer.version,
            bytes_by_source=progress.status.bytes_by_source,
            seconds=round(progress.seconds, 3),
            reason=left.reason,
            from_transport=origin,
            bytes_kept=progress.proven_bytes,
        )
        progress.moves += 1
        self._parts.say_of(offer, fact, discriminator=f"{progress.transfer}/{progress.moves}")

    def _log_chosen(self, transport: str) -> None:
        status = self._progress.status
        log.info("ladder.chosen", version=status.version, transport=transport, choice=status.choice)
