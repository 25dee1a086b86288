"""Watches one transfer for what holds it up: gathers what this node measures for the rules of `slowness`."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from fleetcast.config.limits import LimitsSettings, cap_at
from fleetcast.daemons.distributor.board import Board
from fleetcast.daemons.distributor.slowness import Vitals, diagnose
from fleetcast.daemons.distributor.swarm import SwarmBook
from fleetcast.events.state import TransferStatus


class SlowWatch:
    """Remembers of one transfer what a single look cannot tell."""

    def __init__(
        self, board: Board, swarm: SwarmBook, limits: LimitsSettings, share: Callable[[str], int | None]
    ) -> None:
        self._board = board
        self._swarm = swarm
        self._limits = limits
        self._share = share
        self._whole_at: float | None = None
        self._rung = ""
        self._proven_before = 0

    def look(
        self, status: TransferStatus, idle_seconds: float, disk_queue: int | None, answering: int | None
    ) -> str | None:
        """Why the transfer is slow now, in one line; None: it is not, as far as this node can tell."""
        at = time.monotonic()
        if status.transport != self._rung:
            self._rung, self._proven_before = status.transport, status.bytes_verified
        whole = status.state == "verifying" or status.bytes_done >= status.bytes_total
        self._whole_at = (self._whole_at or at) if whole else None
        slow = diagnose(
            Vitals(
                state=status.state,
                bytes_total=status.bytes_total,
                bytes_done=status.bytes_done,
                bytes_proven=status.bytes_verified,
                rate=status.rate_bytes_per_second,
                idle_seconds=idle_seconds,
                verifying_seconds=0.0 if self._whole_at is None else at - self._whole_at,
                proves_on_the_way=status.bytes_verified > self._proven_before,
                peers=status.peers,
                known=self._swarm.members(status.artifact),
                answering=answering,
                cap=cap_at(datetime.now(UTC).astimezone(), self._limits).download,
                share=self._share(status.transport),
                disk_queue=disk_queue,
                disk_stall=self._board.disk_stall,
            )
        )
        return None if slow is None else str(slow)
