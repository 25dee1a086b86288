"""What questions are made of: limits, references to versions, and places in a list that go on after a page."""

import base64
import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from fleetcast.events.content import Kind
from fleetcast.events.ids import Name, Version
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound
from fleetcast.registry.readmodel.flatten import stamp

MAX_LIMIT: Final = 500
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
"""How many at most."""
Short = Annotated[str, Field(min_length=1, max_length=200)]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
"""A shell pattern over names: `hex8_*`."""
Place = Annotated[str, Field(min_length=1, max_length=2000)]
"""`next` of a page: the list goes on after it."""
Result = dict[str, Any]
Values = list[object]

_WILD = re.compile(r"[*?\[]")

__all__ = ["MAX_LIMIT", "Kind", "Limit", "Name", "Pattern", "Place", "Result", "Short", "Values", "Version"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A version as people write it: `MODEL@VERSION`."""

    model: str
    version: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Raises BadQuery: it is not written so."""
        model, at, version = text.partition("@")
        if not (model and at and version):
            raise BadQuery(f"{text[:80]!r} is no version; write MODEL@VERSION")
        return cls(model, version)

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


def moment_asked(text: str) -> str:
    """A time somebody asked for, as the tables write times.

    Raises:
        BadQuery: it is none, or has no zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise BadQuery(f"{text[:80]!r} is no time; write 2026-11-30T12:00:00Z") from e
    if moment.tzinfo is None:
        raise BadQuery(f"{text[:80]!r} has no time zone; write 2026-11-30T12:00:00Z")
    return stamp(moment)


def document(text: str | None) -> Any:
    """A stored JSON text; None for none."""
    return None if text is None else json.loads(text)


def rows_as_dicts(rows: Sequence[sqlite3.Row]) -> list[Result]:
    return [dict(row) for row in rows]


def prefix(pattern: str) -> str:
    """What every name that matches *pattern* begins with."""
    found = _WILD.search(pattern)
    return pattern if found is None else pattern[: found.start()]


def after_prefix(begin: str) -> str:
    """A text that sorts behind everything that begins with *begin*."""
    return begin + "\U0010ffff"


def none_of(what: str, next_step: str = "") -> NothingFound:
    return NothingFound(f"there is no {what}{f'; {next_step}' if next_step else ''}")


# -- places


def place(order: str, values: Sequence[object]) -> str:
    """Where a page ends, as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps([order, *values]).encode()).decode().rstrip("=")


def values_of(text: str, order: str, count: int) -> Values:
    """What `place` was made from.

    Raises:
        BadQuery: it was not made by this list in this order.
    """
    try:
        read = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as e:
        raise BadQuery("that place is none; take `next` of the page before") from e
    scalar = isinstance(read, list) and all(isinstance(each, str | int | float) for each in read)
    if not scalar or len(read) != count + 1 or read[0] != order:
        raise BadQuery(f"that place belongs to another list; this one is ordered by {order}")
    return list(read[1:])
