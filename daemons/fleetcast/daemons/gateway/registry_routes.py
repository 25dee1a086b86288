"""The seeds' REST interface of the registry: `/api/model-registry`."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from fleetcast.daemons.gateway import words
from fleetcast.daemons.gateway.asking import (
    Gateway,
    Operator,
    Parts,
    Promoter,
    Viewer,
    actions,
    body_of,
    documented,
    needed,
    refusals,
    same_as,
    told,
)
from fleetcast.daemons.gateway.entries import (
    CheckOrder,
    Deployment,
    PerformanceSnapshot,
    Registration,
    RollbackOrder,
    entry_shown,
    is_about,
    row_shown,
    split_tags,
    stage_filter,
)
from fleetcast.daemons.gateway.problems import Refused
from fleetcast.registry.api.calls import Calls
from fleetcast.registry.api.entries import split
from fleetcast.registry.api.values import DeploymentStage
from fleetcast.registry.errors import NoKeeper

PREFIX: Final = "/api/model-registry"
router = APIRouter(prefix=PREFIX, tags=["model registry"], responses=refusals())

Document = dict[str, Any]
Short = Annotated[str | None, Query(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Place = Annotated[str | None, Query(max_length=2000, description="`next` of the page before.")]
Minutes = Annotated[int, Query(ge=1, le=60, description="Over which it is told.")]
Text = Annotated[str | None, Query(min_length=1, max_length=1000)]
WINDOW_MINUTES: Final = 10


def link(model_id: str, *more: str) -> str:
    """The path of a model, or of something below it."""
    return "/".join((PREFIX, "models", model_id, *more))


@router.get("/models", summary="List versions")
async def listed(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    stage: DeploymentStage | None = None,
    framework: Short = None,
    tags: Annotated[str | None, Query(max_length=1000, description="All of them, separated by commas.")] = None,
    owner: Short = None,
    team: Short = None,
    model_type: Short = None,
    model_id: Annotated[str | None, Query(max_length=200, description="May be a shell pattern.")] = None,
    text: Short = None,
    limit: Limit = 200,
    after: Place = None,
) -> Document:
    """Versions that match all that is given, by model, in each the highest version first."""
    filters: Document = {
        **stage_filter(stage),
        "framework": framework,
        "tags": split_tags(tags),
        "owner": owner,
        "team": team,
        "model_type": model_type,
        "text": text,
    }
    same_as(request, words.versions({**filters, "stage": stage}))
    try:
        page = await parts.reads.asked("versions", {**filters, "model": model_id, "limit": limit, "after": after})
    except NoKeeper:
        return await _from_stream(parts, {**filters, "stage": stage, "model_id": model_id}, limit)
    models = [row_shown(row) for row in page["versions"]]
    return {
        "models": models,
        "count": len(models),
        "next": page["next"],
        "as_of_seq": page["as_of_seq"],
        "behind": page["behind"],
    }


async def _from_stream(parts: Parts, filters: Document, limit: int) -> Document:
    """The list of a fleet in which nobody keeps the registry, as the Python API makes it."""
    wanted = {name: filters[name] for name in ("framework", "owner", "team", "model_type")}
    calls = Calls(parts.bus, actor="gateway")
    listed = await calls.listed({**wanted, "deploy_status": filters["stage"]}, filters["tags"])
    found = [entry for entry in listed if is_about(entry, filters["model_id"], filters["text"])]
    models = [entry_shown(entry) for entry in found[:limit]]
    return {"models": models, "count": len(models), "next": None, "as_of_seq": 0, "behind": 0}


@router.post(
    "/models",
    summary="Register a version",
    status_code=201,
    openapi_extra=documented(Registration),
    responses=refusals(409),
)
async def register(request: Request, parts: Gateway, caller: Operator) -> JSONResponse:
    """Make a version known, at `development`. With `artifact_path` the distributor on `node` takes the file; without,
    `artifact` is `none` until an origin brings the bytes under the same name."""
    entry = await needed(request, Registration)
    cli = words.command("register", entry.model_id, entry.version, entry.artifact_path or "FILE")
    same_as(request, cli)
    done = await actions(parts, caller).register(entry)
    return told(done, cli=cli, status=201, link=link(entry.model_id))


@router.get("/models/{model_id}", summary="Show a version")
async def shown(request: Request, parts: Gateway, caller: Viewer, model_id: str, version: Short = None) -> Document:
    """A version with everything that is said of it: the one in `version` (or `MODEL@VERSION`), else production, else
    the newest; what is served of the model, and why it was rolled back before."""
    same_as(request, words.command("info", model_id))
    calls = actions(parts, caller).calls
    entry = await calls.get(model_id, version)
    slot = parts.fleet.slot(entry.model_id)
    served = {name: getattr(slot, name) if slot else None for name in ("production", "canary", "previous")}
    return {
        **entry_shown(entry),
        "slots": {name: each.version if each else None for name, each in served.items()},
        "generation": slot.generation if slot else 0,
        "rollbacks": await _rollbacks(parts, entry.model_id),
    }


async def _rollbacks(parts: Parts, model: str) -> list[Document]:
    try:
        found = await parts.reads.asked("rollback_reasons", {"model": model})
    except NoKeeper:
        return []
    return list(found.get("rollbacks", []))


@router.get("/models/{model_id}/history", summary="Show the decisions about a model")
async def history(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    model_id: str,
    limit: Limit = 100,
    before: Annotated[int | None, Query(ge=1, description="`next` of the page before.")] = None,
) -> Document:
    """Who decided what and why, the newest first."""
    same_as(request, words.command("history", model_id))
    model, _ = split(model_id, None)
    return await parts.reads.asked("history", {"model": model, "limit": limit, "before": before})


@router.get("/models/{model_id}/deployment", summary="Show who serves a model")
async def deployment(request: Request, parts: Gateway, caller: Viewer, model_id: str) -> Document:
    """What is ordered for production and canary, which nodes serve it, and what keeps the others."""
    same_as(request, words.command("status"))
    return actions(parts, caller).deployment(split(model_id, None)[0])


@router.patch(
    "/models/{model_id}/deployment",
    summary="Bring a version to a stage",
    openapi_extra=documented(Deployment),
    responses=refusals(409),
)
async def deploy(request: Request, parts: Gateway, caller: Promoter, model_id: str) -> JSONResponse:
    """Ask that a version come to a stage; gates decide. 202: a rollout began and goes on by itself."""
    order = await needed(request, Deployment)
    model, version = split(model_id, order.version)
    asked = order.status, order.canary_percentage, order.reason
    same_as(request, words.deployment(model, version, *asked))
    done = await actions(parts, caller).deploy(model_id, order)
    return told(done, cli=words.deployment(model, done.body["version"], *asked), link=link(model, "deployment"))


@router.post("/models/{model_id}/generate-card", summary="Make a model card")
async def generate_card(
    request: Request, parts: Gateway, caller: Viewer, model_id: str, version: Short = None
) -> Document:
    """The model card of a version, as Hugging Face shows it: Markdown with YAML front matter."""
    # Only who wants a card waits for YAML to be imported.
    from fleetcast.registry.cards import card

    same_as(request, words.command("card", model_id))
    state, content = await actions(parts, caller).calls.card_material(model_id, version)
    return {
        "model_id": state.model,
        "version": state.version,
        "model_card": card(state, content.content if content else None),
        "format": "markdown",
    }


@router.get("/models/{model_id}/rollback-check", summary="Check rollback triggers")
async def rollback_check(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    model_id: str,
    window_minutes: Minutes = WINDOW_MINUTES,
    auto_remediate: bool = False,
) -> Document:
    """Whether what is served should be rolled back, by the monitor's verdicts. Asking changes nothing, which is why
    `auto_remediate=true` needs POST."""
    same_as(request, words.command("monitor", "show", model_id))
    if auto_remediate:
        raise Refused(
            400,
            "needs-post",
            "auto_remediate=true asks for a rollback, and GET changes nothing",
            next_step=f"curl -X POST '{request.url.path}?window_minutes={window_minutes}&auto_remediate=true'",
        )
    return await actions(parts, caller).check(model_id, window_minutes, remediate=False)


@router.post(
    "/models/{model_id}/rollback-check",
    summary="Check rollback triggers, and remedy",
    openapi_extra=documented(CheckOrder, required=False),
)
async def rollback_check_and_remedy(
    request: Request,
    parts: Gateway,
    caller: Operator,
    model_id: str,
    window_minutes: Annotated[int | None, Query(ge=1, le=60)] = None,
    auto_remediate: bool | None = None,
) -> Document:
    """As GET. With `auto_remediate=true` and a reason, the rollback is requested, once per slot order: the playbook
    `model_rollback` does it, within its breaker."""
    said = await body_of(request, CheckOrder) or CheckOrder()
    minutes = window_minutes or said.window_minutes or WINDOW_MINUTES
    remediate = said.auto_remediate if auto_remediate is None else auto_remediate
    same_as(request, words.command("monitor", "show", model_id))
    return await actions(parts, caller).check(model_id, minutes, remediate=bool(remediate), reason=said.reason)


@router.post(
    "/models/{model_id}/rollback",
    summary="Roll back",
    openapi_extra=documented(RollbackOrder, required=False),
    responses=refusals(409),
)
async def roll_back(
    request: Request,
    parts: Gateway,
    caller: Operator,
    model_id: str,
    reason: Text = None,
    target_version: Short = None,
) -> JSONResponse:
    """Serve a former version again: the last good one, or `target_version`. `rolled_back`: all nodes that can be
    reached report it; 202 with a link where that takes longer."""
    said = await body_of(request, RollbackOrder) or RollbackOrder()
    target = target_version or said.target_version
    why = reason or said.reason
    cli = words.command("rollback", model_id, to=target, reason=why or "TEXT")
    same_as(request, cli)
    if not why:
        raise Refused(422, "reason", "why it is rolled back must be said: `reason`, in the query or the body")
    done = await actions(parts, caller).roll_back(model_id, reason=why, target=target)
    return told(done, cli=cli, link=link(model_id, "deployment"))


@router.get("/models/{model_id}/health", summary="Show how a model performs")
async def health(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    model_id: str,
    window_minutes: Annotated[int | None, Query(ge=1, le=60)] = None,
) -> Document:
    """The health of a model, its numbers, and the triggers with what they rest on."""
    same_as(request, words.command("monitor", "show", model_id))
    return dict(await actions(parts, caller).calls.health(model_id, window_minutes))


@router.get("/models/{model_id}/performance", summary="Show how a model performed")
async def performance(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    model_id: str,
    version: Short = None,
    node: Short = None,
    since: Short = None,
    until: Short = None,
    step_minutes: Annotated[int, Query(ge=1, le=1440)] = 1,
    by_node: bool = False,
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
) -> Document:
    """Points for charts, from the minutes of all nodes, the oldest first."""
    model, named = split(model_id, version)
    same_as(request, words.command("monitor", "show", model))
    asked = {
        "model": model,
        "version": named,
        "node": node,
        "since": since,
        "until": until,
        "step_minutes": step_minutes,
        "by_node": by_node,
        "limit": limit,
    }
    return await parts.reads.asked("performance", asked)


@router.post(
    "/models/{model_id}/performance",
    summary="Record a performance snapshot",
    status_code=201,
    openapi_extra=documented(PerformanceSnapshot),
)
async def record(request: Request, parts: Gateway, caller: Operator, model_id: str) -> Document:
    """A snapshot is published for the monitor, which judges, raises incidents and asks for remedies by its policy."""
    snapshot = await needed(request, PerformanceSnapshot)
    same_as(request, words.command("snapshot", model_id, snapshot.version))
    return await actions(parts, caller).record(model_id, snapshot)


@router.get("/monitor/production", summary="Show how all models perform")
async def monitor_production(
    request: Request, parts: Gateway, caller: Viewer, window_minutes: Minutes = WINDOW_MINUTES
) -> Document:
    """How many models are healthy, degraded and failing, and what is wrong with them."""
    same_as(request, words.command("monitor"))
    return dict(await actions(parts, caller).calls.health(None, window_minutes))


@router.get("/stats", summary="Count models and versions")
async def stats(request: Request, parts: Gateway, caller: Viewer) -> Document:
    """How many models and versions there are, by stage and framework, and what is served."""
    same_as(request, words.command("models"))
    try:
        found = await parts.reads.asked("stats", {})
    except NoKeeper:
        return dict(await actions(parts, caller).calls.stats())
    return {"total_models": found["models"], "total_versions": found["versions"], **found}


@router.get("/compare", summary="Compare two versions")
async def compare(
    request: Request,
    parts: Gateway,
    caller: Viewer,
    a: Annotated[str, Query(max_length=200, description="MODEL@VERSION")],
    b: Annotated[str, Query(max_length=200, description="MODEL@VERSION")],
) -> Document:
    """Two versions side by side: what differs, and every number."""
    same_as(request, words.command("compare", a, b))
    return await parts.reads.asked("compare", {"a": a, "b": b})
