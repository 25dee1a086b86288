"""What aria2c is told under a cap, against its own limiter as its manual and its behaviour show it."""

from collections import deque
from dataclasses import dataclass, field

import pytest

from fleetcast.transport.aria2 import pace as module
from fleetcast.transport.aria2.pace import Pace

LIMIT = 1_000_000
LOOK_SECONDS = 0.25


@dataclass
class Limiter:
    """Looks once a second, and takes what it is below the limit over the last ten seconds; the first look is slow."""

    told: int = LIMIT
    received: int = 0
    slots: deque[tuple[float, int]] = field(default_factory=deque)

    def speed(self, now: float) -> int:
        while self.slots and now - self.slots[0][0] > 10:
            self.slots.popleft()
        if not self.slots:
            return 0
        return int(sum(count for _, count in self.slots) / max(0.001, now - self.slots[0][0]))

    def look(self, now: float, network: int) -> int:
        """Take what may be taken, *network* bytes at most; returns how many."""
        if not self.slots:
            taken = min(network, 128 * 1024)
        else:
            age = now - self.slots[0][0]
            taken = max(0, min(network, int((self.told - self.speed(now)) * age)))
        if taken or not self.slots:
            self.slots.append((now, taken))
        self.received += taken
        return taken


def seconds(count: int, network: int = 10 * LIMIT, *, paced: bool = True) -> list[int]:
    """Bytes taken in each second."""
    limiter, pace, taken = Limiter(), Pace(), []
    for second in range(count):
        taken.append(limiter.look(float(second), network))
        for part in range(1, round(1 / LOOK_SECONDS)):
            now = second + part * LOOK_SECONDS
            told = pace.told(LIMIT, limiter.received, limiter.speed(now), now)
            limiter.told = told if paced else LIMIT
    return taken


def test_every_second_but_the_first_has_what_the_cap_allows() -> None:
    taken = seconds(60)
    assert all(0.8 * LIMIT < one < 1.3 * LIMIT for one in taken[3:])
    assert sum(taken[3:]) == pytest.approx(57 * LIMIT, rel=0.03)


def test_broken_variant_that_tells_the_cap_and_nothing_else_has_a_second_without_a_byte() -> None:
    assert min(seconds(60, paced=False)[3:]) < 0.5 * LIMIT


def test_what_a_slow_network_did_not_bring_does_not_come_on_top_later() -> None:
    pace = Pace()
    for look in range(400):
        told = pace.told(LIMIT, int(look * LOOK_SECONDS * LIMIT / 10), LIMIT // 10, look * LOOK_SECONDS)
    assert told <= LIMIT // 10 + module.AHEAD_SECONDS * LIMIT / module.WINDOW_SECONDS


def test_nothing_is_never_told_for_it_would_mean_no_limit() -> None:
    pace = Pace()
    pace.told(LIMIT, 0, 1, 0.0)
    assert pace.told(LIMIT, 100 * LIMIT, 1, 0.25) == 1


def test_first_bytes_from_mirrors_that_keep_to_a_rate_are_not_held_up() -> None:
    pace = Pace(head_start_seconds=1.0)
    assert pace.backstop(LIMIT, 0, 0, 0.0) == 0
    assert pace.backstop(LIMIT, 100_000, 50 * LIMIT, 0.25) == 0
    assert pace.backstop(LIMIT, LIMIT, LIMIT, 1.25) > LIMIT


def test_mirrors_that_said_they_would_keep_to_a_rate_and_do_not_are_held_to_it() -> None:
    limiter, pace, taken = Limiter(), Pace(head_start_seconds=module.AHEAD_SECONDS), []
    for look in range(120):
        now = look * LOOK_SECONDS
        told = pace.backstop(LIMIT, limiter.received, limiter.speed(now), now)
        limiter.told = told or 1000 * LIMIT
        taken.append(limiter.look(now, LIMIT))
    assert sum(taken) < (30 + 2 * module.AHEAD_SECONDS + 1) * LIMIT
