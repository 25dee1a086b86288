"""Reading `gates.toml`: a mistake is shown with file, line, column, and what is allowed there."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from fleetcast.config import toml
from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.config.group import Group
from fleetcast.registry.gates.policy import UPWARD, ModelPolicy, Pattern, Policy, Profile

_TABLES: Final = ("default", "profile")
_NO_NAME: Final = "a profile is named by its table: [profile.NAME]"
_Path = tuple[str, ...]


class _ProfileTable(ModelPolicy):
    """A table [profile.NAME] as it is written."""

    models: tuple[Pattern, ...] = Field(min_length=1, description="Shell patterns of the models that it is for.")


def load(path: Path) -> Policy:
    """Read a gates file.

    A key that a profile leaves out is that of [default]; a table `gates.STAGE` of a profile stands for itself. A key
    that [default] leaves out has the default of `policy`: a gate that is not named is not asked for.

    Raises:
        ConfigError: it cannot be read or makes no sense; it names every mistake found, each with its place.
    """
    document = _read(path)
    mistakes = list(_outside(document))
    base = _table(document, ("default",), ModelPolicy, {}, mistakes)
    profiles = [
        (name, _table(document, ("profile", name), _ProfileTable, document.values.get("default", {}), mistakes))
        for name in _named(document)
    ]
    if mistakes:
        raise ConfigError(tuple(mistakes))
    assert base is not None, "no mistake was found"
    return Policy(name=path.name, base=base, profiles=tuple(_profile(name, table) for name, table in profiles if table))


def _read(path: Path) -> toml.Document:
    try:
        return toml.read(path)
    except ConfigError as error:
        # The reader names the commands for settings.
        step = f"correct it, then run: fleetcast gates check {path}"
        raise ConfigError(tuple(replace(mistake, next_step=step) for mistake in error.mistakes)) from error


def _profile(name: str, table: ModelPolicy) -> Profile:
    assert isinstance(table, _ProfileTable)
    said = table.model_dump(exclude={"models", "profile"}, by_alias=True)
    return Profile(models=table.models, policy=ModelPolicy.model_validate({**said, "profile": name}))


def _outside(document: toml.Document) -> Iterable[Mistake]:
    if "default" not in document.values:
        yield document.at_key((), "there is no [default]", "say what holds for every model: [default]")
    for key, value in document.values.items():
        if key not in _TABLES:
            close = get_close_matches(key, _TABLES, n=1)
            hint = f"did you mean [{close[0]}]?" if close else "allowed: [default] and [profile.NAME]"
            yield document.at_key((key,), f"unknown table or key {key!r}", hint)
        elif not isinstance(value, dict) or (key == "profile" and not all(isinstance(v, dict) for v in value.values())):
            yield document.at_key((key,), f"{key} is a table", "write [default], or [profile.NAME], above its keys")


def _named(document: toml.Document) -> list[str]:
    profiles = document.values.get("profile", {})
    return [name for name, value in profiles.items() if isinstance(value, dict)] if isinstance(profiles, dict) else []


def _table(
    document: toml.Document, at: _Path, kind: type[ModelPolicy], base: object, mistakes: list[Mistake]
) -> ModelPolicy | None:
    """The policy of one table, with what it takes from [default]."""
    own: Any = document.values
    for part in at:
        own = own.get(part, {})
    if not isinstance(own, dict):
        return None
    if "profile" in own:
        mistakes.append(document.at_key((*at, "profile"), f"unknown key 'profile' in [{'.'.join(at)}]", _NO_NAME))
    given = _merged(base, own) if isinstance(base, dict) else own
    try:
        # As JSON: there a list may be a tuple, while `true` is no number and "5" is none either.
        return kind.model_validate_json(json.dumps(given, default=str), strict=True)
    except ValidationError as error:
        problems = error.errors()
    # What is wrong in [default] already is said once, there.
    mine = [
        problem
        for problem in problems
        if (at == ("default",) or _said_by(own, problem["loc"])) and not _follows(problem, problems)
    ]
    mistakes.extend(_mistake(document, at, kind, problem) for problem in mine)
    return None


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A profile over [default]: without what belongs to stages that its pipeline leaves out."""
    pipeline = own.get("pipeline", base.get("pipeline"))
    stages = pipeline if isinstance(pipeline, list) else [stage.value for stage in UPWARD]
    inherited = {key: value for key, value in base.items() if key != "canary_steps" or "canary" in stages}
    gates = {**_kept(base.get("gates"), stages), **_table_of(own.get("gates"))}
    return {**inherited, **own, **({"gates": gates} if gates or "gates" in base else {})}


def _kept(gates: object, stages: list[str]) -> dict[str, Any]:
    return {stage: table for stage, table in _table_of(gates).items() if stage in stages}


def _table_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _said_by(own: Mapping[str, Any], loc: tuple[int | str, ...]) -> bool:
    """Whether a problem is about what this table says itself; problems of the whole are."""
    if not loc or loc == ("models",):
        return True
    inside = _table_of(own.get(str(loc[0])))
    return str(loc[0]) in own and (loc[0] != "gates" or len(loc) < 2 or str(loc[1]) in inside)


def _follows(problem: Any, problems: Iterable[Any]) -> bool:
    """Whether a list is too short only because something in it is wrong."""
    loc = problem["loc"]
    return problem["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in problems)


def _mistake(document: toml.Document, at: _Path, kind: type[BaseModel], problem: Any) -> Mistake:
    loc = tuple(str(part) for part in problem["loc"] if part != "[key]")
    path = (*at, *loc)
    name = ".".join(path)
    owner, field = _walk(kind, loc)
    if problem["type"] == "extra_forbidden":
        known = [key for key in _keys(owner) if key != "profile"]
        close = get_close_matches(loc[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(known)}"
        return document.at_key(path, f"unknown key {loc[-1]!r} in [{'.'.join(path[:-1])}]", hint)
    if problem["type"] == "missing":
        return document.at_key(path, f"{name} is missing", field.description if field and field.description else name)
    if problem["type"] == "too_short":
        return document.at_value(path, f"{name} is empty", field.description or "" if field else "")
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    hint = (field.description if field else "") or "what is allowed: docs/gates.md"
    where = document.at_key if not loc else document.at_value
    return where(path, f"{name} {said[:1].lower()}{said[1:]}", hint)


def _keys(kind: type[BaseModel] | None) -> list[str]:
    return [info.alias or name for name, info in kind.model_fields.items()] if kind else []


def _walk(kind: type[BaseModel], loc: _Path) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The group that the last part of a place belongs to, and the last field on the way there."""
    owner: type[BaseModel] | None = kind
    current: Any = kind
    field: FieldInfo | None = None
    for part in loc:
        owner = current if isinstance(current, type) and issubclass(current, Group) else None
        if owner is None:
            current = _element(current)
            continue
        found = {info.alias or name: info for name, info in owner.model_fields.items()}.get(part)
        if found is None:
            break
        field, current = found, _plain(found.annotation)
    return owner, field


def _plain(annotation: Any) -> Any:
    """A type without the `None` beside it."""
    if get_origin(annotation) in (Union, UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _element(annotation: Any) -> Any:
    """What a tuple or a mapping holds."""
    arguments = get_args(annotation)
    return _plain(arguments[1] if get_origin(annotation) is dict else arguments[0]) if arguments else annotation
