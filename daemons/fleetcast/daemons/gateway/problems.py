"""What goes wrong, as documents (RFC 9457): what failed, why, and the command that does or shows the same. Pure."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationError

from fleetcast.bus.errors import BusError, DataRefused, TransportFailed
from fleetcast.registry.api.values import (
    AmbiguousVersion,
    GateRefused,
    ModelNotFound,
    RegistrationFailed,
    RegistryConflict,
    RegistryRefused,
)
from fleetcast.registry.errors import (
    DescriptionInvalid,
    NoKeeper,
    NoMonitor,
    RecordDamaged,
    RegistryError,
    TransitionRefused,
    VersionsDiffer,
    VersionTaken,
)
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound, NotYet

MEDIA_TYPE: Final = "application/problem+json"
TYPES: Final = "urn:fleetcast:problem:"
"""Begins the names of the kinds of problems."""


class Refused(Exception):
    """A request cannot be done as it is asked; the document says why.

    Attributes:
        status: of the answer.
        code: stable word for programs.
        why: the cause; may be empty.
        next_step: what helps.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        what: str,
        *,
        why: str = "",
        next_step: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.what = what
        self.why = why
        self.next_step = next_step
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        super().__init__(what)


class ProblemDocument(BaseModel):
    """The body of every answer that says no."""

    type: str = Field(description="Names the kind of problem.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What failed, in one sentence.")
    code: str = Field(description="The kind in one word, for programs.")
    why: str = Field(default="", description="The cause, where `detail` does not say it.")
    next: str = Field(default="", description="What helps.")
    cli: str = Field(default="", description="The command that asks the same.")
    instance: str = Field(default="", description="The path that was asked.")
    gates: list[dict[str, Any]] | None = Field(default=None, description="What each gate required, and what was there.")
    winner: str | None = Field(default=None, description="Who was quicker, of a conflict.")


_KINDS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (ModelNotFound, 404, "not-found"),
    (NothingFound, 404, "not-found"),
    (AmbiguousVersion, 409, "ambiguous"),
    (GateRefused, 409, "gates"),
    (RegistryConflict, 409, "conflict"),
    (RegistryRefused, 409, "refused"),
    (VersionTaken, 409, "taken"),
    (RegistrationFailed, 422, "registration"),
    (DescriptionInvalid, 422, "invalid"),
    (VersionsDiffer, 422, "invalid"),
    (TransitionRefused, 422, "invalid"),
    (BadQuery, 400, "invalid"),
    (NotYet, 504, "not-yet"),
    (NoMonitor, 503, "no-monitor"),
    (NoKeeper, 503, "no-registry"),
    (RecordDamaged, 500, "damaged"),
    (RegistryError, 500, "registry"),
    (DataRefused, 413, "too-large"),
    (TransportFailed, 503, "no-nats"),
    (BusError, 502, "nats"),
)
"""Errors of what is asked, the first that fits: status and code."""
_NEXT: Final[Mapping[str, str]] = {
    "no-monitor": "fleetcast run monitor",
    "no-registry": "fleetcast run registry",
    "no-nats": "fleetcast doctor",
    "not-yet": "ask again",
}
AGAIN_SECONDS: Final = "2"
"""What `Retry-After` says where asking again may help."""


def refusal_of(error: Exception) -> Refused | None:
    """An error of what was asked, as a refusal; None: it is a fault of ours."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, ValidationError):
        return invalid(error)
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return _told(error, status, code)
    return None


def _told(error: Exception, status: int, code: str) -> Refused:
    what, _, rest = str(error).partition("\n")
    next_step = getattr(error, "next_step", None) or _NEXT.get(code, "")
    more: dict[str, Any] = {}
    if isinstance(error, RegistryRefused):
        answer = error.answer
        what, rest, next_step = answer.message, "", answer.next_step
        bad = [gate for gate in answer.gates if gate.verdict != "pass"]
        rest = "; ".join(f"{g.gate}: required {g.required}, actual {g.actual}" for g in bad)
        more = {"gates": [g.model_dump(mode="json") for g in answer.gates] or None, "winner": answer.winner or None}
        code = answer.code or code
    headers = {"Retry-After": AGAIN_SECONDS} if status in {503, 504} else {}
    return Refused(status, code, what, why=rest.strip(), next_step=next_step, headers=headers, more=more)


def invalid(error: ValidationError, *, where: str = "") -> Refused:
    """What is wrong with a body or a parameter: the first mistake in words, all of them by name."""
    said = [(_place(each["loc"], where), each["msg"].removeprefix("Value error, ")) for each in error.errors()[:20]]
    place, message = said[0]
    others = "; ".join(f"{name}: {why}" for name, why in said[1:])
    return Refused(422, "invalid", f"{place}: {message}", why=others)


def _place(loc: tuple[int | str, ...], where: str) -> str:
    return ".".join(str(part) for part in loc) or where or "the request"


def document(refused: Refused, *, cli: str, instance: str) -> dict[str, Any]:
    """The body of the answer."""
    return ProblemDocument(
        type=f"{TYPES}{refused.code}",
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        detail=refused.what,
        code=refused.code,
        why=refused.why,
        next=refused.next_step,
        cli=cli,
        instance=instance,
        **refused.more,
    ).model_dump(exclude_none=True)
