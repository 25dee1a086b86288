"""Transfers: one task per artifact that is being brought here, in the order of urgency, until it is installed."""

import asyncio
import functools
import itertools
import random
from collections.abc import Set
from contextlib import AbstractContextManager

import structlog

from fleetcast.bus import tracing
from fleetcast.bus.errors import BusError
from fleetcast.daemons.distributor.acquire import Acquisition
from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.distributor.progress import waiting
from fleetcast.daemons.distributor.rules import Offer, Urgency, retry_delay
from fleetcast.transport.errors import BadData, ManifestRefused, TransportError, VerificationFailed

log = structlog.get_logger("fleetcast.distributor.transfers")

Wanted = dict[str, tuple[Urgency, Offer]]
"""Goals by artifact."""


class Transfers:
    """Owner of the set of running transfers."""

    def __init__(self, parts: Parts, acquisition: Acquisition) -> None:
        self._parts = parts
        self._acquisition = acquisition
        self._wanted: Wanted = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, tuple[Offer, BadData]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.installed = asyncio.Event()
        """Set whenever a version was installed; whoever waits clears it."""

    async def run(self) -> None:
        """Keep the group that all transfers belong to, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._start_more()
            try:
                await asyncio.Event().wait()
            finally:
                # Tasks that end from here on make room for nobody: the group takes no more.
                self._group = None

    def pursue(self, wanted: Wanted) -> None:
        """Make *wanted* the goals: start what is missing, stop what nobody wants any more."""
        self._wanted = wanted
        for artifact in set(self._running) - set(wanted):
            log.info("transfer.superseded", artifact=artifact)
            self._running[artifact].cancel()
        self._start_more()

    def offer_of(self, artifact: str) -> Offer | None:
        """What *artifact* is fetched for; None when it is not wanted any more."""
        wanted = self._wanted.get(artifact)
        return wanted[1] if wanted else None

    def give_another_chance(self, artifact: str) -> None:
        """Forget that *artifact* was refused."""
        self._refused.pop(artifact, None)

    def ask_again(self, artifact: str, causes: Set[str]) -> None:
        """A decision that follows from *causes* names *artifact*: forget that it was refused, unless the same event led
        to what was refused."""
        before = self._refused.get(artifact)
        if before is not None and before[0].cause not in causes:
            del self._refused[artifact]

    def forgive_manifests(self) -> None:
        """Another key ring is in force: whose manifest was refused may count now."""
        for artifact in [a for a, (_, refused) in self._refused.items() if isinstance(refused, ManifestRefused)]:
            del self._refused[artifact]

    def _start_more(self) -> None:
        if self._group is None:
            return
        limit = self._parts.settings.distributor.parallel_transfers
        for artifact, (urgency, offer) in sorted(self._wanted.items(), key=lambda g: g[1][0]):
            if artifact in self._running or self._is_refused(offer):
                continue
            # What is to be served now never waits behind what may be needed later.
            if len(self._running) >= limit and urgency is not Urgency.PRODUCTION:
                break
            task = self._group.create_task(self._run(offer), name=f"transfer:{artifact[:16]}")
            self._running[artifact] = task
            task.add_done_callback(functools.partial(self._ended, artifact))
        self._parts.board.queue(waiting(self._parts.node, self._queued(), len(self._running)))

    def _queued(self) -> list[Offer]:
        """What has not begun, in the order in which it will."""
        ordered = sorted(self._wanted.items(), key=lambda g: g[1][0])
        return [
            offer for artifact, (_, offer) in ordered if artifact not in self._running and not self._is_refused(offer)
        ]

    def _is_refused(self, offer: Offer) -> bool:
        """Whether it cannot be had: its bytes are not what they should be, or this very manifest does not count."""
        before, refused = self._refused.get(offer.artifact, (None, None))
        if before is None:
            return False
        return not isinstance(refused, ManifestRefused) or before.envelope == offer.envelope

    def _ended(self, artifact: str, task: asyncio.Task[None]) -> None:
        self._running.pop(artifact, None)
        if not task.cancelled():  # what was stopped may have become wanted again meanwhile
            self._wanted.pop(artifact, None)
        self._start_more()

    async def _run(self, offer: Offer) -> None:
        structlog.contextvars.bind_contextvars(correlation_id=offer.correlation, model=offer.name)
        for attempt in itertools.count(1):
            try:
                with self._span(offer, attempt):
                    await self._acquisition.acquire(offer)
                self.installed.set()
                return
            except BadData as refused:
                # Bytes that differ came from a source or a disk and may be right next time; a file that does not
                # load will never load.
                if not isinstance(refused, VerificationFailed):
                    self._refused[offer.artifact] = offer, refused
                    log.warning("transfer.refused", version=offer.version, reason=str(refused))
                    return
            except (TransportError, BusError) as fault:
                log.warning("transfer.again", version=offer.version, attempt=attempt, reason=str(fault))
            except Exception:
                log.exception("transfer.broken", version=offer.version, attempt=attempt)
            await asyncio.sleep(self._delay(attempt))

    def _span(self, offer: Offer, attempt: int) -> AbstractContextManager[tracing.Span]:
        return tracing.span(
            "transfer",
            parent=tracing.recall(offer.cause),
            model=offer.name,
            version=offer.version,
            node=self._parts.node,
            cid=offer.correlation,
            cause=offer.cause,
            attempt=attempt,
        )

    def _delay(self, attempt: int) -> float:
        limits = self._parts.settings.distributor
        return retry_delay(
            attempt,
            base_seconds=limits.retry_base_seconds,
            cap_seconds=limits.retry_cap_seconds,
            jitter=random.random(),  # noqa: S311 - spreads retries, protects nothing
        ).delay_seconds
