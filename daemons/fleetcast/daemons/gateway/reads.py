"""What the gateway shows of the fleet: the same readers as the commands', over one connection."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.bus.streams import EVENTS
from fleetcast.daemons.gateway.held import Held
from fleetcast.daemons.gateway.letters import role_for
from fleetcast.daemons.gateway.problems import Refused
from fleetcast.daemons.remedy.incidents import reading as incidents
from fleetcast.daemons.remedy.incidents.commands import GetIncident, IncidentAnswer, ListIncidents
from fleetcast.daemons.remedy.incidents.documents import document as incident_document
from fleetcast.daemons.remedy.incidents.reading import unresolved
from fleetcast.daemons.trainer.lanes import reading as lanes
from fleetcast.daemons.trainer.lanes.commands import LaneAnswer, LaneView, ListLanes, ShowLane
from fleetcast.daemons.trainer.lanes.loading import Lanes
from fleetcast.events.payloads import DaemonState
from fleetcast.events.training import LANES_SUBJECT
from fleetcast.registry.errors import NoKeeper, RecordDamaged
from fleetcast.registry.picture.condition import Condition, look_beside
from fleetcast.registry.picture.live import Fleet
from fleetcast.registry.picture.nodes import NodeView, Rollout, node_document, rollout, rollout_document, sighted
from fleetcast.registry.picture.pace import transfers_document
from fleetcast.registry.querying import QueryAnswer, query
from fleetcast.registry.readmodel.aside import answer_of_events, run_subjects

LANES_SECONDS: Final = 3.0
QUERY_SECONDS: Final = 5.0
PACE_SECONDS: Final = 0.1
"""Distance of pictures of all rollouts, however much changes: many may ask at once."""
HOLDS_SECONDS: Final = 5.0
"""How long it holds while nothing changes: nodes fall silent without a word."""
BESIDE_SECONDS: Final = 2.0
"""How long it holds what no heartbeat tells: streams, dead letters, incidents, records of faults."""
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
        self._rollouts = Held(
            self._all_rollouts, holds_seconds=HOLDS_SECONDS, pace_seconds=PACE_SECONDS, standing=lambda: fleet.standing
        )
        self._beside = Held(lambda: look_beside(bus, fleet, unresolved), holds_seconds=BESIDE_SECONDS)

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
        return (await self._rollouts.get()).document

    async def _all_rollouts(self) -> "_Rollouts":
        nodes = self._fleet.nodes
        seen = sighted(nodes)
        found, shown = [], []
        for number, slot in enumerate(self._fleet.slots):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            found.append(rollout(slot, nodes, seen))
            previous = slot.previous.version if slot.previous else None
            shown.append({**rollout_document(found[-1]), "previous": previous})
        return _Rollouts(tuple(found), {"rollouts": shown, "at": _now()})

    async def status(self) -> Document:
        """Whether all is well, and what is not: as `fleetcast status` says it."""
        beside, made = await asyncio.gather(self._beside.get(), self._rollouts.get())
        condition = Condition(self._fleet, beside, made.rollouts)
        nodes = self._fleet.nodes
        return {
            "ok": not condition.wrong,
            "degraded": list(condition.wrong),
            "nodes": len(nodes),
            "nodes_alive": sum(node.alive for node in nodes),
            "models": len(made.rollouts),
            "complete": sum(each.complete for each in made.rollouts),
            "open_incidents": len(beside.incidents),
            "dead_letters": beside.dead,
            "registry": condition.keeping.document(),
            "daemons": condition.attendants.document(),
            "training": condition.training.document(),
            "truth": beside.truth.document(),
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
        except (NoResponder, BusTimeout, ConnectionLost, ServiceFailed):
            # No trainer: what the stream keeps, without what only a lane file says.
            views = await lanes.views(self._bus, Lanes({}), datetime.now(UTC))
            wanted = request.lane if isinstance(request, ShowLane) else None
            return LaneAnswer(lanes=tuple(view for view in views if wanted in {None, view.lane}))
        return lanes_told(said)

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
                    "role": role_for(each.subject).value,
                }
                for each in shown
            ],
            "total": len(letters),
        }


@dataclass(frozen=True, slots=True)
class _Rollouts:
    """How far everything ordered has come, and the same in JSON."""

    rollouts: tuple[Rollout, ...]
    document: Document


def lanes_told(said: bytes) -> LaneAnswer:
    """A trainer's answer.

    Raises:
        RecordDamaged: it cannot be read: a newer fleetcast wrote it, and whoever asked did nothing wrong.
    """
    try:
        return LaneAnswer.model_validate_json(said)
    except ValidationError as error:
        raise RecordDamaged(f"the trainer's answer cannot be read: {error.errors()[0]['msg']}") from error


def answered(answer: QueryAnswer) -> Document:
    """An answer of the read model, with what it is true as of."""
    return {**answer.result, "as_of_seq": answer.as_of_seq, "behind": answer.behind}


def _accepted(said: IncidentAnswer) -> IncidentAnswer:
    if said.outcome == "unknown":
        raise Refused(404, "not-found", said.message, next_step=said.next_step)
    if said.outcome != "done":
        raise Refused(409, said.outcome, said.message, next_step=said.next_step)
    return said


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
