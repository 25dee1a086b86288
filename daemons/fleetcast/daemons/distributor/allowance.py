"""The allowance: holds the caps of the node by dividing them among all that move bytes (`shares`), several times a
second while something moves. Windows begin and end here, without a restart."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from fleetcast.config.limits import Caps, LimitsSettings, cap_at
from fleetcast.transport.capped import Capped, Moved
from fleetcast.transport.shares import Peak, Rate, Trim, demand, divide, is_worth_telling

log = structlog.get_logger("fleetcast.distributor.allowance")

METER_SECONDS = 0.125
"""Distance of looks while something moves under a cap, and REST_SECONDS after the last byte."""
STILL_SECONDS = 0.25
"""Distance of looks otherwise: a window begins, or a first byte is seen, this much later at most."""
REST_SECONDS = 2.0


def local_time() -> datetime:
    """This moment as the clock on the wall shows it."""
    return datetime.now(UTC).astimezone()


@dataclass(slots=True)
class _Way:
    """One direction: what each part uses, and what it may."""

    cap: int | None = None
    trim: Trim = field(default_factory=Trim)
    counted: int = 0
    rates: dict[str, Rate] = field(default_factory=dict)
    peaks: dict[str, Peak] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)

    def look(self, cap: int | None, counts: Mapping[str, int], elapsed_seconds: float) -> bool:
        """Measure, and divide again where that is worth telling; True when it is."""
        rates = {n: self.rates.setdefault(n, Rate()).sample(count, elapsed_seconds) for n, count in counts.items()}
        peaks = {n: self.peaks.setdefault(n, Peak()).sample(rate, elapsed_seconds) for n, rate in rates.items()}
        before, changed = self.shares, (cap is None) != (self.cap is None)
        moved, self.counted = sum(counts.values()) - self.counted, sum(counts.values())
        self.cap = cap
        if cap is None:
            self.shares, self.trim = {}, Trim()
            return changed
        if changed or before.keys() != rates.keys():
            self.shares = divide(cap, {n: demand(0, rate) if rate > 0 else 0.0 for n, rate in rates.items()})
            return True
        demands = {n: demand(before[n], peak) for n, peak in peaks.items()}
        trimmed = self.trim.sample(cap, moved, elapsed_seconds, used_up=math.inf in demands.values())
        after = divide(trimmed, demands)
        if is_worth_telling(before, after):
            self.shares = after
        return self.shares is after


class Allowance:
    """Owner of what each part of this node may move.

    Args:
        parts: all that move bytes to or from other nodes, by name.
        now: the local time.
    """

    def __init__(
        self,
        limits: LimitsSettings,
        parts: Mapping[str, Capped],
        *,
        now: Callable[[], datetime] = local_time,
    ) -> None:
        self._limits, self._parts, self._now = limits, parts, now
        self._down, self._up = _Way(), _Way()
        self._caps = Caps()
        self._moved = Moved()

    async def run(self) -> None:
        """Hold the caps until cancelled; a node without any sleeps for good."""
        if not self._limits.can_cap:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        looked = moved_at = loop.time()
        while True:
            at = loop.time()
            if self.look(at - looked):
                moved_at = at
            looked = at
            await asyncio.sleep(METER_SECONDS if at - moved_at < REST_SECONDS else STILL_SECONDS)

    def look(self, elapsed_seconds: float) -> bool:
        """Measure and divide once; True when something has moved since the last look."""
        caps = cap_at(self._now(), self._limits)
        if caps != self._caps:
            log.info("caps.changed", download_bytes_per_second=caps.download, upload_bytes_per_second=caps.upload)
            self._caps = caps
        moved = {name: part.moved() for name, part in self._parts.items()}
        down = self._down.look(caps.download, {n: m.received for n, m in moved.items()}, elapsed_seconds)
        up = self._up.look(caps.upload, {n: m.sent for n, m in moved.items()}, elapsed_seconds)
        if down or up:
            self._tell()
        before, self._moved = self._moved, sum(moved.values(), start=Moved())
        return self._moved != before

    def share(self, part: str) -> int | None:
        """What *part* and all that is named `part/…` may receive now, in bytes per second; None: there is no cap."""
        shares = self._down.shares
        found = [share for name, share in shares.items() if name.partition("/")[0] == part]
        return sum(found) if found else None

    def _tell(self) -> None:
        for name, part in self._parts.items():
            part.limit(self._down.shares.get(name), self._up.shares.get(name))
