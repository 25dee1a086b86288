"""What the gateway shows of the fleet: the same readers as the commands', over one connection."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, NotFound, ServiceFailed
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.gateway.problems import Refused
from fleetcast.daemons.remedy.incidents import reading as incidents
from fleetcast.daemons.remedy.incidents.commands import GetIncident, IncidentAnswer, ListIncidents
from fleetcast.daemons.remedy.incidents.documents import document as incident_document
from fleetcast.daemons.trainer.lanes import reading as lanes
from fleetcast.daemons.trainer.lanes.commands import LaneAnswer, LaneView, ListLanes, ShowLane
from fleetcast.daemons.trainer.lanes.loading import Lanes
from fleetcast.events.payloads import DaemonState
from fleetcast.events.training import LANES_SUBJECT
from fleetcast.registry.errors import NoKeeper
from fleetcast.registry.picture.live import Fleet
from fleetcast.registry.picture.nodes import NodeView, node_document, problems, rollout, rollout_document, sighted
from fleetcast.registry.picture.pace import transfers_document
from fleetcast.registry.querying import QueryAnswer, query
from fleetcast.registry.readmodel.aside import answer_of_events, run_subjects

LANES_SECONDS: Final = 3.0
QUERY_SECONDS: Final = 5.0
FRESH_SECONDS: Final = 0.2
"""How long a picture of all rollouts holds although something has changed: many may ask at once."""
HOLDS_SECONDS: Final = 5.0
"""How long it holds while nothing changes: nodes fall silent without a word."""
AT_ONCE: Final = 20
"""Rollouts that are counted before others have their turn."""
OTHERS: Final = ("registry", "monitor", "remedy", "notifier", "trainer", "gateway")
"""Daemons besides distributors."""
Document = dict[str, Any]


class Reads:
    """One question each."""

    def __init__(self, bus: Bus, fleet: Fleet) -> None:
        self._bus = bus
        self._fleet = fleet
        self._making = asyncio.Lock()
        self._made_of, self._made_at = -1, float("-inf")
        self._rollouts: Document = {}

    # -- the fleet, from what is followed

    def nodes(self, *, models: bool) -> Document:
        """Nodes, and the daemons that serve the whole fleet; *models*: with what each node says of every model."""
        others = self._fleet.attendants(OTHERS)
        return {
            "nodes": [_shown(node, models=models) for node in self._fleet.nodes],
            "daemons": [_daemon(view) for views in others.values() for view in views],
            "at": _now(),
        }

    def node(self, name: str) -> Document:
        """One node, with its transfers; raises Refused."""
        node = self._fleet.node(name)
        if node is None:
            raise Refused(
                404, "not-found", f"no node {name[:80]!r} was heard from within a day", next_step="/api/nodes"
            )
        moving = [t for t in self._fleet.transfers if t.node == name]
        return {**_shown(node, models=True), **transfers_document(moving, everything=True)}

    def transfers(self, *, everything: bool) -> Document:
        """Who fetches what, from whom and how fast."""
        return {**transfers_document(self._fleet.transfers, everything=everything), "at": _now()}

    async def rollouts(self) -> Document:
        """How far what is ordered has come on the nodes, by model and lane. It is made once for everybody who asks,
        while nothing changes, and without holding up others."""
        async with self._making:
            now = time.monotonic()
            age = now - self._made_at
            if age > HOLDS_SECONDS or (age > FRESH_SECONDS and self._made_of != self._fleet.changes):
                self._made_of, self._made_at = self._fleet.changes, now
                self._rollouts = {"rollouts": await self._all_rollouts(), "at": _now()}
            return self._rollouts

    async def _all_rollouts(self) -> list[Document]:
        nodes = self._fleet.nodes
        seen = sighted(nodes)
        served = []
        for number, slot in enumerate(self._fleet.slots):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            previous = slot.previous.version if slot.previous else None
            served.append({**rollout_document(rollout(slot, nodes, seen)), "previous": previous})
        return served

    async def status(self) -> Document:
        """Whether all is well, and what is not."""
        dead, open_ones, made = await asyncio.gather(
            self._bus.dead.list(), incidents.incidents(self._bus), self.rollouts()
        )
        nodes, rollouts = self._fleet.nodes, made["rollouts"]
        wrong = [*problems(nodes, (), len(dead)), *(_incomplete(each) for each in rollouts if not each["complete"])]
        unresolved = [each for each in open_ones if not each.ended]
        return {
            "ok": not wrong and not unresolved,
            "degraded": wrong,
            "nodes": len(nodes),
            "nodes_alive": sum(node.alive for node in nodes),
            "models": len(rollouts),
            "complete": sum(each["complete"] for each in rollouts),
            "open_incidents": len(unresolved),
            "dead_letters": len(dead),
            "at": _now(),
        }

    # -- what is kept

    async def incidents(self, wanted: ListIncidents) -> Document:
        """Incidents, what matters most first."""
        states = await incidents.incidents(self._bus, ended=wanted.ended)
        found = incidents.chosen(states, wanted)
        return {"incidents": [incident_document(each) for each in found.incidents], "more": found.more}

    async def incident(self, name: str) -> Document:
        """One incident with its timeline; raises Refused."""
        found = incidents.named(await incidents.incidents(self._bus, ended=True), GetIncident(incident=name))
        (state,) = _accepted(found).incidents
        return incident_document(state)

    async def lanes(self) -> Document:
        """What starts training, and how far each lane is from a run."""
        found = await self._lanes(ListLanes())
        return {"lanes": [_lane(each) for each in found.lanes]}

    async def lane(self, name: str) -> Document:
        """One lane with the nodes that may take its run; raises Refused."""
        found = await self._lanes(ShowLane(lane=name, nodes=True))
        if not found.lanes:
            raise Refused(404, "not-found", f"there is no lane {name}", next_step="/api/lanes")
        return _lane(found.lanes[0])

    async def _lanes(self, request: ListLanes | ShowLane) -> LaneAnswer:
        data = request.model_dump_json().encode()
        try:
            said = await patience.ask(
                self._bus, LANES_SUBJECT, data, deadline_seconds=LANES_SECONDS, wait_for_somebody=False
            )
            return LaneAnswer.model_validate_json(said)
        except (NoResponder, BusTimeout, ConnectionLost, ServiceFailed):
            # No trainer: what the stream keeps, without what only a lane file says.
            views = await lanes.views(self._bus, Lanes({}), datetime.now(UTC))
        wanted = request.lane if isinstance(request, ShowLane) else None
        return LaneAnswer(lanes=tuple(view for view in views if wanted in {None, view.lane}))

    async def runs(self, name: str, arguments: Mapping[str, Any]) -> Document:
        """Training runs, or one of them: from the read model, or from the log where nobody keeps the registry."""
        given = {key: value for key, value in arguments.items() if value is not None}
        try:
            return answered(await query(self._bus, name, given, deadline_seconds=QUERY_SECONDS))
        except NoKeeper:
            records = [entry async for entry in self._bus.tail(EVENTS, run_subjects())]
            return await asyncio.to_thread(answer_of_events, records, name, given)

    async def asked(self, name: str, arguments: Mapping[str, Any]) -> Document:
        """A question to the read model; errors as `query`."""
        given = {key: value for key, value in arguments.items() if value is not None}
        return answered(await query(self._bus, name, given, deadline_seconds=QUERY_SECONDS))

    async def dead_letters(self, limit: int) -> Document:
        """What could not be handled, the newest first."""
        letters = await self._bus.dead.list()
        shown = sorted(letters, key=lambda each: each.sequence, reverse=True)[:limit]
        return {
            "dead_letters": [
                {
                    "sequence": each.sequence,
                    "subject": each.subject,
                    "reason": each.reason,
                    "consumer": each.consumer,
                    "at": each.at,
                }
                for each in shown
            ],
            "total": len(letters),
        }

    async def is_known(self) -> bool:
        """Whether the streams of a fleet are there."""
        try:
            await self._bus.last_sequence(EVENTS)
        except NotFound:
            return False
        return True


def answered(answer: QueryAnswer) -> Document:
    """An answer of the read model, with what it is true as of."""
    return {**answer.result, "as_of_seq": answer.as_of_seq, "behind": answer.behind}


def _accepted(said: IncidentAnswer) -> IncidentAnswer:
    if said.outcome == "unknown":
        raise Refused(404, "not-found", said.message, next_step=said.next_step)
    if said.outcome != "done":
        raise Refused(409, said.outcome, said.message, next_step=said.next_step)
    return said


def _incomplete(served: Document) -> str:
    """What keeps an order from being served everywhere, in a sentence."""
    canary = served["canary"] or {"waiting": []}
    behind = [*served["waiting"], *canary["waiting"]]
    named = "; ".join(f"{each['node']} {each['reason']}" for each in behind) or "no node wants it"
    return f"{served['model']}@{served['version']} is on {len(served['ready'])} of {served['wanted']} nodes: {named}"


def _shown(node: NodeView, *, models: bool) -> Document:
    """A node; the path of its HTTP address is a capability, and stays with the nodes. With *models*, what it says of
    each; else how many it serves."""
    told = node if models else replace(node, status=node.status.model_copy(update={"models": ()}))
    document: Document = dict(node_document(told))
    if not models:
        document["models"] = len(node.status.models)
    ends = dict(document["endpoints"])
    if ends.get("http"):
        ends["http"] = "/".join(ends["http"].split("/")[:3])
    return {**document, "endpoints": ends, "alive": node.alive}


def _daemon(view: NodeView) -> Document:
    status = view.status
    state = view.state if view.alive or status.state is DaemonState.STOPPED else "lost"
    return {
        "daemon": status.daemon,
        "node": status.node,
        "state": state,
        "status": status.status,
        "version": status.version,
        "age_seconds": round(view.age_seconds, 3),
        "gpus": [gpu.model_dump(mode="json") for gpu in status.gpus],
        "runs": [run.model_dump(mode="json") for run in status.runs],
        "quarantine": status.quarantine,
    }


def _lane(view: LaneView) -> Document:
    return view.model_dump(mode="json", by_alias=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
