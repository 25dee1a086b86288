"""What this node says of itself: transfers, installs, state. One owner, the daemon's loop; readers get values."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import ModelStatus, TransferStatus

ENDED_SHOWN = 8
"""Ended transfers that a heartbeat still shows."""


class Board:
    """The live picture of one node. `changed` is set whenever the next heartbeat would differ."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.urgent = asyncio.Event()
        """Set beside `changed` when somebody waits for just this change."""
        self.state = DaemonState.STARTING
        self.models: tuple[ModelStatus, ...] = ()
        self.left_out = 0
        """Models that the last heartbeat had no room for."""
        self.spool_entries = 0
        self.drained = False
        """Whether this node is out of service."""
        self.spool_lost = 0
        self.disk_free: int | None = None
        """Bytes free where the store is; None: nobody looked yet."""
        self.disk_stall: float | None = None
        """Share of the last seconds in which this machine waited for its disk; None: not measured."""
        self.on_end: Callable[[TransferStatus], None] = lambda _: None
        """Called with every transfer that has ended."""
        self._active: dict[str, TransferStatus] = {}
        self._waiting: tuple[TransferStatus, ...] = ()
        self._ended: deque[TransferStatus] = deque(maxlen=ENDED_SHOWN)

    def show(self, status: TransferStatus) -> None:
        """Put up an active transfer; only a change of its state or its transport is worth a heartbeat, bytes go by
        progress messages."""
        before = self._active.get(status.transfer)
        self._active[status.transfer] = status
        if before is None or (before.state, before.transport) != (status.state, status.transport):
            self.changed.set()

    def queue(self, waiting: Iterable[TransferStatus]) -> None:
        """Put up the transfers that have not begun, in their order."""
        queued = tuple(waiting)
        if [t.transfer for t in queued] != [t.transfer for t in self._waiting]:
            self._waiting = queued
            self.changed.set()

    def end(self, status: TransferStatus) -> None:
        self._active.pop(status.transfer, None)
        self._ended.append(status)
        self.on_end(status)
        self.changed.set()

    def set_models(self, models: Iterable[ModelStatus]) -> None:
        self.models = tuple(models)
        self.changed.set()

    def hurry(self) -> None:
        """Have what is shown reported now, whenever the last report was."""
        self.urgent.set()
        self.changed.set()

    def set_state(self, state: DaemonState) -> None:
        if state is not self.state:
            self.state = state
            self.changed.set()

    def set_drained(self, drained: bool) -> None:
        if drained != self.drained:
            self.drained = drained
            self.changed.set()

    @property
    def active(self) -> tuple[TransferStatus, ...]:
        return tuple(self._active.values())

    @property
    def transfers(self) -> tuple[TransferStatus, ...]:
        """Active ones first, then those whose turn has not come, then the last few that ended."""
        return (*self._active.values(), *self._waiting, *self._ended)

    @property
    def sentence(self) -> str:
        """One line for `systemctl status`."""
        count = sum(len(m.installed) for m in self.models)
        held = f"{_counted(count, 'version')} of {_counted(len(self.models), 'model')}"
        if not self._active:
            return f"{held}, no transfer"
        first = next(iter(self._active.values()))
        percent = 100 * first.bytes_done // max(1, first.bytes_total)
        rate = first.rate_bytes_per_second / 1e6
        return f"{held}, {len(self._active)} transfer(s): {first.model}@{first.version} {percent} % {rate:.0f} MB/s"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
