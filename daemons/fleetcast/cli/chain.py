"""The causal chain behind an event, as pure functions over events: what followed from what, how long after the first,
and how it ended. `fleetcast why` prints it; nothing here reads a stream."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleetcast.cli.narrate import sentence
from fleetcast.cli.units import duration
from fleetcast.events import payloads as p
from fleetcast.events.envelope import Event
from fleetcast.events.incidents import IncidentChanged, IncidentOpened


@dataclass(frozen=True)
class Link:
    """One event of a chain.

    Attributes:
        event: the event.
        after_seconds: how long after the chain's first event it was emitted; clocks of nodes may differ a little.
        depth: how many causes lie between it and the first one.
        asked: whether it is the one that was asked about.
    """

    event: Event
    after_seconds: float
    depth: int
    asked: bool = False

    @property
    def text(self) -> str:
        """`+0.42 s  transfer.started  …` below its cause."""
        mark = ">" if self.asked else " "
        return f"{mark} +{duration(max(0.0, self.after_seconds)):<9} {'  ' * self.depth}{sentence(self.event)}"

    def document(self) -> dict[str, object]:
        """The link in JSON."""
        return {
            "id": self.event.id,
            "type": self.event.type.name,
            "after_seconds": round(self.after_seconds, 3),
            "depth": self.depth,
            "source": self.event.source,
            "causationid": self.event.causationid,
            "text": sentence(self.event),
            "data": self.event.payload.model_dump(mode="json", exclude_none=True),
        }


@dataclass(frozen=True)
class Chain:
    """Everything that one cause set off.

    Attributes:
        correlationid: the id of that cause.
        links: in the order in which they happened.
        verdict: how it ended, one sentence each.
    """

    correlationid: str
    links: tuple[Link, ...]
    verdict: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """The chain in JSON."""
        return {
            "correlationid": self.correlationid,
            "links": [link.document() for link in self.links],
            "verdict": list(self.verdict),
        }


def chain(events: Iterable[Event], correlationid: str, *, asked: str | None = None) -> Chain | None:
    """The chain of *correlationid* among *events*; None: there is none.

    Events that were delivered twice count once. *asked* is the id that a person asked about.
    """
    once = {event.id: event for event in events if _belongs(event, correlationid)}
    if not once:
        return None
    ordered = sorted(once.values(), key=_order)
    start = ordered[0].time
    links = tuple(
        Link(event, (event.time - start).total_seconds(), _depth(event, once), event.id == asked) for event in ordered
    )
    return Chain(correlationid, links, verdict(ordered))


def verdict(events: Sequence[Event]) -> tuple[str, ...]:
    """How *events* of one chain ended: refusals with their next step, failures, and what is served where."""
    said = [*_refusals(events), *_failures(events), *_incidents(events), *_service(events)]
    return tuple(said) or ("nothing has followed from it yet",)


def _belongs(event: Event, correlationid: str) -> bool:
    # A refusal by somebody who could not read the event starts a correlation of its own, but names the event.
    rejected = isinstance(event.payload, p.EventRejected) and event.payload.event == correlationid
    return event.correlationid == correlationid or rejected


def _order(event: Event) -> tuple[int, float, str]:
    # The stream's order is the one that everybody agrees on; clocks decide only where there is no sequence.
    return (event.sequence or 0, event.time.timestamp(), event.id)


def _depth(event: Event, known: dict[str, Event]) -> int:
    depth, seen = 0, {event.id}
    while event.causationid in known and event.causationid not in seen:
        event = known[event.causationid]
        seen.add(event.id)
        depth += 1
    return depth


def _refusals(events: Sequence[Event]) -> list[str]:
    said = []
    for event in events:
        if isinstance(event.payload, p.EventRejected):
            winner = f" ({event.payload.winner} holds it)" if event.payload.winner else ""
            said.append(f"refused: {event.payload.reason}{winner}; next: {event.payload.next_step}")
    return said


def _failures(events: Sequence[Event]) -> list[str]:
    """Failed transfers that no later success on the same node made good."""
    open_failures: dict[tuple[str, str], str] = {}
    for event in events:
        if isinstance(event.payload, p.TransferFailed):
            told = f"{event.payload.node} has not got it: {event.payload.reason or 'no reason was given'}"
            open_failures[event.payload.node, event.payload.artifact] = told
        elif isinstance(event.payload, p.TransferVerified | p.VersionInstalled):
            open_failures.pop((event.payload.node, event.payload.artifact), None)
    return list(open_failures.values())


def _incidents(events: Sequence[Event]) -> list[str]:
    """Where each incident stands, and what it took."""
    newest = {e.payload.incident: e for e in events if isinstance(e.payload, IncidentOpened | IncidentChanged)}
    return [sentence(event) for event in newest.values()]


def _service(events: Sequence[Event]) -> list[str]:
    start = events[0].time
    installed = [e for e in events if isinstance(e.payload, p.VersionInstalled)]
    activated = [e for e in events if isinstance(e.payload, p.VersionActivated)]
    said = []
    for verb, group in (("installed", installed), ("serving", activated)):
        nodes = sorted(
            {e.payload.node for e in group if isinstance(e.payload, p.VersionInstalled | p.VersionActivated)}
        )
        if nodes:
            took = max((e.time - start).total_seconds() for e in group)
            said.append(f"{verb} on {', '.join(nodes)}; the last one {duration(max(0.0, took))} after the first event")
    return said
