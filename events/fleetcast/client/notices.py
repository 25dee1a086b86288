"""What the client says to the people behind a job: warnings through logging, losses on stderr; neither more often than
once a minute."""

import atexit
import contextlib
import os
import sys
import threading
import time

WARNING_INTERVAL_SECONDS = 60.0


class Notices:
    """One warning a minute, and one line about losses a minute; the others are counted.

    Attributes:
        lost: events of this process that nobody will ever see.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler of the job may emit while its main thread is inside.
        self._lock = threading.RLock()
        self._next = {"warning": 0.0, "loss": 0.0}
        self._silent = {"warning": 0, "loss": 0}
        self._pid = os.getpid()
        self.lost = 0

    def warn(self, text: str) -> None:
        """Say *text*, or count it."""
        more = self._due("warning")
        if more is not None:
            _log(f"fleetcast: {text}" + (f" ({more} more since the last warning)" if more else ""))

    def loss(self, reason: str) -> None:
        """Count an event that is lost, and say so. On stderr and not through logging: it stands beside the output of
        the job even where the job keeps its log elsewhere, perhaps on the very disk that is full."""
        self.lost += 1
        more = self._due("loss")
        if more is not None:
            _print(f"fleetcast: an event was lost: {reason}" + (f" ({more} more before it)" if more else ""))

    def at_exit(self) -> None:
        """Say how many were lost, unless that was said."""
        if self._silent["loss"] and self._pid == os.getpid():
            _print(f"fleetcast: {self.lost} events of this job were lost")
            self._silent["loss"] = 0

    def _due(self, kind: str) -> int | None:
        """How many were held back since the last one that was said; None: this one is held back."""
        with self._lock:
            now = time.monotonic()
            if now < self._next[kind]:
                self._silent[kind] += 1
                return None
            self._next[kind] = now + WARNING_INTERVAL_SECONDS
            more, self._silent[kind] = self._silent[kind], 0
            return more


def said(error: BaseException) -> str:
    """What *error* says, or its kind where it says nothing: it may be the job's own, with whatever text method."""
    try:
        return str(error) or error.__class__.__name__
    except Exception:
        return error.__class__.__name__


def _log(text: str) -> None:
    try:
        import logging  # 5 ms that a job without trouble does not pay

        logging.getLogger("fleetcast.client").warning(text)
    except Exception:  # noqa: S110 -- a broken handler of the job is not ours to report
        pass


def _print(text: str) -> None:
    with contextlib.suppress(Exception):  # a job may close its stderr
        print(text, file=sys.stderr, flush=True)


_current = [Notices()]


def warn(text: str) -> None:
    """Warn, at most once a minute."""
    _current[0].warn(text)


def loss(reason: str) -> None:
    """Count a lost event, and say so at most once a minute, and at the end."""
    _current[0].loss(reason)


def lost() -> int:
    """How many events of this process were lost: neither sent nor kept anywhere."""
    return _current[0].lost


def begin_anew() -> None:
    """Forget what was said and counted. A child after fork must: its parent's threads may have held the lock."""
    _current[0] = Notices()


def _at_exit() -> None:
    _current[0].at_exit()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=begin_anew)
