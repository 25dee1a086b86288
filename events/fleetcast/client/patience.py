"""Waiting for a disk, but not for ever: a job goes on when the disk takes long, and what it said becomes durable when
the disk gets to it."""

import os
import threading

SYNC_SECONDS = 1.0
"""How long one event may hold a job for the disk. An idle disk takes 0.4 to 4 ms; one that writes a checkpoint back
takes seconds, and one that hangs takes all the time there is."""


class PatientSync:
    """Makes files durable within a bounded time. One per spool writer, whose lock it is called under.

    While an earlier call still waits for the disk no further one does: what is written meanwhile lies in the page
    cache, where the death of the job cannot harm it, only that of the machine.

    Attributes:
        seconds: the bound.
        late: how often it was reached.
    """

    def __init__(self, seconds: float = SYNC_SECONDS) -> None:
        self.seconds = seconds
        self.late = 0
        self._waiting: _Wait | None = None

    def __call__(self, descriptor: int) -> None:
        """Wait until the disk has *descriptor*'s file, or until the bound.

        Raises:
            OSError: the disk failed.
        """
        if self._waiting is not None and not self._waiting.done:
            self.late += 1
            return
        self._waiting = _Wait(descriptor)
        try:
            self._waiting.start()
        except RuntimeError:
            # The interpreter ends, or the machine has no thread left: the page cache must do.
            self._waiting.give_up()
        else:
            self._waiting.join(self.seconds)
        self.late += not self._waiting.done
        if self._waiting.error is not None:
            raise self._waiting.error

    def after_fork(self) -> None:
        """In the child: the thread stayed in the parent, but not its descriptor, which holds the segment's lock."""
        if self._waiting is not None and not self._waiting.done:
            self._waiting.give_up()
        self._waiting = None


class _Wait(threading.Thread):
    """One call to the disk, on a descriptor of its own: the writer may close its own meanwhile, and somebody else be
    given the number."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="fleetcast-sync", daemon=True)
        self._descriptor = os.dup(descriptor)
        self.done = False
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self.error = error
        self.give_up()
        self.done = True

    def give_up(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
