"""How much time the machine had for a fleet: two busy cores make a transfer slow, which is not a transfer that stalls.

A clock runs beside the fleet: it rests for a moment, does a bit of work, and begins anew. By how much a turn takes
longer than on an idle machine, the fleet waited for its turn as well.
"""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

REST_SECONDS = 0.05
WORK = bytes(512 * 1024)
"""What is hashed in every turn: about a millisecond of work, two hundredths of a core."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the clock: it rested from *began* to *woke*, and worked until *ended*."""

    began: float
    woke: float
    ended: float


def lost_seconds(turns: Sequence[Turn], began: float, ended: float) -> float:
    """How much of a time the machine was busy with other things. The quickest work says what an idle machine needs."""
    quickest = min((t.ended - t.woke for t in turns), default=0.0)
    total = 0.0
    for turn in turns:
        took = turn.ended - turn.began
        overlap = min(turn.ended, ended) - max(turn.began, began)
        if overlap > 0:
            total += max(0.0, took - REST_SECONDS - quickest) * overlap / took
    return total


@dataclass
class Machine:
    """What the clock has seen. Times are of the monotonic clock."""

    turns: list[Turn] = field(default_factory=list)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Let the clock run, in a thread: what the test does on its event loop does not hold it up."""
        ending = threading.Event()
        thread = threading.Thread(target=self._run, args=(ending,), name="watch the machine")
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def _run(self, ending: threading.Event) -> None:
        began = time.monotonic()
        over = False
        while not over:
            # The last turn counts as well, however short its rest: it may have begun long ago.
            over = ending.wait(REST_SECONDS)
            woke = time.monotonic()
            hashlib.sha256(WORK).digest()
            ended = time.monotonic()
            self.turns.append(Turn(began, woke, ended))
            began = ended

    def given(self, began: float, ended: float) -> float:
        """Seconds between two times that the machine had for the fleet."""
        return ended - began - lost_seconds(self.turns, began, ended)
