"""The last resort: a shutdown that outlasts all its steps together ends the process, and says what was left."""

import os
import sys
import threading

import structlog

log = structlog.get_logger(__name__)

EXIT_CODE = 1
LOG_SECONDS = 1.0
"""How long the last log line may take: the stream itself may be what hangs."""


class LastResort:
    """Ends the process `seconds` after `arm()`. A thread of its own: a blocked event loop is one of its cases."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.left: list[str] = []
        """Names of tasks that did not obey their cancellation."""
        self._timer: threading.Timer | None = None

    def arm(self) -> None:
        """Start the countdown; a second call changes nothing."""
        if self._timer is None:
            self._timer = threading.Timer(self.seconds, self._fire)
            self._timer.name = "last-resort"
            self._timer.daemon = True
            self._timer.start()

    def disarm(self) -> None:
        """The shutdown is over."""
        if self._timer is not None:
            self._timer.cancel()

    def end_process(self, code: int) -> None:
        """End the process now, without waiting for tasks or threads."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)

    def _fire(self) -> None:
        writer = threading.Thread(target=self._tell, daemon=True)
        writer.start()
        writer.join(LOG_SECONDS)
        os._exit(EXIT_CODE)

    def _tell(self) -> None:
        threads = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
        log.critical("stop.killed", after_seconds=self.seconds, tasks=self.left, threads=threads)
