"""What a part of the node has to offer so that the caps of the node hold for it (ADR 0017)."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

CATCH_UP_SECONDS = 0.1
"""What a late wake-up may make good for: less and a busy machine stays below its cap, more and it sends in bursts."""
SLICE_SECONDS = 0.05
LEAST_SLICE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes received from and sent to other nodes since the start: what is in the streams, without headers below."""

    received: int = 0
    sent: int = 0

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(self.received + other.received, self.sent + other.sent)


class Capped(Protocol):
    """A part that moves bytes and obeys a cap."""

    def moved(self) -> Moved:
        """How much has moved; only ever grows."""

    def limit(self, download: int | None, upload: int | None) -> None:
        """Move so many bytes per second at most, each way, from now on; None: no cap. Must return at once."""


@dataclass(frozen=True, slots=True)
class Receiving:
    """A part that only receives: how much it has counted, and how it is told its cap."""

    count: Callable[[], int]
    cap: Callable[[int | None], None]

    def moved(self) -> Moved:
        return Moved(received=self.count())

    def limit(self, download: int | None, upload: int | None) -> None:
        del upload
        self.cap(download)


@dataclass(frozen=True, slots=True)
class Sending:
    """A part that only sends."""

    count: Callable[[], int]
    cap: Callable[[int | None], None]

    def moved(self) -> Moved:
        return Moved(sent=self.count())

    def limit(self, download: int | None, upload: int | None) -> None:
        del download
        self.cap(upload)


class Pacer:
    """Lets many senders of one event loop share a rate, in the order in which they ask."""

    def __init__(self) -> None:
        self._rate: int | None = None
        self._next = 0.0
        self._turn, self._changed = asyncio.Lock(), asyncio.Event()

    def limit(self, bytes_per_second: int | None) -> None:
        """Let so much through from now on; None: everything, at once."""
        now = time.monotonic()
        if self._rate and bytes_per_second:
            # What is owed is owed in bytes.
            self._next = now + (self._next - now) * self._rate / bytes_per_second
        elif bytes_per_second:
            self._next = now
        self._rate = bytes_per_second
        self._changed.set()

    def slice_bytes(self, most: int) -> int:
        """How much to send at once so that senders take turns."""
        return most if self._rate is None else max(LEAST_SLICE_BYTES, min(most, int(self._rate * SLICE_SECONDS)))

    async def take(self, count: int) -> None:
        """Wait until *count* more bytes may be sent."""
        if self._rate is None:
            return
        async with self._turn:
            while self._rate and (wait := self._next - time.monotonic()) > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
            if self._rate:
                self._next = max(self._next, time.monotonic() - CATCH_UP_SECONDS) + count / self._rate
