"""When whoever reads what comes asks the stream itself, and what has been missed then. Pure.

A consumer numbers what it delivers, so that a message lost in the middle is noticed at the next one. What is lost last
is not: the reader would wait for ever, and look idle. Silence is therefore held against the stream, now and then.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

OVERDUE_SECONDS = 5.0
"""How long a message may be in the stream, and nothing come, before the reader begins anew."""
SUBJECTS_AT_ONCE = 4
"""Asked about in one look; a reader of more subjects goes through them in turn."""


def floor_of(start: Mapping[str, Any]) -> int | None:
    """The sequence up to which a reader with this beginning (fields of its consumer) wants nothing; None: not known
    before its first message."""
    match start.get("deliver_policy"):
        case "all" | "last_per_subject":
            return 0
        case "by_start_sequence":
            return int(start["opt_start_seq"]) - 1
        case _:
            return None


class Lookout:
    """What one reader has heard of its subjects, and what it should have."""

    def __init__(
        self,
        subjects: Sequence[str],
        floor: int | None,
        every_seconds: float,
        *,
        now: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._subjects = tuple(subjects) or (">",)
        self._heard = floor
        self._every_seconds = every_seconds
        self._uniform = uniform
        self._overdue = 0
        self._turn = 0
        self._plan(now)

    def _plan(self, now: float) -> None:
        # Jittered: nodes that began together must not ask together for ever.
        self._look_at = now + self._every_seconds * self._uniform(0.75, 1.25)

    @property
    def overdue(self) -> int:
        """Sequence of a message that is stored and did not come; 0: none is known of."""
        return self._overdue if self._heard is not None and self._overdue > self._heard else 0

    def hear(self, sequence: int) -> None:
        """A message came."""
        self._heard = max(self._heard or 0, sequence)

    def patience_seconds(self, now: float) -> float:
        """How long to wait for the next message before the stream is asked, or given up on what is overdue."""
        return OVERDUE_SECONDS if self.overdue else max(self._look_at - now, 0.0)

    def questions(self) -> list[dict[str, Any]]:
        """What to ask now: requests for the first message behind the newest that was heard."""
        if self._heard is None:
            return []
        count = min(SUBJECTS_AT_ONCE, len(self._subjects))
        asked = [self._subjects[(self._turn + n) % len(self._subjects)] for n in range(count)]
        self._turn = (self._turn + count) % len(self._subjects)
        return [{"seq": self._heard + 1, "next_by_subj": subject} for subject in asked]

    def answer(self, found: Sequence[int], now: float) -> None:
        """Take the sequences that the stream has."""
        self._overdue = max(found, default=0)
        self._plan(now)
