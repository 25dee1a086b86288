"""When to try again: a pure decision, made in one place."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double up to a cap, with full jitter, so that many nodes do not return at the same moment.

    Source of the jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Attributes:
        base_seconds: upper end of the first delay.
        cap_seconds: upper end of every later delay.
        floor_ratio: lower end as a share of the upper end; 0 is full jitter.
    """

    base_seconds: float
    cap_seconds: float
    floor_ratio: float = 0.0

    def ceiling(self, attempt: int) -> float:
        """Upper end of the delay after *attempt* failures (1 is the first), in seconds."""
        # The exponent is bounded first: 2.0 ** 1100 overflows.
        return min(self.cap_seconds, self.base_seconds * 2.0 ** min(max(attempt, 1) - 1, 60))

    def delay(self, attempt: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds to wait after *attempt* failures."""
        high = self.ceiling(attempt)
        return uniform(high * self.floor_ratio, high)


PUBLISH = Backoff(base_seconds=0.05, cap_seconds=2.0)
DIAL = Backoff(base_seconds=0.1, cap_seconds=2.0, floor_ratio=0.5)
RESTART = Backoff(base_seconds=0.05, cap_seconds=5.0, floor_ratio=0.2)
CONFLICT = Backoff(base_seconds=0.005, cap_seconds=0.25)
