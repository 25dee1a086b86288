"""ULIDs (https://github.com/ulid/spec) from the standard library alone."""

import os
import threading
import time

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def crockford(number: int, width: int) -> str:
    """*number* as *width* digits of Crockford's base 32, most significant first."""
    digits = []
    for _ in range(width):
        digits.append(_CROCKFORD[number & 31])
        number >>= 5
    return "".join(reversed(digits))


class UlidFactory:
    """Makes ULIDs that grow strictly within one process (monotonic form); safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._last_random = 0

    def __call__(self, now_ms: int | None = None) -> str:
        """A fresh ULID: 26 characters, sortable by time. *now_ms*: milliseconds since the epoch, default now."""
        with self._lock:
            ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
            if ms <= self._last_ms:
                ms, number = self._last_ms, self._last_random + 1
            else:
                number = int.from_bytes(os.urandom(10), "big") >> 1
            self._last_ms, self._last_random = ms, number
        return crockford(ms, 10) + crockford(number, 16)


new_ulid = UlidFactory()
