"""What must hold of the streams after any fault, and what is wrong with them.

FC_REGISTRY keeps every audit record, request record and fact for ever, of states only the newest. All of a decision has
sequences without a gap, which is how it is known what was written together.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.system.registry.storm import Told

from fleetcast.bus import Bus, Entry
from fleetcast.bus.streams import AUDIT, EVENTS, REGISTRY
from fleetcast.events.lifecycle import AUTHORITY_SUBJECT
from fleetcast.events.state import request_subject
from fleetcast.registry.rules import broken_links, link_of

COPIED_SECONDS = 60.0
"""Facts and audit records are copied with a delay; after an election, one of seconds."""
STATE, LOG, FACT = "fc.reg.state.", "fc.reg.log.", "fc.reg.fact."
TOLD_BY = {
    "version.reserved": {"version.reserved"},
    "slot.ordered": {"slot.ordered", "rollout.changed"},
    "slot.rolled_back": {"slot.ordered", "rollout.changed"},
    "rollout.withdrawn": {"rollout.changed"},
    "rollout.started": {"rollout.changed"},
    "rollout.verified": {"rollout.changed"},
    "rollout.baking": {"rollout.changed"},
    "rollout.halted": {"rollout.changed"},
    "rollout.resumed": {"rollout.changed"},
    "rollback.refused": {"rollout.changed"},
    "evidence.recorded": {"evidence.recorded"},
    "evaluation.recorded": {"evidence.recorded"},
    "stage.changed": {"stage.changed"},
    "promotion.refused": {"promotion.refused"},
    "trust.changed": {"trust.changed"},
}
"""Facts that a decision tells at the least."""


@dataclass(frozen=True)
class Decision:
    """An audit record, and what is still there of what was written before it since the decision before."""

    record: Mapping[str, Any]
    entry: Entry
    states: tuple[Entry, ...]
    facts: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return f"record {self.record['n']} of {self.record['model']} ({self.record['action']})"

    @property
    def generation(self) -> int:
        """Of the slot order that it made; 0: none."""
        return next((int(_data(f)["generation"]) for f in self.facts if _fact_name(f) == "slot.ordered"), 0)


@dataclass(frozen=True)
class Streams:
    """All that is stored."""

    registry: Sequence[Entry]
    audit: Sequence[Entry]
    events: Sequence[Entry]

    @property
    def records(self) -> list[Entry]:
        return [e for e in self.registry if e.subject.startswith(LOG)]


def _json(entry: Entry) -> Any:
    return json.loads(entry.data)


def _data(fact: Entry) -> Any:
    return _json(fact)["data"]


def _fact_name(fact: Entry) -> str:
    domain, event = fact.subject.removeprefix(FACT).split(".")[:2]
    return f"{domain}.{event}"


async def read_streams(bus: Bus) -> Streams:
    """Everything, once what is copied has been copied, or does not come."""
    deadline = asyncio.get_running_loop().time() + COPIED_SECONDS
    while True:
        registry = [e async for e in bus.tail(REGISTRY, ["fc.reg.>"])]
        audit = [e async for e in bus.tail(AUDIT, ["fc.reg.log.>"])]
        events = [e async for e in bus.tail(EVENTS, ["fc.ev.>"])]
        found = Streams(registry, audit, events)
        facts = {_json(e)["id"] for e in registry if e.subject.startswith(FACT)}
        copied = len(audit) >= len(found.records) and facts <= {_json(e)["id"] for e in events}
        # A state that is replaced while it is read, by a rollout that goes on, is neither there before nor after.
        still = [e.sequence for e in registry] == [e.sequence async for e in bus.tail(REGISTRY, ["fc.reg.>"])]
        if (copied and still) or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.2)


def problems(streams: Streams, told: Told) -> list[str]:
    """What is wrong; nothing: every decision is whole, in its place, and what clients were told is true."""
    decisions, rest = _decisions(streams.registry)
    return [
        *(f"{e.subject} belongs to no decision" for e in rest),
        *(problem for each in decisions for problem in _halves(each)),
        *_chains(streams),
        *_slots(streams, decisions),
        *_copies(streams),
        *_answers(decisions, told),
    ]


def _decisions(registry: Sequence[Entry]) -> tuple[list[Decision], list[Entry]]:
    """Decisions in order, and what belongs to none: a decision is states, a record and facts, without a gap."""
    decisions: list[Decision] = []
    waiting: list[Entry] = []
    rest: list[Entry] = []
    for entry in registry:
        if entry.subject == AUTHORITY_SUBJECT:
            continue
        if entry.subject.startswith(LOG):
            decisions.append(Decision(_json(entry), entry, tuple(waiting), ()))
            waiting = []
        elif not entry.subject.startswith(FACT):
            waiting.append(entry)
        elif decisions and not waiting and entry.sequence == _end(decisions[-1]) + 1:
            last = decisions[-1]
            decisions[-1] = Decision(last.record, last.entry, last.states, (*last.facts, entry))
        else:
            rest.append(entry)
    return decisions, [*rest, *waiting]


def _end(decision: Decision) -> int:
    return (decision.facts[-1] if decision.facts else decision.entry).sequence


def _halves(decision: Decision) -> Iterator[str]:
    """What is missing beside an audit record, or does not belong to it."""
    record, at = decision.record, decision.entry.sequence
    request = [e for e in decision.states if e.subject == request_subject(record["model"], record["request"])]
    # Between the two is the end of the chain, which only the newest decision still has.
    if [e.sequence for e in request] != [at - 2]:
        yield f"{decision.name} was written without the record of its request"
    elif _json(request[0])["answer"]["n"] != record["n"]:
        yield f"{decision.name}: its request was answered with record {_json(request[0])['answer']['n']}"
    missing = TOLD_BY.get(record["action"], set()) - {_fact_name(f) for f in decision.facts}
    if missing:
        yield f"{decision.name} was written without {', '.join(sorted(missing))}"
    for fact in decision.facts:
        if _data(fact).get("n", record["n"]) != record["n"] or _data(fact)["model"] != record["model"]:
            yield f"{decision.name} is followed by a fact of another one"
    for state in decision.states:
        if state.subject.split(".")[4] != record["model"]:
            yield f"{state.subject} was written with {decision.name}"


def _by_model(records: Sequence[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in records:
        found.setdefault(entry.subject.removeprefix(LOG).rpartition(".")[0], []).append(entry)
    return found


def _chains(streams: Streams) -> Iterator[str]:
    for model, entries in _by_model(streams.records).items():
        yield from (f"{model}: {problem}" for problem in broken_links(link_of(e.data) for e in entries))
        [end] = [_json(e)["n"] for e in streams.registry if e.subject == f"{STATE}chain.{model}"]
        if end != len(entries):
            yield f"{model}: the chain ends at {end}, {len(entries)} records are there"


def _slots(streams: Streams, decisions: Sequence[Decision]) -> Iterator[str]:
    slots = {e.subject.rpartition(".")[2]: e for e in streams.registry if e.subject.startswith(f"{STATE}slot.")}
    for model, entry in slots.items():
        orders = [d for d in decisions if d.record["model"] == model and d.generation]
        if [d.generation for d in orders] != list(range(1, len(orders) + 1)):
            yield f"{model}: the generations are {[d.generation for d in orders]}"
        if _json(entry)["generation"] != len(orders):
            yield f"{model} is at generation {_json(entry)['generation']}, {len(orders)} slot orders were told"
        elif orders[-1].record["after"] != _json(entry) or entry not in orders[-1].states:
            yield f"{model}: the slot is not what {orders[-1].name} wrote"


def _copies(streams: Streams) -> Iterator[str]:
    if [(e.subject, e.data) for e in streams.audit] != [(e.subject, e.data) for e in streams.records]:
        yield f"FC_AUDIT has {len(streams.audit)} records, the registry {len(streams.records)}, and they differ"
    facts = Counter(e.data for e in streams.registry if e.subject.startswith(FACT))
    events = Counter(e.data for e in streams.events if _json(e)["source"].endswith("/registry"))
    if facts != events:
        yield f"{(facts - events).total()} facts are not in FC_EVENTS, {(events - facts).total()} are there too often"


def _answers(decisions: Sequence[Decision], told: Told) -> Iterator[str]:
    """Where the history and what clients were told disagree."""
    found = Counter(d.record["request"] for d in decisions)
    yield from (f"request {request} was carried out {n} times" for request, n in found.items() if n > 1)
    numbers = {d.record["request"]: (d.record["model"], d.record["n"]) for d in decisions}
    for request, answer in told.answers.items():
        there = numbers.get(request)
        if answer.n and there != (answer.model, answer.n):
            yield f"request {request} was answered with record {answer.n} of {answer.model}, {there} is there"
        if not answer.n and request in numbers:
            yield f"request {request} was {answer.outcome} ({answer.message}), and carried out all the same"


def in_order(streams: Streams) -> bool:
    """Whether audit records of every model stand in the stream in the order of their numbers."""
    numbers = {model: [_json(e)["n"] for e in entries] for model, entries in _by_model(streams.records).items()}
    return all(a < b for each in numbers.values() for a, b in pairwise(each))
