"""The fleet beyond the registry, for dashboards and programs: only to be read."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from fleetcast.daemons.gateway import words
from fleetcast.daemons.gateway.asking import Gateway, Viewer, refusals, same_as, still_let_in
from fleetcast.daemons.gateway.frames import Wanted, last_event_id
from fleetcast.daemons.gateway.problems import Refused
from fleetcast.daemons.remedy.incidents.commands import ListIncidents
from fleetcast.events.errors import UnknownEventType
from fleetcast.events.incidents import Severity
from fleetcast.events.names import find

router = APIRouter(prefix="/api", tags=["fleet"], responses=refusals())

Document = dict[str, Any]
Short = Annotated[str | None, Query(min_length=1, max_length=128)]
Limit = Annotated[int, Query(ge=1, le=500)]
TAIL = 500
"""Past events that a stream may begin with; more are fetched with `Last-Event-ID`."""


@router.get("/status", summary="Say whether all is well")
async def status(request: Request, parts: Gateway, caller: Viewer) -> Document:
    """Whether all is well, and what is not, in sentences."""
    same_as(request, words.command("status"))
    return await parts.reads.status()


@router.get("/nodes", summary="List nodes")
async def nodes(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    models: Annotated[bool, Query(description="With what each node says of every model.")] = False,
) -> Document:
    """Nodes, and the daemons that serve the whole fleet; `models` is how many a node has, or with `models=true` all of
    them."""
    same_as(request, words.command("status"))
    return parts.reads.nodes(models=models)


@router.get("/nodes/{node}", summary="Show a node")
async def node(request: Request, parts: Gateway, caller: Viewer, node: str) -> Document:
    """A node with its transfers."""
    same_as(request, words.command("why", node))
    return parts.reads.node(node)


@router.get("/rollouts", summary="Show who serves what")
async def rollouts(request: Request, parts: Gateway, caller: Viewer) -> Document:
    """How far what is ordered has come on the nodes, by model and lane: who serves it, who is behind and why."""
    same_as(request, words.command("status"))
    return await parts.reads.rollouts()


@router.get("/transfers", summary="List transfers")
async def transfers(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    everything: Annotated[bool, Query(alias="all", description="Also those that have ended.")] = False,
) -> Document:
    """Who fetches what, how far it is, from whom, and who is slow and why."""
    same_as(request, words.command("transfers", all=everything))
    return parts.reads.transfers(everything=everything)


@router.get("/incidents", summary="List incidents")
async def incidents(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    everything: Annotated[bool, Query(alias="all", description="Also those that are resolved.")] = False,
    model: Short = None,
    node: Short = None,
    trigger: Short = None,
    severity: Annotated[Severity | None, Query(description="At least.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Document:
    """Incidents, what matters most first."""
    same_as(request, words.command("incidents", all=everything, model=model, node=node, severity=severity))
    wanted = {"ended": everything, "resource": model, "node": node, "trigger": trigger, "severity": severity}
    return await parts.reads.incidents(ListIncidents.model_validate({**wanted, "limit": limit}))


@router.get("/incidents/{incident}", summary="Show an incident")
async def incident(request: Request, parts: Gateway, caller: Viewer, incident: str) -> Document:
    """An incident with its timeline, by its id or the unique start of it."""
    same_as(request, words.command("incident", incident))
    return await parts.reads.incident(incident)


@router.get("/lanes", summary="List lanes")
async def lanes(request: Request, parts: Gateway, caller: Viewer) -> Document:
    """What starts training, and how far each lane is from a run."""
    same_as(request, words.command("lanes"))
    return await parts.reads.lanes()


@router.get("/lanes/{lane}", summary="Show a lane")
async def lane(request: Request, parts: Gateway, caller: Viewer, lane: str) -> Document:
    """A lane with the nodes that may take its run, and why each other one may not."""
    same_as(request, words.command("lane", "show", lane))
    return await parts.reads.lane(lane)


@router.get("/runs", summary="List training runs")
async def runs(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    lane: Short = None,
    model: Short = None,
    state: Short = None,
    after: Annotated[str | None, Query(max_length=2000, description="`next` of the page before.")] = None,
    limit: Limit = 50,
) -> Document:
    """Training runs, the one that began last first."""
    same_as(request, words.command("runs", lane=lane, state=state))
    asked = {"lane": lane, "model": model, "state": state, "after": after, "limit": limit}
    return await parts.reads.runs("runs", asked)


@router.get("/runs/{run_id}", summary="Show a training run")
async def run(request: Request, parts: Gateway, caller: Viewer, run_id: str, epochs: Limit = 500) -> Document:
    """A run with its epochs, checkpoints, faults, and the versions that came of it."""
    same_as(request, words.command("runs", "show", run_id))
    return await parts.reads.runs("run", {"run_id": run_id, "epochs": epochs})


@router.get("/dead-letters", summary="List dead letters")
async def dead_letters(request: Request, parts: Gateway, caller: Viewer, limit: Limit = 100) -> Document:
    """What could not be handled, the newest first."""
    same_as(request, words.command("dlq", "ls"))
    return await parts.reads.dead_letters(limit)


@router.get(
    "/events",
    summary="Follow the event log",
    response_class=Response,
    responses={
        200: {
            "description": "Events as they come; `id` is their place in the log.",
            "content": {"text/event-stream": {}},
        }
    },
)
async def events(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    types: Annotated[
        str | None, Query(alias="type", max_length=1000, description="Types, by commas; none: all.")
    ] = None,
    model: Annotated[
        str | None, Query(max_length=128, description="Only what is about it: a model, lane or node.")
    ] = None,
    tail: Annotated[int, Query(ge=0, le=TAIL, description="Begin with so many past events.")] = 0,
    changes: Annotated[
        bool, Query(description="Also `changed`, when nodes, transfers or slots are different.")
    ] = False,
    seen: Annotated[str | None, Query(alias="last_event_id", max_length=40)] = None,
    header: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
) -> Response:
    """The event log as server-sent events. Whoever comes back with `Last-Event-ID` misses nothing. A client that takes
    too little in is dropped: its last event is `dropped`, and it may come back; `restarting`: the gateway stops."""
    same_as(request, words.command("events", "-f", model=model))
    try:
        last = last_event_id(header or seen)
    except ValueError as error:
        raise Refused(400, "invalid", str(error)) from error
    wanted = Wanted(_names(types), model or "")
    # A body that was promised has to come first: behind it a stream waits for its client to go.
    await request.body()
    return parts.feed.open(wanted, seen=last, tail=tail, changes=changes, allowed=still_let_in(request))


def _names(types: str | None) -> frozenset[str]:
    """Types in any spelling, by their names; raises Refused: one is not in the catalogue."""
    found = set()
    for each in (types or "").split(","):
        if name := each.strip():
            try:
                found.add(find(name).name)
            except UnknownEventType as unknown:
                raise Refused(400, "invalid", str(unknown)) from unknown
    return frozenset(found)
