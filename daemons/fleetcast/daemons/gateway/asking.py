"""What every route needs: who asks, what the body says, and how the answer is told."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from fleetcast.bus import Bus
from fleetcast.config.gateway import GatewaySettings
from fleetcast.daemons.gateway.access import LOCAL, Caller, Role, bearer
from fleetcast.daemons.gateway.actions import Actions, Done
from fleetcast.daemons.gateway.board_reads import BoardReads
from fleetcast.daemons.gateway.problems import ProblemDocument, Refused, invalid
from fleetcast.daemons.gateway.reads import Reads
from fleetcast.daemons.gateway.stream import Feed
from fleetcast.daemons.gateway.tokens import TokenBook
from fleetcast.registry.picture.live import Fleet

B = TypeVar("B", bound=BaseModel)
Document = dict[str, Any]


class Parts:
    """What a running gateway is made of; routes find it in the request."""

    def __init__(self, bus: Bus, fleet: Fleet, feed: Feed, settings: GatewaySettings, tokens: TokenBook | None) -> None:
        self.bus = bus
        self.fleet = fleet
        self.feed = feed
        self.settings = settings
        self.tokens = tokens
        self.reads = Reads(bus, fleet)
        self.board = BoardReads(bus, fleet, self.reads)


async def parts_of(request: Request) -> Parts:
    """The gateway that a request came to. A coroutine, as all dependencies here: FastAPI runs functions in threads."""
    return _parts(request)


def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


def caller_of(request: Request) -> Caller:
    """Who asks; raises Refused: nobody knows them."""
    tokens = _parts(request).tokens
    if tokens is None:
        return LOCAL
    token = bearer(request.headers.get("authorization"))
    known = tokens.caller(token) if token else None
    if known is None:
        what = "the token is not known, or was revoked" if token else "a token is needed"
        raise Refused(
            401,
            "token",
            what,
            next_step="send `Authorization: Bearer TOKEN`; fleetcast gateway token add NAME --role viewer makes one",
            headers={"WWW-Authenticate": 'Bearer realm="fleetcast"'},
        )
    return known


def still_let_in(request: Request) -> Callable[[], bool]:
    """Whether whoever asked would be let in now: for answers that go on for hours."""
    tokens = _parts(request).tokens
    token = bearer(request.headers.get("authorization"))
    return lambda: tokens is None or (token is not None and tokens.caller(token) is not None)


def needs(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: whoever asks has this role, or one above; raises Refused."""

    async def check(request: Request) -> Caller:
        caller = caller_of(request)
        check_role(caller, role)
        return caller

    return check


def check_role(caller: Caller, role: Role) -> None:
    """Raises Refused: the role of *caller* does not reach."""
    if not caller.role.may(role):
        raise Refused(
            403,
            "role",
            f"{caller.name} is {caller.role}, and this needs {role}",
            next_step=f"fleetcast gateway token add NAME --role {role} --reason TEXT",
        )


Viewer = Annotated[Caller, Depends(needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]
Promoter = Annotated[Caller, Depends(needs(Role.PROMOTER))]
Gateway = Annotated[Parts, Depends(parts_of)]


def actions(parts: Parts, caller: Caller) -> Actions:
    """What *caller* may ask of others."""
    return Actions(parts.bus, parts.fleet, caller=caller.name, serving_seconds=parts.settings.serving_seconds)


async def body_of(request: Request, kind: type[B]) -> B | None:
    """The body, as typed; None: there is none. It is JSON, whatever `Content-Type` says: curl says a form.

    Raises:
        Refused: it is no JSON, or not what is asked for.
    """
    data = await request.body()
    if not data.strip():
        return None
    try:
        document = from_json(data)
    except ValueError as error:
        raise Refused(400, "json", f"the body is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refused(422, "invalid", f"the body is no JSON object, but {type(document).__name__}")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise invalid(error, where="the body") from error


async def needed(request: Request, kind: type[B]) -> B:
    """As `body_of`, where there has to be one."""
    body = await body_of(request, kind)
    if body is None:
        fields = [name for name, field in kind.model_fields.items() if field.is_required()]
        raise Refused(422, "invalid", f"the body is empty; it is a JSON object with {', '.join(fields)}")
    return body


def same_as(request: Request, cli: str) -> None:
    """Note the command that asks the same, for the answer."""
    request.state.cli = cli


def told(done: Done, *, cli: str, status: int = 200, link: str | None = None) -> JSONResponse:
    """The answer to a change: what became of it, and the command that does the same; 202 where it goes on."""
    headers = {"Location": link} if link and (done.goes_on or status == 201) else None
    body = {**done.body, "cli": cli} | ({"link": link} if link and done.goes_on else {})
    return JSONResponse(body, status_code=202 if done.goes_on else status, headers=headers)


def documented(kind: type[BaseModel], *, required: bool = True) -> Document:
    """What the OpenAPI document says of a body that is read by hand."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def refusals(*statuses: int) -> dict[int | str, Document]:
    """What the OpenAPI document says of answers that say no."""
    wanted = sorted({400, 401, 403, 404, 408, 413, 422, 500, 503, *statuses})
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}}
    return {status: {"description": _WHY.get(status, "See `detail`."), "content": content} for status in wanted}


_WHY = {
    400: "The request cannot be read.",
    401: "A token is needed.",
    403: "The token's role does not reach.",
    404: "There is no such thing.",
    408: "The request did not come whole in time.",
    409: "Gates, a rule or somebody quicker said no; nothing changed.",
    413: "The body is too large.",
    422: "The request can be read, and cannot be.",
    500: "A fault of the gateway.",
    503: "Not now: who decides it is away. Ask again.",
}
