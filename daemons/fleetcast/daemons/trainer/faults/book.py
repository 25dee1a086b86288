"""The book of quarantined nodes: a record for each in FC_TRAINING, with the fact that tells of it in the same batch."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from fleetcast.bus import InSync
from fleetcast.bus.streams import TRAINING
from fleetcast.daemons.trainer.faults import quarantine as rules
from fleetcast.daemons.trainer.ledger import TrainingLedger, read, stored
from fleetcast.events.envelope import Event
from fleetcast.events.gpus import Gpu
from fleetcast.events.quarantine import FaultOnNode, NodeQuarantine, quarantine_subject
from fleetcast.events.training import NodeQuarantined
from fleetcast.registry.errors import RecordDamaged

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.trainer")


class QuarantineBook:
    """Reads, follows and writes the records of nodes.

    Attributes:
        known: set once all records that there are have been read.
    """

    def __init__(self, ledger: TrainingLedger, *, now: Callable[[], datetime]) -> None:
        self.known = asyncio.Event()
        self._ledger = ledger
        self._now = now
        self._records: dict[str, NodeQuarantine] = {}

    @property
    def records(self) -> tuple[NodeQuarantine, ...]:
        """What is known of every node that had a fault or was quarantined, by name."""
        return tuple(self._records[node] for node in sorted(self._records))

    def of(self, node: str) -> NodeQuarantine | None:
        """What is known of a node; None: nothing ever happened there."""
        return self._records.get(node)

    async def find(self, node: str) -> NodeQuarantine | None:
        """As `of`, from the stream's leader; errors as `record`."""
        return (await self._ledger.find(quarantine_subject(node), NodeQuarantine)).value

    def said(self, node: str) -> str:
        """Why a node gets no runs at all, and until when; empty: it does. For its heartbeat."""
        return rules.said(self.of(node), self._now(), gpu=False)

    def marked(self, node: str, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        """The GPUs of a node, each with the quarantine that lies on them. For its heartbeat."""
        return rules.marked(gpus, self.of(node), self._now())

    async def watch(self) -> None:
        """Follow the records until cancelled."""
        async for entry in self._ledger.bus.watch(TRAINING, (quarantine_subject("*"),)):
            if isinstance(entry, InSync):
                self.known.set()
                continue
            try:
                self._take(read(NodeQuarantine, entry))
            except RecordDamaged as damaged:
                log.warning("record.unreadable", subject=entry.subject, reason=str(damaged))

    async def record(self, node: str, fault: FaultOnNode, length: timedelta | None, *, gpu: bool) -> NodeQuarantine:
        """Note the newest fault of a node, and keep runs away from it for *length*; None: no longer than they are.
        The same fault noted again changes nothing.

        Args:
            gpu: only its GPUs are quarantined; runs on the CPU go on there.

        Raises:
            BusUnavailable: not stored before the publish deadline.
            RecordDamaged: what is there cannot be read.
        """

        def decided(before: NodeQuarantine | None) -> NodeQuarantine | None:
            if rules.is_known(before, fault.run, fault.claim):
                return None
            if length is None:
                return rules.with_fault(before, node, fault, self._now())
            return rules.entered(before, node, fault, length=length, gpu=gpu, now=self._now())

        return await self._change(node, decided)

    async def order(
        self, node: str, length: timedelta, *, reason: str, by: str, dry_run: bool = False
    ) -> NodeQuarantine:
        """Keep runs away from a node because a person says so; errors as `record`."""

        def decided(before: NodeQuarantine | None) -> NodeQuarantine:
            return rules.ordered(before, node, length=length, reason=reason, by=by, now=self._now())

        return decided(await self.find(node)) if dry_run else await self._change(node, decided)

    async def leave(self, node: str, *, by: str, dry_run: bool = False) -> NodeQuarantine | None:
        """Give a node runs again; None: nothing was ever known of it. Errors as `record`."""
        there = await self.find(node)
        if there is None or dry_run:
            return there

        def decided(before: NodeQuarantine | None) -> NodeQuarantine | None:
            if before is None or before.until is None:
                return None
            return rules.left(before, by=by, now=self._now())

        return await self._change(node, decided)

    async def extend(self, node: str, reason: str) -> NodeQuarantine:
        """A node's time is over, and it is not well: keep runs away for longer. Errors as `record`."""

        def decided(before: NodeQuarantine | None) -> NodeQuarantine | None:
            if before is None or not rules.is_due(before, self._now()):
                return None
            return rules.extended(before, length=rules.length_after(before), reason=reason, now=self._now())

        return await self._change(node, decided)

    async def _change(
        self, node: str, decide: Callable[[NodeQuarantine | None], NodeQuarantine | None]
    ) -> NodeQuarantine:
        async def attempt() -> NodeQuarantine:
            found = await self._ledger.find(quarantine_subject(node), NodeQuarantine)
            made = decide(found.value)
            if made is None:
                return found.value or NodeQuarantine(node=node, at=self._now().isoformat())
            state = stored(quarantine_subject(node), made, found.sequence)
            await self._ledger.write([state], self._facts(found.value, made))
            return made

        made = await self._ledger.until_settled(f"node {node}", attempt)
        self._take(made)
        return made

    def _facts(self, before: NodeQuarantine | None, record: NodeQuarantine) -> list[Event]:
        was = before.until if before is not None else None
        if was == record.until:
            return []
        told = NodeQuarantined(
            node=record.node,
            quarantined=record.until is not None,
            gpu=record.gpu,
            reason=record.reason
            if record.until is not None
            else f"it gets runs again; it was away for {record.reason}",
            until=record.until,
            fault_class=record.fault_class,
            signature=record.signature or None,
            run=record.run,
            by=record.by,
        )
        return [self._ledger.fact(told, None, f"{record.node}/{record.n}")]

    def _take(self, record: NodeQuarantine) -> None:
        known = self._records.get(record.node)
        if known is None or record.n >= known.n:
            self._records[record.node] = record
