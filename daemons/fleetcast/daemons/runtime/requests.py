"""What every service of a daemon does with a request: read it, and say of what goes wrong whether to ask again."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from fleetcast.bus import ServiceError, patience
from fleetcast.bus.errors import BusError
from fleetcast.bus.services import EndpointHandler
from fleetcast.registry.errors import RecordDamaged

T = TypeVar("T")

MALFORMED: Final = 400
DAMAGED: Final = 500
AWAY: Final = patience.NOT_NOW


def read_request(parse: Callable[[bytes], T], body: bytes, *, example: str = "") -> T:
    """A request as *parse* reads it; *example*: one that would have been right.

    Raises:
        ServiceError: 400: it is none.
    """
    try:
        return parse(body)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        hint = f"; ask like {example}" if example else ""
        raise ServiceError(MALFORMED, f"{where}: {first['msg'].removeprefix('Value error, ')}{hint}") from e


def with_reading(
    name: str, subject: str, answer: EndpointHandler, asks: tuple[str, ...]
) -> Mapping[str, tuple[str, EndpointHandler]]:
    """The endpoint *name*, and one beside it that answers only requests whose `ask` is one of *asks*, which change
    nothing: a role may be allowed this one alone."""

    async def only(body: bytes) -> bytes:
        document = _document(body)
        asked = document.get("ask")
        if asked not in asks:
            raise ServiceError(MALFORMED, f"ask: {asked!r} is asked for at {subject}, here there is {', '.join(asks)}")
        # Written anew: of a body that names `ask` twice, another reader might take the other one.
        return await answer(json.dumps(document).encode())

    return {name: (subject, answer), f"{name}-read": (f"{subject}{patience.READING}", only)}


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def refusals() -> Iterator[None]:
    """Errors of what is asked within, as the service tells them.

    Raises:
        ServiceError: 500: what is stored cannot be read; 503: not now, ask again.
    """
    try:
        yield
    except RecordDamaged as e:
        raise ServiceError(DAMAGED, str(e)) from e
    except BusError as e:
        raise ServiceError(AWAY, str(e)) from e
