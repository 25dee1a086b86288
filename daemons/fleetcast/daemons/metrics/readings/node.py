"""A distributor: its transfers, its disk, and what it serves."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from fleetcast.daemons.distributor.parts import Parts
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.daemons.metrics.tally import LONG_SECONDS, Distribution, Tally
from fleetcast.events.envelope import Event
from fleetcast.events.payloads import IntegrityFailed, PeerBanned, TransferFailed
from fleetcast.events.state import TransferStatus

QUEUED: Final = "waiting"
CLIMBED: Final = frozenset({"done", "failed", "stalled"})


@dataclass(slots=True)
class _Motion:
    """How far a transfer was, and when that changed."""

    bytes: int
    since: float


class NodeReading:
    """Of one node.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, parts: Parts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._motion: dict[str, _Motion] = {}
        self._ended: Tally[tuple[str, str]] = Tally()
        self._rungs: Tally[tuple[str, str]] = Tally()
        self._received: Tally[str] = Tally()
        self._failures: Tally[str] = Tally()
        self._took = Distribution(LONG_SECONDS)
        parts.board.on_end = self._transfer_ended
        parts.voice.on_said = self._said

    async def read(self, sheet: Sheet) -> None:
        """Fill in all of it."""
        self._transfers(sheet)
        self._room(sheet)
        self._served(sheet)

    # -- what happens

    def _transfer_ended(self, status: TransferStatus) -> None:
        self._ended.note((status.transport, status.state))
        if status.state == "installed":
            self._took.observe(status.seconds)
        for rung in status.rungs:
            self._received.note(rung.transport, rung.received_bytes)
            if rung.state in CLIMBED:
                self._rungs.note((rung.transport, rung.state))

    def _said(self, event: Event) -> None:
        match event.payload:
            case IntegrityFailed():
                self._failures.note("integrity")
            case PeerBanned():
                self._failures.note("peer")
            case TransferFailed(final=True):
                self._failures.note("refused")

    # -- what is so

    def _transfers(self, sheet: Sheet) -> None:
        active = self._parts.board.active
        sheet.put("fleetcast_transfers_active", len(active))
        sheet.put("fleetcast_transfers_waiting", sum(t.state == QUEUED for t in self._parts.board.transfers))
        sheet.put("fleetcast_transfers_slow", sum(t.slow is not None for t in active))
        sheet.put("fleetcast_transfer_rate_bytes", sum(t.rate_bytes_per_second for t in active))
        sheet.put("fleetcast_transfer_idle_seconds", self._idle(active))
        for (transport, outcome), count in self._ended.counts.items():
            sheet.put("fleetcast_transfers_total", count, transport=transport, outcome=outcome)
        for (transport, outcome), count in self._rungs.counts.items():
            sheet.put("fleetcast_rungs_total", count, transport=transport, outcome=outcome)
        sheet.spread("fleetcast_transfer_duration_seconds", self._took)
        sheet.start("fleetcast_transfer_bytes_total", "transport", self._parts.transports)
        for transport, count in self._received.counts.items():
            sheet.add("fleetcast_transfer_bytes_total", count, transport=transport)
        for rung in (rung for transfer in active for rung in transfer.rungs):
            sheet.add("fleetcast_transfer_bytes_total", rung.received_bytes, transport=rung.transport)
        sheet.start("fleetcast_verify_failures_total", "reason", ("integrity", "peer", "refused"))
        for reason, count in self._failures.counts.items():
            sheet.add("fleetcast_verify_failures_total", count, reason=reason)
        for transport, there in self._parts.available.items():
            sheet.put("fleetcast_transport_available", there.ok, transport=transport)

    def _idle(self, active: Iterable[TransferStatus]) -> float:
        now = self._clock()
        seen: dict[str, _Motion] = {}
        for transfer in active:
            moved = transfer.bytes_done + transfer.bytes_verified
            known = self._motion.get(transfer.transfer)
            seen[transfer.transfer] = known if known and known.bytes == moved else _Motion(moved, now)
        self._motion = seen
        return max((now - each.since for each in seen.values()), default=0.0)

    def _room(self, sheet: Sheet) -> None:
        board = self._parts.board
        sheet.put("fleetcast_disk_free_bytes", board.disk_free)
        sheet.put("fleetcast_disk_reserve_bytes", self._parts.settings.store.reserve_bytes)
        sheet.put("fleetcast_disk_stall_ratio", board.disk_stall)
        sheet.put("fleetcast_spool_entries", board.spool_entries)
        sheet.put("fleetcast_spool_lost_total", board.spool_lost)
        sheet.put("fleetcast_node_drained", board.drained)

    def _served(self, sheet: Sheet) -> None:
        held = self._parts.board.models
        installed = [version for line in held for version in line.installed]
        sheet.put("fleetcast_installed_versions", len(installed))
        sheet.put("fleetcast_installed_bytes", sum(version.bytes for version in installed))
        sheet.put("fleetcast_hooks_failed", sum(line.hook is not None and line.hook.state == "failed" for line in held))
        for line in (line for line in held if line.kind == "model"):
            if line.current is not None:
                slot = line.follows or "none"
                sheet.put("fleetcast_serving_info", 1, model=line.model, version=line.current, slot=slot)
            sheet.put("fleetcast_serving_generation", line.generation, model=line.model)
