"""The judges of the models that are ours, and what they are given. Everything here is quick and waits for nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from fleetcast.bus import Entry
from fleetcast.daemons.monitor.consequences import Retired, SignalKey, key_of
from fleetcast.daemons.monitor.judge import Judge
from fleetcast.daemons.monitor.minutes import MinuteWriter
from fleetcast.daemons.monitor.policy import Policy
from fleetcast.daemons.monitor.refusing import PREFIX, Refusals
from fleetcast.daemons.monitor.shards import shard_of
from fleetcast.daemons.monitor.surroundings import Surroundings
from fleetcast.daemons.monitor.telling import News
from fleetcast.daemons.monitor.verdicts import VerdictEvent
from fleetcast.events.lifecycle import Facts
from fleetcast.events.performance import SnapshotInvalid, parse_snapshot
from fleetcast.events.state import SlotState
from fleetcast.events.verdicts import ModelVerdicts

MODELS: Final = 50_000
"""Models whose shard is remembered."""
UNKNOWN_MODELS: Final = 1000

_shard = lru_cache(maxsize=MODELS)(shard_of)


@dataclass(slots=True)
class Shard:
    """The judges of one shard.

    Attributes:
        position: sequence of FC_PERF up to which they have judged.
        since: stream time from which on they have seen everything.
        live: whether they follow the stream; until then a replay gives them what they missed, and nothing is said.
        unknown: snapshots of models without slots.
    """

    number: int
    since: float
    position: int = 0
    live: bool = False
    judges: dict[str, Judge] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    refused: dict[tuple[str, str], int] = field(default_factory=dict)
    dropped: dict[tuple[str, str], int] = field(default_factory=dict)
    kept: dict[tuple[str, SignalKey], VerdictEvent] = field(default_factory=dict)


class Judging:
    """Gives snapshots, orders and the time to the judges.

    Args:
        tell: called with what is to be said of a model.
    """

    def __init__(
        self,
        policy: Policy,
        surroundings: Surroundings,
        refusals: Refusals,
        minutes: MinuteWriter,
        tell: Callable[[str, Iterable[News]], None],
    ) -> None:
        self.policy = policy
        self._around = surroundings
        self._refusals = refusals
        self._minutes = minutes
        self._tell = tell
        self._shards: dict[int, Shard] = {}
        self.snapshots = 0
        self.last_at: datetime | None = None

    # -- shards

    def begin(self, number: int, since: float) -> Shard:
        """Begin with a shard whose snapshots are replayed from *since* on."""
        shard = Shard(number, since)
        self._shards[number] = shard
        return shard

    def go_live(self, shard: Shard, position: int, said: Mapping[str, ModelVerdicts]) -> None:
        """The replay is over, up to a sequence: say what is news by now, and follow the stream from there."""
        shard.live = True
        shard.position = position
        latest: dict[str, list[News]] = {}
        for (model, _), event in shard.kept.items():
            latest.setdefault(model, []).append(event)
        shard.kept.clear()
        for model, known in said.items():
            latest.setdefault(model, []).extend(self._gone(known))
            if known.said and model not in shard.judges:
                # Of which something was said, and nothing came since: that is for the next tick to say.
                self._new_judge(shard, model)
        for model, news in latest.items():
            self._tell(model, news)

    def end(self, number: int) -> None:
        """The shard is another's."""
        self._shards.pop(number, None)

    def live(self, number: int) -> bool:
        """Whether a shard is judged here, now."""
        shard = self._shards.get(number)
        return shard is not None and shard.live

    @property
    def live_shards(self) -> frozenset[int]:
        """The shards that are judged here, now."""
        return frozenset(number for number, shard in self._shards.items() if shard.live)

    def is_judged(self, model: str) -> bool:
        """Whether a model is ours to judge, now."""
        return self.live(_shard(model))

    @property
    def models(self) -> int:
        """How many models are judged here."""
        return sum(len(shard.judges) for shard in self._shards.values())

    def judge(self, model: str) -> Judge | None:
        """The judge of a model; None: it has none here."""
        shard = self._shards.get(_shard(model))
        return shard.judges.get(model) if shard is not None and shard.live else None

    def judged(self) -> Iterator[tuple[str, Judge]]:
        """All models that are judged here, with their judges."""
        return (
            (model, judge) for shard in self._shards.values() if shard.live for model, judge in shard.judges.items()
        )

    def refused(self, model: str) -> dict[str, int]:
        """Snapshots of a model that were not counted, by reason."""
        shard = self._shards.get(_shard(model))
        judge = self.judge(model)
        found = dict(judge.dropped) if judge is not None else {}
        if shard is not None:
            found |= {reason: count for (whose, reason), count in shard.refused.items() if whose == model}
        if model in self._refusals.counts:
            found["invalid"] = self._refusals.counts[model]
        return found

    # -- what they are given

    def take(self, entries: Iterable[Entry]) -> None:
        """Snapshots as they come."""
        for entry in entries:
            model = entry.subject[len(PREFIX) :]
            shard = self._shards.get(_shard(model))
            if shard is not None and shard.live and entry.sequence > shard.position:
                self.last_at = entry.time
                events = self._judged(shard, model, entry)
                if events:
                    self._tell(model, events)

    def replay(self, shards: Mapping[int, Shard], entries: Iterable[Entry]) -> None:
        """Snapshots as they came; nothing is said of them until the shard is live."""
        for entry in entries:
            model = entry.subject[len(PREFIX) :]
            shard = shards.get(_shard(model))
            if shard is not None:
                for event in self._judged(shard, model, entry):
                    shard.kept[model, key_of(event)] = event

    def _judged(self, shard: Shard, model: str, entry: Entry) -> list[VerdictEvent]:
        judge = shard.judges.get(model) or self._new_judge(shard, model)
        if judge is None:
            self._unknown(shard, model, entry)
            return []
        try:
            snapshot = parse_snapshot(
                entry.data,
                stored_at=entry.time,
                subject=entry.subject,
                headers=entry.headers,
                sequence=entry.sequence,
            )
        except SnapshotInvalid as fault:
            self._refusals.invalid(entry, fault)
            return []
        self.snapshots += 1
        if self._elsewhere(model, snapshot.version, snapshot.node):
            key = (model, "not_served_there")
            shard.refused[key] = shard.refused.get(key, 0) + 1
            return []
        return judge.take(snapshot)

    def _elsewhere(self, model: str, version: str, node: str) -> bool:
        """Whether a node says that it serves other versions of a model, by the newest order."""
        serving = self._around.serving(node, model)
        if serving is None or version in serving.versions:
            return False
        slot = self._around.slots.get(model)
        return slot is not None and serving.generation >= slot.generation and _is_slotted(slot, version)

    def _unknown(self, shard: Shard, model: str, entry: Entry) -> None:
        if model in shard.unknown or len(shard.unknown) < UNKNOWN_MODELS:
            shard.unknown[model] = shard.unknown.get(model, 0) + 1
            self._refusals.not_counted(model, "unknown_model", 1, entry)

    def _new_judge(self, shard: Shard, model: str) -> Judge | None:
        slot = self._around.slots.get(model)
        if slot is None:
            return None
        judge = Judge(self.policy.for_model(model), model)
        shard.judges[model] = judge
        # An order from within the replay starts the warm-up where it was given: what came before it is not judged.
        judge.order(slot, max(shard.since, self._around.slotted_at[model]))
        for version in _versions(slot):
            judge.expect(version, self._around.facts(model, version))
        return judge

    # -- orders, facts, time

    def order(self, slot: SlotState) -> None:
        """A slot order is new."""
        at = self._around.slotted_at[slot.model]
        shard = self._shards.get(_shard(slot.model))
        judge = shard.judges.get(slot.model) if shard is not None else None
        if shard is None or judge is None:
            return
        judge.order(slot, at)
        for version in _versions(slot):
            judge.expect(version, self._around.facts(slot.model, version))

    def retire(self, known: ModelVerdicts) -> None:
        """Of a model whose slots changed: say what is over with the versions that left."""
        self._tell(known.model, self._gone(known))

    def _gone(self, known: ModelVerdicts) -> list[News]:
        slot = self._around.slots.get(known.model)
        if slot is None:
            return []
        gone = sorted({said.version for said in known.said if not _is_slotted(slot, said.version)})
        return [
            Retired(each, f"{known.model}@{each} is not served any more, since generation {slot.generation}")
            for each in gone
        ]

    def learn(self, model: str, version: str, facts: Facts) -> None:
        """What is said of a version is known now, or changed."""
        shard = self._shards.get(_shard(model))
        if shard is not None and (judge := shard.judges.get(model)) is not None:
            judge.expect(version, facts)

    def tick(self, stream_time: float, number: int | None = None) -> None:
        """Time went on, for one shard or for all."""
        for shard in self._shards.values():
            if shard.live and number in {None, shard.number}:
                self._tick(shard, stream_time)

    def _tick(self, shard: Shard, stream_time: float) -> None:
        for model, judge in list(shard.judges.items()):
            events = judge.tick(stream_time)
            if events:
                self._tell(model, events)
            self._minutes.put(judge.minutes())
            self._name_dropped(shard, model, judge)

    def _name_dropped(self, shard: Shard, model: str, judge: Judge) -> None:
        counts = {str(reason): count for reason, count in judge.dropped.items()}
        counts["not_served_there"] = shard.refused.get((model, "not_served_there"), 0)
        for reason, count in counts.items():
            known = shard.dropped.get((model, reason), 0)
            if count > known:
                shard.dropped[model, reason] = count
                self._refusals.not_counted(model, reason, count - known)


def _versions(slot: SlotState) -> tuple[str, ...]:
    return tuple(each.version for each in (slot.production, slot.canary) if each is not None)


def _is_slotted(slot: SlotState, version: str) -> bool:
    return version in _versions(slot)
