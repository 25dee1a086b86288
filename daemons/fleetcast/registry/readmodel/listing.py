"""Lists of versions: filters, orders and pages that stay quick over a hundred thousand of them."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import Field

from fleetcast.events.lifecycle import StageName
from fleetcast.registry.readmodel.asked import (
    Kind,
    Limit,
    Pattern,
    Place,
    Result,
    Short,
    Values,
    after_prefix,
    document,
    place,
    prefix,
    values_of,
)

Order = Literal["model", "registered", "since", "elo", "-model", "-registered", "-since", "-elo"]
"""`model`: by model, in each the highest version first; `registered`, `since`: the newest first; `elo`: the strongest
first, rated versions only. With `-` the other way round."""

FEW_ROWS: Final = 5000
"""A filter that leaves no more than this many rows is the way in; otherwise the order is: a page of common rows is soon
full, and sorting tens of thousands of rows is slower than passing some over."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    descending: bool = False

    @property
    def sql(self) -> str:
        return f"v.{self.name} {'DESC' if self.descending else 'ASC'}"

    def turned(self) -> "_Column":
        return _Column(self.name, not self.descending)


_KEY: Final = ("model", "version_key", "version", "kind")
# What has the same time or rating comes in the order of an index that is read backwards.
_ORDERS: Final[Mapping[str, tuple[_Column, ...]]] = {
    "model": (_Column("model"), *(_Column(name, descending=True) for name in _KEY[1:])),
    "registered": tuple(_Column(name, descending=True) for name in ("registered_at", *_KEY)),
    "since": tuple(_Column(name, descending=True) for name in ("since", *_KEY)),
    "elo": tuple(_Column(name, descending=True) for name in ("elo", *_KEY)),
}


@dataclass
class _Where:
    """Conditions and their values."""

    conditions: list[str] = field(default_factory=list)
    values: Values = field(default_factory=list)

    def add(self, condition: str, *values: object) -> None:
        self.conditions.append(condition)
        self.values.extend(values)

    @property
    def sql(self) -> str:
        return " AND ".join(self.conditions) or "1"


def list_versions(
    db: sqlite3.Connection,
    *,
    model: Pattern | None = None,
    stage: StageName | tuple[StageName, ...] | None = None,
    tags: tuple[Short, ...] = (),
    owner: Short | None = None,
    team: Short | None = None,
    framework: Short | None = None,
    model_type: Short | None = None,
    format: Short | None = None,  # noqa: A002  # the word that lists show
    origin: Short | None = None,
    run_id: Short | None = None,
    artifact: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")] | None = None,
    text: Short | None = None,
    served: bool | None = None,
    kind: Kind = Kind.MODEL,
    order: Order = "model",
    after: Place | None = None,
    limit: Limit = 50,
    count: bool = False,
) -> Result:
    """Versions that match all that is given.

    Args:
        model: a shell pattern.
        tags: all of them.
        text: words that stand in what is said about a version, in any case of letters.
        artifact: at least its first 16 digits.
        served: only what nodes were told to serve once, or what they never were.
        after: `next` of the page before.
        count: say how many there are in all, which takes longer than a page.

    Returns:
        `versions` (see `flatten.listed`; `slots` besides: which of the model's slots it is in), `next` (None: that was
        the last page), `total` (None: not asked for).
    """
    facets = {
        "stage": stage,
        "owner": owner,
        "team": team,
        "framework": framework,
        "model_type": model_type,
        "run_id": run_id,
    }
    where = _plain_filters({"format": format, "origin": origin, "kind": kind.value})
    _add_names(where, model, artifact)
    if served is not None:
        where.add(f"{_OF_DOCUMENT.format('was_served')} = ?", int(served))
    rare = _add_tags(db, where, sorted(set(tags)))
    for word in (text or "").lower().split():
        where.add("instr(v.search, ?) > 0", word)
    _add_facets(db, where, {name: _choices(given) for name, given in facets.items() if given}, unused=rare)
    total = _count(db, where, order) if count else None
    columns = _columns(order)
    if after is not None:
        _add_place(where, columns, values_of(after, order, len(columns)))
    return {**_page(db, where, order, columns, limit), "total": total}


_OF_DOCUMENT: Final = (
    "(SELECT json_extract(d.listed, '$.{}') FROM documents d "
    "WHERE d.model = v.model AND d.version = v.version AND d.kind = v.kind)"
)
_SAME: Final = "t.model = v.model AND t.version_key = v.version_key AND t.version = v.version AND t.kind = v.kind"
_TAGGED: Final = f"EXISTS (SELECT 1 FROM tags t WHERE t.tag = ? AND {_SAME})"  # noqa: S608  # our own names
_RARELY_TAGGED: Final = (
    "(v.model, v.version_key, v.version, v.kind) IN (SELECT model, version_key, version, kind FROM tags WHERE tag = ?)"
)


def _plain_filters(equal: Mapping[str, object]) -> _Where:
    where = _Where()
    for name, value in equal.items():
        if value is not None:
            where.add(f"v.{name} = ?", value)
    return where


def _add_names(where: _Where, model: str | None, artifact: str | None) -> None:
    if model is not None:
        begin = prefix(model)
        if begin == model:
            where.add("v.model = ?", model)
        else:
            where.add("v.model >= ? AND v.model < ? AND v.model GLOB ?", begin, after_prefix(begin), model)
    if artifact is not None:
        where.add("v.artifact16 = ?", artifact[:16])
        if len(artifact) > 16:
            where.add(f"{_OF_DOCUMENT.format('artifact')} GLOB ?", f"{artifact}*")


def _choices(given: object) -> list[str]:
    several = given if isinstance(given, tuple) else (given,)
    return [str(each) for each in several]


def _add_tags(db: sqlite3.Connection, where: _Where, tags: Sequence[str]) -> bool:
    """Add all *tags*; whether the rarest of them is the way in."""
    counted = "SELECT count(*) FROM (SELECT 1 FROM tags WHERE tag = ? LIMIT ?)"
    counts = {tag: int(db.execute(counted, (tag, FEW_ROWS + 1)).fetchone()[0]) for tag in tags}
    rarest = min(counts, key=lambda tag: counts[tag], default=None)
    way_in = rarest if rarest is not None and counts[rarest] <= FEW_ROWS else None
    for tag in tags:
        where.add(_RARELY_TAGGED if tag == way_in else _TAGGED, tag)
    return way_in is not None


def _add_facets(db: sqlite3.Connection, where: _Where, facets: Mapping[str, Sequence[str]], *, unused: bool) -> None:
    """Add the filters that have an index, and let only the rarest one be used for it, where it is rare enough.

    Args:
        unused: none may be: there is a better way in.
    """
    counts = {name: _rows(db, name, values) for name, values in facets.items()}
    rarest = min(counts, key=lambda name: counts[name], default=None)
    way_in = None if unused or rarest is None or counts[rarest] > FEW_ROWS else rarest
    for name, values in facets.items():
        # A unary plus keeps SQLite from taking the index.
        column = f"v.{name}" if name == way_in else f"+v.{name}"
        where.add(f"{column} IN ({', '.join('?' * len(values))})", *values)


def _rows(db: sqlite3.Connection, facet: str, values: Sequence[str]) -> int:
    """How many rows a filter leaves; counting ends where it does not matter any more."""
    places = ", ".join("?" * len(values))
    counted = f"SELECT count(*) FROM (SELECT 1 FROM versions WHERE {facet} IN ({places}) LIMIT ?)"  # noqa: S608  # ours
    return int(db.execute(counted, (*values, FEW_ROWS + 1)).fetchone()[0])


def _columns(order: str) -> tuple[_Column, ...]:
    columns = _ORDERS[order.removeprefix("-")]
    return tuple(column.turned() for column in columns) if order.startswith("-") else columns


def _add_place(where: _Where, columns: Sequence[_Column], values: Sequence[object]) -> None:
    """Only what comes after *values* in the order of *columns*."""
    first = columns[0]
    # The leading bound is implied by the rest; alone it lets SQLite begin there instead of at the start.
    where.add(f"v.{first.name} {'<=' if first.descending else '>='} ?", values[0])
    alternatives, used = [], []
    for n, column in enumerate(columns):
        equal = [f"v.{c.name} = ?" for c in columns[:n]]
        alternatives.append(" AND ".join([*equal, f"v.{column.name} {'<' if column.descending else '>'} ?"]))
        used += list(values[: n + 1])
    where.add(f"({' OR '.join(f'({each})' for each in alternatives)})", *used)


def _count(db: sqlite3.Connection, where: _Where, order: str) -> int:
    rated = " AND v.elo IS NOT NULL" if order.endswith("elo") else ""
    counted = f"SELECT count(*) FROM versions v WHERE {where.sql}{rated}"  # noqa: S608  # our own names
    return int(db.execute(counted, where.values).fetchone()[0])


def _page(
    db: sqlite3.Connection, where: _Where, order: str, columns: Sequence[_Column], limit: int
) -> dict[str, object]:
    rated = " AND v.elo IS NOT NULL" if columns[0].name == "elo" else ""
    names = ", ".join(f"v.{column.name}" for column in columns)
    ordered = ", ".join(column.sql for column in columns)
    # One row more than is shown tells whether there is another page.
    found = db.execute(
        f"SELECT {names}, v.model AS m, v.version AS v, v.kind AS k FROM versions v "  # noqa: S608  # our own names
        f"WHERE {where.sql}{rated} ORDER BY {ordered} LIMIT ?",
        (*where.values, limit + 1),
    ).fetchall()
    shown = found[:limit]
    ends = place(order, list(shown[-1])[: len(columns)]) if len(found) > limit else None
    return {"versions": [listed(db, row["m"], row["v"], row["k"]) for row in shown], "next": ends}


def listed(db: sqlite3.Connection, model: str, version: str, kind: str) -> Result:
    """A version as lists show it, and the slots that it is in."""
    text = db.execute(
        "SELECT listed FROM documents WHERE model = ? AND version = ? AND kind = ?", (model, version, kind)
    ).fetchone()[0]
    shown: Result = document(text)
    return {**shown, "slots": slots_holding(db, model, version, kind)}


def slots_holding(db: sqlite3.Connection, model: str, version: str, kind: str) -> list[str]:
    """Which of the model's slots a version is in: `production`, `canary`, `previous`."""
    row = db.execute(
        "SELECT production, canary, previous FROM slots WHERE model = ? AND kind = ?", (model, kind)
    ).fetchone()
    return [] if row is None else [name for name in ("production", "canary", "previous") if row[name] == version]
