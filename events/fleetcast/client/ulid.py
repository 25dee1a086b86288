"""ULIDs (https://github.com/ulid/spec) from the standard library alone."""

import os
import threading
import time

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]

_LOW_MAX = 2**20 - 1


def crockford(number: int, width: int) -> str:
    """*number* as *width* digits of Crockford's base 32, most significant first; *width* is even."""
    # Two digits at a time: an id costs 1 us instead of 4, of the 10 that a training job may lose to an event.
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(5 * width - 10, -1, -10)])


class UlidFactory:
    """Makes ULIDs that grow strictly within one process (monotonic form); safe in threads, signal handlers and forks.

    The random part is drawn once and counts up by one with every id, in every millisecond and not only within one:
    just as unique and as ordered, and four of its sixteen digits are all that has to be written anew.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was made. A child after fork must: it would go on with the very numbers of its parent."""
        # Re-entrant: a signal handler may emit while its own thread makes an id.
        self._lock = threading.RLock()
        self._last_ms = 0
        self._block = -1
        self._block_text = ""
        self._draw()

    def __call__(self, now_ms: int | None = None) -> str:
        """A fresh ULID: 26 characters, sortable by time. *now_ms*: milliseconds since the epoch, default now."""
        ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        with self._lock:
            if ms < self._last_ms:
                ms = self._last_ms
            self._last_ms = ms
            if ms >> 10 != self._block:
                self._block = ms >> 10
                self._block_text = crockford(self._block, 8)
            self._low += 1
            if self._low > _LOW_MAX:
                self._draw(self._high + 1)
            low = self._low
            return f"{self._block_text}{_PAIRS[ms & 1023]}{self._high_text}{_PAIRS[low >> 10]}{_PAIRS[low & 1023]}"

    def _draw(self, high: int | None = None) -> None:
        """Begin the count: at a random number with room to grow, or at the next *high* part."""
        self._high = int.from_bytes(os.urandom(8), "big") >> 5 if high is None else high
        self._low = int.from_bytes(os.urandom(2), "big") if high is None else 0
        self._high_text = crockford(self._high, 12)


new_ulid = UlidFactory()
os.register_at_fork(after_in_child=new_ulid.reset)
