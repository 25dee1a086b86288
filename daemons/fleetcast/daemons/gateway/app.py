"""The application: routes, what goes wrong, pages, and the document that describes all of it."""

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from fleetcast.config.gateway import GatewaySettings
from fleetcast.daemons.gateway import board_routes, duties, entries, fleet_routes, registry_routes
from fleetcast.daemons.gateway.asking import Parts
from fleetcast.daemons.gateway.guard import Guard, answer
from fleetcast.daemons.gateway.pages import INDEX, Page, is_view, load
from fleetcast.daemons.gateway.problems import ProblemDocument, Refused
from fleetcast.events.ids import VERSION_PATTERN

VERSION: Final = "1"
"""Of the interface; it changes when something that was there does not hold any more."""
ABOUT: Final = (
    "The registry and the fleet over HTTP. GET changes nothing. Answers that say no are problem documents (RFC 9457) "
    "with the command that asks the same. Times are RFC 3339 in UTC, rates are shares from 0 to 1."
)
BODIES: Final = (
    entries.Registration,
    entries.Deployment,
    entries.RollbackOrder,
    entries.CheckOrder,
    entries.PerformanceSnapshot,
    duties.Because,
    duties.CancelOrder,
    ProblemDocument,
)
"""Read by hand, and described all the same."""


def make_app(settings: GatewaySettings, parts: Parts | None = None) -> FastAPI:
    """The application; without *parts* it only describes itself."""
    app = FastAPI(
        title="fleetcast gateway",
        version=VERSION,
        description=ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = parts
    app.add_middleware(Guard, settings=settings)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.include_router(registry_routes.router)
    app.include_router(fleet_routes.router)
    app.include_router(board_routes.router)
    described = description(app)
    _add_own(app, described, load())
    return app


def description(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for kind in BODIES:
        schema = _with_numbers(kind.model_json_schema(ref_template="#/components/schemas/{model}"))
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}, {}]
    return document


def _with_numbers(schema: Any) -> Any:
    """*schema*, in which a version may be a number, as bodies may write it: 42 is "42"."""
    if isinstance(schema, list):
        return [_with_numbers(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("pattern") == VERSION_PATTERN:
        return {**schema, "type": ["string", "integer"], "minimum": 0}
    return {name: _with_numbers(each) for name, each in schema.items()}


def _add_own(app: FastAPI, described: dict[str, Any], pages: dict[str, Page]) -> None:
    """What is no question about the fleet: the description, a sign of life, and pages."""

    @app.get("/api/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(described)

    @app.get("/healthz", include_in_schema=False)
    async def healthz(request: Request) -> JSONResponse:
        parts: Parts | None = request.app.state.parts
        state = parts.bus.state.value if parts else "closed"
        return JSONResponse({"status": "ok" if state == "ready" else "degraded", "bus": state})

    @app.get("/{path:path}", include_in_schema=False)
    async def page(request: Request, path: str) -> Response:
        found = pages.get(INDEX if is_view(path) else path)
        if found is None:
            raise _unknown(request)
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers={"ETag": found.tag})
        return Response(found.data, media_type=found.media_type, headers={"ETag": found.tag})


def _unknown(request: Request) -> Refused:
    return Refused(
        404, "no-such-path", f"there is no {request.url.path[:200]}", next_step="/api/openapi.json lists the paths"
    )


async def _no_route(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, no such method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return answer(_unknown(request), request.scope)
    headers = dict(error.headers or {})
    more = f"; there is {headers['Allow']}" if "Allow" in headers else ""
    what = f"{request.method} of {request.url.path[:200]} is not answered{more}"
    refused = Refused(error.status_code, "method" if error.status_code == 405 else "http", what, headers=headers)
    return answer(refused, request.scope)


async def _bad_parameter(request: Request, error: Exception) -> Response:
    """A parameter of the path or the query that cannot be."""
    assert isinstance(error, RequestValidationError)
    said = [(".".join(str(part) for part in each["loc"][1:]), each["msg"]) for each in error.errors()[:20]]
    (name, why), others = said[0], said[1:]
    return answer(
        Refused(422, "invalid", f"{name}: {why}", why="; ".join(f"{n}: {w}" for n, w in others)), request.scope
    )
