"""Reading lanes: a mistake is shown with file, line, column, and what is allowed there."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from fleetcast.config import toml
from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.config.toml import Document
from fleetcast.daemons.trainer.lanes.definition import LaneDefinition
from fleetcast.events.ids import is_name

_TABLES: Final = ("default", "lane")
_HEADERS: Final = "allowed: [default] and [lane.NAME]"
_AGAIN: Final = "correct it, then start the trainer again"
_DOCS: Final = "what is allowed: docs/training.md"
_PLACEHOLDER: Final[Mapping[str, Any]] = {"name": "default", "command": ["-"]}
"""What [default] lacks to be checked as a lane."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A lane, and the file that it was read from."""

    definition: LaneDefinition
    file: Path


@dataclass(frozen=True, slots=True)
class Lanes:
    """All lanes in force, by name."""

    all: Mapping[str, Loaded]

    def find(self, lane: str) -> LaneDefinition | None:
        """A lane by its name; None: there is none."""
        loaded = self.all.get(lane)
        return None if loaded is None else loaded.definition

    @property
    def digests(self) -> dict[str, str]:
        """Their digests, to compare trainers by."""
        return {lane: loaded.definition.digest for lane, loaded in self.all.items()}

    def close_to(self, lane: str) -> str:
        """What to try for a name that there is not."""
        if not self.all:
            return "no lane is defined: trainer.lanes"
        close = get_close_matches(lane, self.all, n=1)
        return f"did you mean {close[0]}?" if close else f"there is {', '.join(sorted(self.all))}"


def load_all(path: Path | None) -> Lanes:
    """The lanes of a file, or of the `*.toml` in a folder; none for None.

    Raises:
        ConfigError: a file cannot be read or makes no sense; it names every mistake, each with its place.
    """
    found: dict[str, Loaded] = {}
    mistakes: list[Mistake] = []
    for file in _files(path):
        try:
            lanes, document = load(file)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        for lane in lanes:
            if lane.name in found:
                message = f"the lane {lane.name} is in {found[lane.name].file.name} as well"
                mistakes.append(document.at_key(("lane", lane.name), message, "remove one of the two"))
            found[lane.name] = Loaded(lane, file)
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return Lanes(dict(sorted(found.items())))


def _files(path: Path | None) -> list[Path]:
    if path is None:
        return []
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def load(path: Path) -> tuple[tuple[LaneDefinition, ...], Document]:
    """Read one file. What a lane's table leaves out is that of [default], table by table.

    Raises:
        ConfigError: it cannot be read or makes no sense.
    """
    document = _read(path)
    mistakes = list(_outside(document))
    base = _table(document.values.get("default"))
    if not mistakes:
        mistakes += _in_default(document, base)
    lanes: list[LaneDefinition] = []
    if not mistakes:
        for name, own in _table(document.values.get("lane")).items():
            try:
                lanes.append(_lane({**_over(base, own), "name": name}))
            except ValidationError as error:
                mistakes += [_mistake(document, ("lane", name), own, each) for each in error.errors()]
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return tuple(lanes), document


def _read(path: Path) -> Document:
    try:
        return toml.read(path)
    except ConfigError as error:
        # The reader names the commands for settings.
        raise ConfigError(tuple(replace(mistake, next_step=_AGAIN) for mistake in error.mistakes)) from error


def _lane(values: Mapping[str, Any]) -> LaneDefinition:
    # As JSON: there a list may be a tuple, while `true` is no number and "5" is none either.
    return LaneDefinition.model_validate_json(json.dumps(values, default=str), strict=True)


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """*own* over *base*; a table in both is one table."""
    merged = {**base, **own}
    both = (k for k in base.keys() & own.keys() if isinstance(base[k], dict) and isinstance(own[k], dict))
    return merged | {key: _over(base[key], own[key]) for key in both}


def _outside(document: Document) -> Iterator[Mistake]:
    for key, value in document.values.items():
        if key not in _TABLES:
            close = get_close_matches(key, _TABLES, n=1)
            hint = f"did you mean [{close[0]}]?" if close else _HEADERS
            yield document.at_key((key,), f"unknown table or key {key!r}", hint)
        elif not isinstance(value, dict):
            yield document.at_key((key,), f"{key} is a table", _HEADERS)
    for name, own in _table(document.values.get("lane")).items():
        at = ("lane", name)
        if not is_name(name):
            yield document.at_key(at, f"{name!r} names no lane", "1 to 48 of a-z 0-9 _ -, as in [lane.hex8_2p]")
        elif not isinstance(own, dict):
            yield document.at_key(at, f"lane.{name} is no table", "write [lane.NAME] above its keys")
        elif "name" in own:
            yield document.at_key((*at, "name"), "the name of a lane is that of its table", "remove the key")


def _in_default(document: Document, base: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong in [default] is said once, there."""
    if "name" in base:
        yield document.at_key(("default", "name"), "[default] holds for all lanes and has no name", "remove the key")
        return
    try:
        _lane({**_PLACEHOLDER, **base})
    except ValidationError as error:
        for each in error.errors():
            yield _mistake(document, ("default",), base, each)


def _mistake(document: Document, at: tuple[str, ...], own: Mapping[str, Any], problem: Any) -> Mistake:
    loc = tuple(str(part) for part in problem["loc"] if part != "[key]")
    # A value that only [default] has was right there: what is wrong is how the lane's own table goes with it.
    path = (*at, *(loc if not loc or loc[0] in own else ()))
    name = ".".join((*at, *loc))
    kind, field = _field(loc)
    if problem["type"] == "extra_forbidden":
        known = [each for each in kind.model_fields if each != "name"]
        close = get_close_matches(loc[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(known)}"
        return document.at_key((*at, *loc), f"unknown key {loc[-1]!r} in [{'.'.join((*at, *loc[:-1]))}]", hint)
    hint = field or _DOCS
    if problem["type"] == "missing":
        return document.at_key(path, f"{name} is missing", hint)
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    where = document.at_value if loc else document.at_key
    return where(path, f"{name} {said[:1].lower()}{said[1:]}", hint)


def _field(loc: tuple[str, ...]) -> tuple[type[BaseModel], str]:
    """The group that the last part of *loc* belongs to, and the description nearest to it."""
    kind: type[BaseModel] = LaneDefinition
    said = ""
    for part in loc:
        field = kind.model_fields.get(part)
        if field is None:
            break
        said = field.description or said
        inside = _group(field.annotation)
        if inside is None:
            break
        if part != loc[-1]:
            kind = inside
    return kind, said


def _group(annotation: Any) -> type[BaseModel] | None:
    """The group in a field's type, also in `Group | None`."""
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next((each for each in options if isinstance(each, type) and issubclass(each, BaseModel)), None)
