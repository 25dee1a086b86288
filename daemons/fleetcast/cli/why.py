"""`fleetcast why`: what happened to an event, a model, a node, a lane, a run or an incident, from the log alone; which
nodes may take a lane's run, a trainer says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from fleetcast.bus import Bus
from fleetcast.cli import history
from fleetcast.cli.call import Call
from fleetcast.cli.chain import Chain, chain
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.live import watched
from fleetcast.cli.narrate import line
from fleetcast.cli.narrate import sentence as told_event
from fleetcast.cli.output import Output
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.registry.reasons import decision_facts, version_facts
from fleetcast.cli.remedy.reasons import incident, incident_facts, incident_told, trouble
from fleetcast.cli.rungs import told
from fleetcast.cli.running import run_async
from fleetcast.cli.training.reasons import lane_facts, nodes_of, run_of, run_told
from fleetcast.cli.units import ago, clock, moment
from fleetcast.daemons.trainer.checkpoints.places import LINES as CHECKPOINTS
from fleetcast.events.envelope import Event
from fleetcast.events.ids import is_name
from fleetcast.events.incidents import IncidentState
from fleetcast.events.state import HookStatus, SlotState, TransferStatus
from fleetcast.registry.picture.nodes import NodeView, Rollout, Waiting, rollout
from fleetcast.registry.picture.pace import by_artifact, newest, slow_nodes

MIN_PREFIX = 6
"""Shortest start of an event id that is looked for: shorter ones match half the log."""
BEFORE_AN_INCIDENT = timedelta(hours=1)
NODE_EVENTS = 15
"""How many of a node's newest events are told."""
_OF_A_RUN = ("run.moved", "run.fault.recorded", "run.fallback", "run.returned", "run.node.allowed", "run.finished")
"""What tells of a run's way; its epochs and checkpoints would hide it."""


@dataclass(frozen=True)
class Answer:
    """What is known about the thing that was asked about.

    Attributes:
        about: what it is: `event`, `model`, `node`, `lane`, `run` or `incident`.
        name: its id.
        facts: what is the case now, one sentence each.
        chain: the chain behind it, if there is one.
        events: further events that matter.
    """

    about: str
    name: str
    facts: tuple[str, ...]
    chain: Chain | None = None
    events: tuple[Event, ...] = ()

    def document(self) -> dict[str, object]:
        """The answer in JSON."""
        return {
            "about": self.about,
            "name": self.name,
            "facts": list(self.facts),
            "chain": self.chain.document() if self.chain else None,
            "events": [{"id": e.id, "type": e.type.name, "text": line(e)} for e in self.events],
        }


def run(call: Call, what: str) -> Exit:
    """Explain *what*: a model, node, lane or run of that name, an incident, else an event whose id begins so."""
    answer = run_async(_answer(target(call), what))
    call.out.document(answer.document())
    _tell(call.out, answer)
    return Exit.OK


async def _answer(aim: Target, what: str) -> Answer:
    async with connected(aim) as bus, watched(bus, aim.settings.distributor.heartbeat_seconds) as fleet:
        slot = fleet.slot(what)
        if slot is not None:
            slow = slow_facts(what, fleet.transfers)
            facts = [*await decision_facts(bus, what), *slow, *await incident_facts(bus, what)]
            facts += await lane_facts(bus, what)
            return _with(await _about_model(bus, slot, fleet.nodes), facts)
        node = fleet.node(what)
        if node is not None:
            facts = [*slow_facts(what, fleet.transfers), *await incident_facts(bus, what)]
            return _with(await _about_node(bus, node, fleet.slots), facts)
        brought = await history.collect(bus, history.subjects(("distribution.ordered",), what)) if is_name(what) else []
        if brought:
            return await _about_distribution(bus, brought[-1], fleet.nodes)
        known = await incident(bus, what) if what.startswith("inc-") and is_name(what) else None
        if known is not None:
            return await _about_incident(bus, known)
        begun = await run_of(bus, what) if is_name(what) else None
        if begun is not None:
            trainers = fleet.attendants(("trainer",))["trainer"]
            return await _about_run(bus, what, run_told(begun, nodes_of(trainers, fleet.nodes)))
        lane = await _about_lane(bus, what)
        unserved = await _about_unserved(bus, what) if lane is None and is_name(what) else None
        return lane or unserved or await _about_event(bus, what)


async def _about_model(bus: Bus, slot: SlotState, nodes: Sequence[NodeView]) -> Answer:
    events = await history.collect(bus, history.subjects((), slot.model))
    cause = slot.cause.correlation
    first = next((event for event in events if event.correlationid == cause), None)
    found = await _whole_chain(bus, cause, first, None)
    facts = (*model_facts(slot, rollout(slot, nodes)), *transfer_facts(slot.model, nodes))
    return Answer("model", slot.model, facts, found, (*trouble(events, cause, NODE_EVENTS), *_refused(events, cause)))


async def _about_incident(bus: Bus, state: IncidentState) -> Answer:
    """What an incident is about, and everything that followed from what opened it."""
    # What it follows from was said shortly before it was opened; the first evidence may be much older.
    events = await history.collect(bus, start_time=moment(state.opened_at) - BEFORE_AN_INCIDENT)
    found = chain(events, state.correlation)
    return Answer("incident", state.incident, tuple(incident_told(state)), found)


async def _about_lane(bus: Bus, lane: str) -> Answer | None:
    """A lane of which no model of its name is served: its ledger, and what it did last."""
    facts = await lane_facts(bus, lane)
    if not facts:
        return None
    events = await history.collect(bus, history.subjects((), lane))
    return Answer("lane", lane, (*facts, *await incident_facts(bus, lane)), None, tuple(events[-NODE_EVENTS:]))


async def _about_run(bus: Bus, run: str, facts: Sequence[str]) -> Answer:
    """A run that a lane started: how it stands, and what became of it."""
    events = await history.collect(bus, history.subjects(_OF_A_RUN, run))
    return Answer("run", run, (*facts, *await incident_facts(bus, run)), None, tuple(events[-NODE_EVENTS:]))


async def _about_unserved(bus: Bus, model: str) -> Answer | None:
    """A model of which nothing is served: its versions, what was decided about it, and the newest events; None: there
    is none, and nobody has said a word about it."""
    known = [*await version_facts(bus, model), *await decision_facts(bus, model), *await incident_facts(bus, model)]
    events = await history.collect(bus, history.subjects((), model))
    if not known and not events:
        return None
    facts = (f"nothing is served of {model}", *(known or (f"no version of {model} is registered so far",)))
    return Answer("model", model, facts, None, tuple(events[-NODE_EVENTS:]))


def model_facts(slot: SlotState, progress: Rollout) -> list[str]:
    """What is served, by whose decision, and where it is not there yet."""
    served = slot.production.version if slot.production else "nothing"
    before = f", before it {slot.previous.version}" if slot.previous else ""
    decided = f"by {slot.cause.by} at {clock(moment(slot.at))} because of event {slot.cause.event}"
    said = [
        f"{slot.model} is at {served} (generation {slot.generation}{before}), {decided}",
        f"{len(progress.ready)} of {progress.wanted} nodes that want it serve it: {', '.join(progress.ready) or '-'}",
    ]
    if progress.canary is not None:
        tried = progress.canary
        share = f"{tried.percent} % of {tried.form.value}"
        on = ", ".join(tried.ready) or "-"
        said.append(f"canary {tried.version} ({share}) is on {len(tried.ready)} of {tried.wanted} nodes: {on}")
    said += [f"not yet on {each.node}: {each.reason}" for each in progress.behind]
    said += [f"{name} does not count: it is out of service" for name in progress.drained]
    return said + [f"on {stranger}" for stranger in progress.strangers]


def transfer_facts(name: str, nodes: Sequence[NodeView]) -> list[str]:
    """Which transports bring the model *name*, or bring anything to the node *name*, and why those."""
    running = [t for n in nodes for t in n.status.transfers if t.state == "fetching" and name in {t.model, n.name}]
    return [sentence for transfer in running for sentence in told(transfer)]


def _with(answer: Answer, facts: Sequence[str]) -> Answer:
    return replace(answer, facts=(*answer.facts, *facts))


def slow_facts(name: str, transfers: Iterable[TransferStatus]) -> list[str]:
    """What holds the node *name* back, or every node that fetches the model *name*; seen by comparing the fleet."""
    return [
        f"{node} is slow with {group[0].model}@{group[0].version}: {why}"
        for group in by_artifact(newest(transfers)).values()
        for node, why in slow_nodes(group).items()
        if name in {node, group[0].model}
    ]


async def _about_distribution(bus: Bus, ordered: Event, nodes: Sequence[NodeView]) -> Answer:
    """What was brought somewhere and never ordered to be served: what was asked for, and what followed."""
    requested = await history.collect(bus, history.subjects(("distribution.requested",), ordered.key))
    first = next((event for event in requested if event.id == ordered.correlationid), ordered)
    facts = (told_event(ordered), *transfer_facts(ordered.key, nodes))
    found = await _whole_chain(bus, ordered.correlationid, first, None)
    return Answer("model", ordered.key, facts, found)


async def _about_node(bus: Bus, node: NodeView, slots: Sequence[SlotState]) -> Answer:
    events = await history.collect(bus, start_time=history.since(86400))
    own = [event for event in events if _names(event, node.name)]
    facts = (*node_facts(node, slots), *transfer_facts(node.name, (node,)))
    return Answer("node", node.name, facts, None, tuple(own[-NODE_EVENTS:]))


def hook_fact(node: str, model: str, hook: HookStatus) -> str:
    """How far the hook of a model is on a node."""
    tries = f", attempt {hook.attempts}" if hook.attempts > 1 else ""
    detail = f": {hook.detail}" if hook.detail and hook.state != "ok" else ""
    return f"hook of {model}@{hook.version} on {node} is {hook.state} since {hook.at}{tries}{detail}"


def _behind(slot: SlotState, node: NodeView) -> list[Waiting]:
    """What keeps this one node from serving what is ordered for it."""
    return [each for each in rollout(slot, (node,)).behind if each.node == node.name]


def node_facts(node: NodeView, slots: Sequence[SlotState]) -> list[str]:
    """How a node is, and what it is behind with."""
    status = node.status
    said = [
        f"{node.name} is {node.state}, last heard {ago(node.age_seconds)}: {status.status}",
        f"fleetcast {status.version}, process {status.pid}, since {status.started_at}, data in {status.data}",
    ]
    if node.out_of_service:
        said.insert(1, node.out_of_service)
    said += [hook_fact(node.name, m.model, m.hook) for m in status.models if m.hook is not None]
    for slot in slots:
        said += [f"behind with {slot.model}: {each.reason}" for each in _behind(slot, node)]
    if status.spool_entries:
        said.append(f"{status.spool_entries} events wait in its spool for NATS")
    if status.spool_lost:
        said.append(
            f"{status.spool_lost} events in its spool were damaged or dropped since its daemon began (log, dlq)"
        )
    return said


async def _about_event(bus: Bus, prefix: str) -> Answer:
    if len(prefix) < MIN_PREFIX:
        raise usage(
            f"{prefix!r} is neither a model nor a node", why=f"an event id needs {MIN_PREFIX} characters at least"
        )
    events = await history.collect(bus)
    matching = {event.id: event for event in events if event.id.startswith(prefix)}
    if not matching:
        raise not_found(
            f"no model, node or event is called {prefix!r}",
            next_step="fleetcast events --since 7d, or fleetcast dlq ls",
        )
    if len(matching) > 1:
        raise usage(f"{len(matching)} events begin with {prefix!r}", why=", ".join(sorted(matching)[:5]))
    event = next(iter(matching.values()))
    found = chain(events, event.correlationid, asked=event.id)
    return Answer("event", event.id, (line(event),), found)


async def _whole_chain(bus: Bus, cause: str, first: Event | None, asked: str | None) -> Chain | None:
    """The chain of *cause*: all events from its first one on, because nodes report under their own names."""
    if first is None:
        return None
    events = await history.collect(bus, start_sequence=first.sequence)
    if not first.key.startswith(CHECKPOINTS):
        # A run saves for hours, and its checkpoints follow from what began it: they would hide everything else.
        events = [event for event in events if not event.key.startswith(CHECKPOINTS)]
    return chain(events, cause, asked=asked)


def _refused(events: Sequence[Event], cause: str) -> tuple[Event, ...]:
    """The newest refusals of other events about the same model."""
    rejected = [event for event in events if event.type.name == "event.rejected" and event.correlationid != cause]
    return tuple(rejected[-3:])


def _names(event: Event, node: str) -> bool:
    origin = getattr(event.payload, "origin", None)
    origin_node = origin if isinstance(origin, str) else getattr(origin, "node", None)
    return node in {event.key, getattr(event.payload, "node", None), origin_node}


def _tell(out: Output, answer: Answer) -> None:
    for fact in answer.facts:
        out.text(fact)
    if answer.chain is not None:
        first = answer.chain.links[0].event
        out.text(f"\nwhat happened, from {clock(first.time)} on (correlation {answer.chain.correlationid}):")
        for link in answer.chain.links:
            out.text(link.text)
        out.text("\nhow it ended:")
        for sentence in answer.chain.verdict:
            out.text(f"  {sentence}")
    if answer.events:
        out.text("\nevents:")
        for event in answer.events:
            out.text(f"  {line(event)}")
