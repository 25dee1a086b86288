"""The judge of one model: takes snapshots in the order of the stream, says verdicts. No clock, no input, no output."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from fleetcast.daemons.monitor.deciding import Deciding
from fleetcast.daemons.monitor.health import report
from fleetcast.daemons.monitor.policy import ModelPolicy
from fleetcast.daemons.monitor.verdicts import Dropped, HealthReport, VerdictEvent
from fleetcast.daemons.monitor.watch import VersionWatch
from fleetcast.events.lifecycle import Facts
from fleetcast.events.performance import Minute, Snapshot
from fleetcast.events.state import SlotEntry, SlotState

MOST_IDS: Final = 20_000
"""Ids that are remembered at most, twice over, to tell duplicates."""
ID_MINUTES: Final = 10
"""How long at least, unless there are more."""
FORMER: Final = 20


class Judge:
    """What is known of one model's performance, and what follows from it.

    All times are stream time in seconds of the epoch. The cost of a snapshot depends neither on how many came before
    nor on how many nodes there are; once a minute the nodes are looked at one by one.

    Attributes:
        policy: of the model.
        dropped: snapshots that were not counted, by reason (`Dropped`).
    """

    def __init__(self, policy: ModelPolicy, model: str = "") -> None:
        self.policy = policy
        self.model = model
        self.dropped: Counter[str] = Counter()
        self._slots: dict[str, Deciding] = {}
        self._artifacts: dict[str, str] = {}
        self._generation = 0
        self._former: dict[str, None] = {}
        self._facts: dict[str, Facts | None] = {}
        self._closed: list[Minute] = []
        self._minute = -1
        self._seen: set[str] = set()
        self._seen_before: set[str] = set()
        self._turned = 0

    # -- what it is given

    def take(self, snapshot: Snapshot) -> list[VerdictEvent]:
        """Count a snapshot, or drop it with a reason that is counted."""
        deciding = self._slotted(snapshot.version)
        reason = self._refusal(snapshot) if deciding is not None else self._unknown(snapshot.version)
        if reason is not None or deciding is None:
            self.dropped[reason or Dropped.UNKNOWN_VERSION] += 1
            return []
        minute = max(self._minute, int(snapshot.stored_at // 60))
        events = self._begin(minute, snapshot.stored_at) if minute > self._minute else []
        if deciding.watch.take(snapshot, minute) or deciding.watch.stale:
            deciding.watch.stale = False
            events += deciding.decide(self._other(deciding), snapshot.stored_at)
        return events + self._settle(snapshot.stored_at)

    def tick(self, stream_time: float) -> list[VerdictEvent]:
        """Time went on: says what is stale or over. To be called every few seconds."""
        minute = int(stream_time // 60)
        if minute > self._minute:
            return self._begin(minute, stream_time)
        events = self._settle(stream_time)
        for deciding in self._slots.values():
            watch = deciding.watch
            if watch.last_at and not watch.stale and stream_time - watch.last_at > watch.policy.stale_after_seconds:
                watch.stale = True
                events += deciding.decide(self._other(deciding), stream_time)
        return events

    def order(self, slots: SlotState, stream_time: float) -> list[VerdictEvent]:
        """A slot order holds. What was counted of a version that left its slot is void; one that came warms up."""
        self._generation = slots.generation
        self.model = slots.model
        entries: dict[str, SlotEntry | None] = {"production": slots.production, "canary": slots.canary}
        for entry in (slots.previous, *slots.former):
            if entry is not None:
                self._remember(entry.version)
        for slot, entry in entries.items():
            self._order(slot, entry, stream_time)
        return []

    def expect(self, version: str, facts: Facts | None) -> None:
        """What a version says of itself."""
        self._facts[version] = facts
        for deciding in self._slots.values():
            if deciding.watch.version == version:
                deciding.watch.expect(self.policy.for_version(version, facts))

    # -- what it is asked

    def minutes(self) -> list[Minute]:
        """Minutes that were closed since it was last asked."""
        closed, self._closed = self._closed, []
        return closed

    def health(self, window_minutes: int | None = None) -> HealthReport:
        """How the model stands; *window_minutes*: of the numbers, at most the policy's window."""
        minutes = min(window_minutes or self.policy.window_minutes, self.policy.window_minutes)
        return report(self.model, self._generation, self.policy, list(self._slots.values()), minutes, self.dropped)

    @property
    def deciding(self) -> tuple[Deciding, ...]:
        """What is judged: production and canary, where there are such."""
        return tuple(self._slots.values())

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions that are judged, by slot."""
        return {slot: deciding.watch.version for slot, deciding in self._slots.items()}

    # -- inside

    def _order(self, slot: str, entry: SlotEntry | None, stream_time: float) -> None:
        known = self._slots.get(slot)
        if entry is None or known is None or known.watch.version != entry.version:
            if known is not None:
                self._remember(known.watch.version)
                self._closed += known.watch.tick(self._minute + 1)
                del self._slots[slot]
        elif self._artifacts.get(slot) == entry.artifact:
            known.watch.generation = self._generation
            return
        if entry is not None:
            policy = self.policy.for_version(entry.version, self._facts.get(entry.version))
            watch = VersionWatch(
                self.model, entry.version, slot, since=stream_time, generation=self._generation, policy=policy
            )
            self._slots[slot] = Deciding(watch)
            self._artifacts[slot] = entry.artifact

    def _remember(self, version: str) -> None:
        self._former[version] = None
        while len(self._former) > FORMER:
            del self._former[next(iter(self._former))]

    def _slotted(self, version: str) -> Deciding | None:
        for deciding in self._slots.values():
            if deciding.watch.version == version:
                return deciding
        return None

    def _other(self, deciding: Deciding) -> VersionWatch | None:
        return next((each.watch for each in self._slots.values() if each is not deciding), None)

    def _unknown(self, version: str) -> Dropped:
        return Dropped.REPLACED if version in self._former else Dropped.UNKNOWN_VERSION

    def _refusal(self, snapshot: Snapshot) -> Dropped | None:
        if snapshot.time is not None:
            ahead = snapshot.time - snapshot.stored_at
            if abs(ahead) > self.policy.skew_seconds:
                return Dropped.FROM_THE_FUTURE if ahead > 0 else Dropped.FROM_THE_PAST
        if snapshot.id in self._seen or snapshot.id in self._seen_before:
            return Dropped.DUPLICATE
        if len(self._seen) >= MOST_IDS:
            self._turn()
        self._seen.add(snapshot.id)
        return None

    def _turn(self) -> None:
        self._seen_before, self._seen = self._seen, set()
        self._turned = self._minute

    def _settle(self, stream_time: float) -> list[VerdictEvent]:
        """Breaches that wait for others to report."""
        waiting = [deciding for deciding in self._slots.values() if deciding.settling and deciding.waits(stream_time)]
        return [event for each in waiting for event in each.decide(self._other(each), stream_time)]

    def _begin(self, minute: int, stream_time: float) -> list[VerdictEvent]:
        """Close the minute before, and say what follows from it."""
        self._minute = minute
        if minute - self._turned >= ID_MINUTES:
            self._turn()
        return [event for deciding in self._slots.values() for event in self._closing(deciding, minute, stream_time)]

    def _closing(self, deciding: Deciding, minute: int, stream_time: float) -> Iterator[VerdictEvent]:
        watch = deciding.watch
        self._closed += watch.tick(minute)
        if watch.last_at:
            watch.stale = stream_time - watch.last_at > watch.policy.stale_after_seconds
            yield from deciding.decide(self._other(deciding), stream_time)
