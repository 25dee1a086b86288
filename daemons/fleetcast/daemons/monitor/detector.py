"""Whether the share of bad requests is over a limit: one trigger's counts, and what they allow to be said.

Bad can be a failed request, one out of distribution, one that was too slow, or a vote of a report without counts.
Counts may be fractions (a ratio times a number of requests): sums of values between 0 and 1 scatter less than coins of
the same mean, so that bounds for coins hold for them (Hoeffding 1956); they are rounded down where they accuse.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from fleetcast.daemons.monitor.budget import CLEAR_CONFIDENCE, CONFIDENCE, LOOK_SECONDS, Plan
from fleetcast.events.incidents import Verdict
from fleetcast.registry.gates.bounds import chance_of_at_least, lower_bound, upper_bound

MEMORY_WINDOWS: Final = 6
"""Windows over which a trigger with little traffic collects until it can say `ok`."""
FEWEST: Final = 10
"""Requests in all of them below which `ok` becomes `insufficient` again."""
_NEAR: Final = 8.0
"""The tail of a binomial is at most e^-(n KL) and not much smaller: what misses by this many powers of e is not worth
computing exactly."""
_CRUMB: Final = 1e-6
"""What adding up fractions may be off."""


@dataclass(slots=True)
class Tally:
    """Bad requests among all, since a moment in minutes of the epoch."""

    minute: int
    requests: float = 0.0
    bad: float = 0.0

    @property
    def share(self) -> float:
        return self.bad / self.requests if self.requests else 0.0

    def lower(self, confidence: float = CONFIDENCE) -> float:
        """Bound that the true share lies above."""
        count = round(self.requests)
        return lower_bound(min(count, math.floor(self.bad + _CRUMB)), count, confidence) if count else 0.0

    def upper(self, confidence: float = CLEAR_CONFIDENCE) -> float:
        """Bound that the true share lies below."""
        count = round(self.requests)
        return upper_bound(min(count, math.ceil(self.bad - _CRUMB)), count, confidence) if count else 1.0

    def is_below(self, share: float, confidence: float = CLEAR_CONFIDENCE) -> bool:
        """Whether the upper bound is below a share, without computing it."""
        count, bad = round(self.requests), math.ceil(self.bad - _CRUMB)
        return bad < count and chance_of_at_least(bad + 1, count, share) >= confidence


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an alarm rests on.

    Attributes:
        path: `e_process` or `exact`.
        tally: the counts that decided.
        value: logarithm of the e-process, or of the tail probability; `threshold` is what it was compared with.
    """

    path: str
    tally: Tally
    value: float
    threshold: float


class Detector:
    """One trigger over one stream of counts.

    Attributes:
        verdict: ok, breach or insufficient.
        alarm: of the breach that lasts; None: there is none.
    """

    __slots__ = (
        "_block",
        "_good",
        "_good_since",
        "_hours",
        "_look",
        "_minute",
        "_minutes",
        "_runs",
        "_steps",
        "_total",
        "_total_bad",
        "alarm",
        "clear_windows",
        "plan",
        "verdict",
    )

    def __init__(self, plan: Plan, clear_windows: int) -> None:
        self.plan = plan
        self.clear_windows = clear_windows
        self.verdict = Verdict.INSUFFICIENT
        self.alarm: Alarm | None = None
        self._minutes: deque[Tally] = deque()
        self._hours: deque[Tally] = deque()
        self._minute = -1
        self._look = -1
        self._total = self._total_bad = 0.0
        # Per alternative: logarithm of the e-process, and minute and totals where it began.
        self._runs = [[0.0, -1.0, 0.0, 0.0] for _ in plan.alternatives]
        self._steps = tuple(
            (run, each.bad, each.good, each.threshold) for run, each in zip(self._runs, plan.alternatives, strict=True)
        )
        self._block: Tally | None = None
        self._good = 0
        self._good_since = 0

    # -- counting

    def take(self, stream_time: float, requests: float, bad: float) -> bool:
        """Count; whether the verdict changed."""
        before = self.verdict
        minute = int(stream_time // 60)
        if minute > self._minute:
            self._begin(minute)
        tally = self._minutes[-1]
        tally.requests += requests
        tally.bad += bad
        self._total += requests
        self._total_bad += bad
        if self._block is not None:
            self._block.requests += requests
            self._block.bad += bad
        else:
            self._judge(requests, bad, stream_time)
        return self.verdict is not before

    def tick(self, minute: int) -> bool:
        """A minute began, with or without snapshots; whether the verdict changed."""
        if self._minute < 0 or minute <= self._minute:
            return False
        before = self.verdict
        self._begin(minute)
        return self.verdict is not before

    def _begin(self, minute: int) -> None:
        """Close the minute before, and begin one."""
        if self._minute >= 0:
            self._close()
        self._forget(minute)
        self._minutes.append(Tally(minute))
        self._minute = minute
        for run in self._runs:
            if run[0] <= 0:
                run[:] = (0.0, minute, self._total, self._total_bad)

    def _forget(self, minute: int) -> None:
        length = self.plan.windows[-1]
        while self._minutes and self._minutes[0].minute <= minute - length:
            old = self._minutes.popleft()
            start = old.minute - old.minute % length
            if not self._hours or self._hours[-1].minute != start:
                self._hours.append(Tally(start))
            self._hours[-1].requests += old.requests
            self._hours[-1].bad += old.bad
        while self._hours and self._hours[0].minute <= minute - length * (MEMORY_WINDOWS + 1):
            self._hours.popleft()

    # -- deciding

    def _judge(self, requests: float, bad: float, stream_time: float) -> None:
        good = requests - bad
        for run, up, down, threshold in self._steps:
            value = run[0] = run[0] + bad * up + good * down
            if value >= threshold:
                tally = Tally(int(run[1]), self._total - run[2], self._total_bad - run[3])
                self._breach(Alarm("e_process", tally, value, threshold))
                return
        look = int(stream_time // LOOK_SECONDS)
        if look != self._look:
            self._look = look
            alarm = self._exact()
            if alarm is not None:
                self._breach(alarm)

    def _exact(self) -> Alarm | None:
        for window in self.plan.windows:
            tally = self.last(window)
            chance = chance_if_healthy(self.plan, tally)
            if chance is not None:
                return Alarm("exact", tally, math.log(max(chance, 1e-300)), math.log(self.plan.alpha))
        return None

    def accuse(self, alarm: Alarm) -> None:
        """A breach that was found elsewhere, in counts of which these are a part."""
        if self.alarm is None:
            self._breach(alarm)

    def _breach(self, alarm: Alarm) -> None:
        self.verdict = Verdict.BREACH
        self.alarm = alarm
        self._good = 0
        self._block = Tally(self._minute)

    def _close(self) -> None:
        """A minute is over: is a breach over, is there enough to say `ok`?"""
        if self._block is not None:
            self._close_block(self._block)
            return
        if self.last(self.plan.windows[-1]).is_below(self.plan.ruled_out):
            self.verdict = Verdict.OK
            return
        remembered = self.remembered()
        if remembered.is_below(self.plan.ruled_out):
            self.verdict = Verdict.OK
        elif remembered.requests < FEWEST:
            self.verdict = Verdict.INSUFFICIENT

    def _close_block(self, block: Tally) -> None:
        """Hysteresis: windows that do not overlap, each as long as it takes to tell."""
        if block.requests <= 0:
            return
        if block.is_below(self.plan.healthy):
            if not self._good:
                self._good_since = block.minute
            self._good += 1
            self._block = Tally(self._minute + 1)
            if self._good >= self.clear_windows:
                self._end_breach()
        elif block.share > self.plan.healthy and self._minute - block.minute >= self.plan.windows[-1] - 1:
            self._good = 0
            self._block = Tally(self._minute + 1)

    def _end_breach(self) -> None:
        self.verdict = Verdict.OK
        self.alarm = None
        self._block = None
        # What the breach was made of must not make another one.
        while self._minutes and self._minutes[0].minute < self._good_since:
            self._minutes.popleft()
        self._hours.clear()
        for run in self._runs:
            run[0] = 0.0

    # -- asked

    def last(self, minutes: int) -> Tally:
        """The last so many minutes, the running one among them."""
        oldest = self._minute - minutes + 1
        made = Tally(max(self._minute, oldest))
        for tally in reversed(self._minutes):
            if tally.minute < oldest:
                break
            made.minute = tally.minute
            made.requests += tally.requests
            made.bad += tally.bad
        return made

    def remembered(self) -> Tally:
        """All that is remembered."""
        made = self.last(self.plan.windows[-1])
        for tally in self._hours:
            made.minute = min(made.minute, tally.minute)
            made.requests += tally.requests
            made.bad += tally.bad
        return made

    def since(self, minute: int) -> Tally:
        """From a minute on, as far back as is remembered by the minute."""
        return self.last(min(self.plan.windows[-1], self._minute - minute + 1))

    @property
    def totals(self) -> tuple[float, float]:
        """All requests that were ever counted, and the bad ones among them: for differences."""
        return self._total, self._total_bad

    def after(self, totals: tuple[float, float]) -> Tally:
        """What was counted since these totals."""
        return Tally(self._minute, self._total - totals[0], self._total_bad - totals[1])

    @property
    def tally(self) -> Tally:
        """The longest window; of a breach that began before it, what was counted since then."""
        window = self.last(self.plan.windows[-1])
        return window if self.alarm is None or self.alarm.tally.minute >= window.minute else self.alarm.tally

    @property
    def good_windows(self) -> int:
        """Windows after another that were shown to be healthy, in a breach."""
        return self._good

    @property
    def e_value(self) -> float:
        """Greatest logarithm of the e-processes, as a share of its threshold: 1 is an alarm."""
        return max(run[0] / each.threshold for run, each in zip(self._runs, self.plan.alternatives, strict=True))


def chance_if_healthy(plan: Plan, tally: Tally) -> float | None:
    """The exact path: chance of as many bad requests if it were healthy; None: that is no alarm."""
    count, bad = round(tally.requests), math.floor(tally.bad + _CRUMB)
    if tally.share <= plan.limit or not 0 < bad <= count:
        return None
    if count * divergence(bad / count, plan.healthy) < -math.log(plan.alpha) - _NEAR:
        return None
    chance = chance_of_at_least(bad, count, plan.healthy)
    if chance > plan.alpha or chance_of_at_least(bad, count, plan.limit) > plan.alpha_at_limit:
        return None
    return chance


def divergence(share: float, rate: float) -> float:
    """KL divergence of one coin from another, in nats."""
    first = share * math.log(share / rate) if share > 0 else 0.0
    second = (1 - share) * math.log((1 - share) / (1 - rate)) if share < 1 else 0.0
    return first + second
