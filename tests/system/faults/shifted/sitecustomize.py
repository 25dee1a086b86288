"""Put on a daemon's PYTHONPATH by a test: SIGUSR2 moves the clock on the wall by FAULT_CLOCK_HOURS.

Only what Python asks moves, which is all that a distributor decides by. With FAULT_CLOCK_ALL the clock that must never
move does so too: the broken variant.
"""

import contextlib
import datetime
import os
import signal
import time

_SECONDS = 3600.0 * float(os.environ.get("FAULT_CLOCK_HOURS", "0"))
_real_time, _real_monotonic = time.time, time.monotonic
_shift = 0.0


def _jump(_number: int, _frame: object) -> None:
    global _shift  # noqa: PLW0603 (the one state of this module)
    _shift = _SECONDS


class _Moved(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Moved":
        return cls.fromtimestamp(_real_time() + _shift, tz)


if _SECONDS:
    time.time = lambda: _real_time() + _shift
    datetime.datetime = _Moved  # type: ignore[misc]
    if os.environ.get("FAULT_CLOCK_ALL"):
        time.monotonic = lambda: _real_monotonic() + _shift
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGUSR2, _jump)
