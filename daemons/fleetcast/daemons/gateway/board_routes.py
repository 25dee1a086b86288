"""What the dashboard asks for beyond the lists: who asks, the board, models, gates; and what people on call do."""

from collections.abc import Awaitable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from fleetcast.daemons.gateway import words
from fleetcast.daemons.gateway.asking import (
    Gateway,
    Operator,
    Viewer,
    check_role,
    documented,
    needed,
    refusals,
    same_as,
)
from fleetcast.daemons.gateway.duties import Because, CancelOrder, Duties
from fleetcast.daemons.gateway.letters import VERBS, Letters, role_for
from fleetcast.events.letters import Settlement
from fleetcast.events.lifecycle import StageName

router = APIRouter(prefix="/api", tags=["dashboard"], responses=refusals())

Document = dict[str, Any]
Named = Annotated[str, Path(min_length=1, max_length=128)]
Short = Annotated[str | None, Query(min_length=1, max_length=128)]


@router.get("/me", summary="Say who asks")
async def me(request: Request, parts: Gateway, caller: Viewer) -> Document:
    """The name and role of whoever asks, and whether tokens are needed at all."""
    same_as(request, words.command("gateway", "token", "list"))
    return {"name": caller.name, "role": caller.role.value, "tokens": parts.tokens is not None, "node": parts.bus.node}


@router.get(
    "/fleet",
    summary="Show the board",
    response_class=Response,
    responses={
        200: {"description": "Nodes and models, a character for each pair.", "content": {"application/json": {}}}
    },
)
async def fleet(request: Request, parts: Gateway, caller: Viewer) -> Response:
    """Nodes, daemons, and of every model what each node does about it, as one character: `s` serves production, `c` the
    canary, `w` is behind, `f` is behind and needs help, `x` serves what nobody ordered, `d` is out of service, `-` does
    not want it."""
    same_as(request, words.command("status"))
    return Response(await parts.board.fleet(), media_type="application/json")


@router.get("/models", summary="List models")
async def models(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    model: Annotated[str | None, Query(min_length=1, max_length=200, description="May be a shell pattern.")] = None,
    stage: Annotated[StageName | None, Query(description="With a version there.")] = None,
    tag: Annotated[str | None, Query(min_length=1, max_length=200, description="With a version that has it.")] = None,
    after: Annotated[str | None, Query(max_length=2000, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 500,
) -> Document:
    """One row per model, by name: what is served, how many versions there are, when it changed."""
    same_as(request, words.command("models"))
    asked = {"model": model, "stage": stage, "tag": tag, "after": after, "limit": limit}
    return await parts.reads.asked("models", asked)


@router.get("/models/{model}/decisions/{number}", summary="Show a decision")
async def decision(
    request: Request, parts: Gateway, caller: Viewer, model: Named, number: Annotated[int, Path(ge=1, le=2**53)]
) -> Document:
    """One record of a model's history with the evidence that it was made from: every gate with its numbers."""
    same_as(request, words.command("explain", model, str(number)))
    return await parts.reads.asked("decision", {"model": model, "n": number})


@router.get("/models/{model}/gates", summary="Try a promotion")
async def gates(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    model: Named,
    version: Annotated[str, Query(min_length=1, max_length=200)],
    stage: StageName = StageName.PRODUCTION,
    percent: Annotated[int | None, Query(ge=1, le=100, description="Of the nodes, for `canary`.")] = None,
) -> Document:
    """What would become of a promotion now, and what each gate requires and finds. Nothing is changed."""
    cli = words.command("promote", model, version, stage=stage.value, percent=percent, dry_run=True)
    same_as(request, cli)
    actor = f"/fleet/{parts.bus.node}/gateway/{caller.name}"
    return {**await parts.board.gates(model, version, stage, percent, actor), "cli": cli}


@router.get("/dead-letters/{number}", summary="Show a dead letter")
async def dead_letter(
    request: Request, parts: Gateway, caller: Viewer, number: Annotated[int, Path(ge=1, le=2**53)]
) -> Document:
    """What could not be handled and why, with its body as text."""
    same_as(request, words.command("dlq", "show", str(number)))
    return await parts.board.dead_letter(number)


@router.post(
    "/dead-letters/{number}/{verb}",
    summary="Send a dead letter again, or drop it",
    openapi_extra=documented(Because),
    responses=refusals(409, 502),
)
async def on_dead_letter(
    request: Request,
    parts: Gateway,
    caller: Operator,
    number: Annotated[int, Path(ge=1, le=2**53)],
    verb: Literal["retry", "drop"],
) -> Document:
    """Publish it again under its own id, or delete it for good. What decides what is served is sent again by a
    promoter only."""
    said = await needed(request, Because)
    cli = words.command("dlq", verb, str(number), yes=verb == "drop", reason=said.reason)
    same_as(request, cli)
    letters, outcome = Letters(parts.bus, caller.name), VERBS[verb]
    letter = await letters.find(number)
    if outcome is Settlement.RETRIED:
        check_role(caller, role_for(letter.subject))
    return {**await letters.settle(letter, outcome, said.reason), "cli": cli}


@router.post(
    "/incidents/{incident}/{verb}",
    summary="Look after an incident",
    openapi_extra=documented(Because),
    responses=refusals(409, 502),
)
async def on_incident(
    request: Request, parts: Gateway, caller: Operator, incident: Named, verb: Literal["ack", "note", "resolve"]
) -> Document:
    """Say that you look after it, add a line to its timeline, or say that it is over."""
    said = await needed(request, Because)
    cli = words.command(verb, incident, reason=said.reason)
    return await _done(request, cli, Duties(parts.bus, caller.name).incident(verb, incident, said.reason))


@router.post(
    "/runs/{run_id}/cancel", summary="End a run", openapi_extra=documented(CancelOrder), responses=refusals(409, 502)
)
async def cancel(request: Request, parts: Gateway, caller: Operator, run_id: Named) -> Document:
    """End a training run, wherever it is."""
    said = await needed(request, CancelOrder)
    cli = words.command("cancel", run_id, now=said.now, reason=said.reason)
    return await _done(request, cli, Duties(parts.bus, caller.name).cancel(run_id, said.reason, now=said.now))


@router.post(
    "/lanes/{lane}/{verb}",
    summary="Start or hold a lane",
    openapi_extra=documented(Because),
    responses=refusals(409, 502),
)
async def on_lane(
    request: Request, parts: Gateway, caller: Operator, lane: Named, verb: Literal["trigger", "pause", "resume"]
) -> Document:
    """Start a run of a lane now, have it start none, or some again."""
    said = await needed(request, Because)
    # `resume` alone is about rollouts too: the command finds out by the name.
    cli = words.command(verb, lane, reason=said.reason)
    return await _done(request, cli, Duties(parts.bus, caller.name).lane(verb, lane, said.reason))


async def _done(request: Request, cli: str, duty: Awaitable[Document]) -> Document:
    """Do it, and say what became of it with the command that does the same."""
    same_as(request, cli)
    return {**await duty, "cli": cli}
