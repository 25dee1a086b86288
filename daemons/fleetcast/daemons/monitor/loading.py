"""Reading `monitor.toml`: a mistake is shown with file, line, column, and what is allowed there."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from fleetcast.config import toml
from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.config.origins import Origin
from fleetcast.daemons.monitor.policy import Dependent, ModelPolicy, ModelTable, Policy, Rules

_TABLES: Final = ("default", "model")
_HEADERS: Final = 'allowed: [default] and [model."PATTERN"]'
_Path = tuple[str, ...]


def load(path: Path) -> Policy:
    """Read a policy file. What a model's table leaves out is that of [default]; what that leaves out is the seeds'
    value.

    Raises:
        ConfigError: it cannot be read or makes no sense; it names every mistake found, each with its place.
    """
    document = _read(path)
    mistakes = list(_outside(document))
    base_table = _table_of(document.values.get("default"))
    base = _policy(document, ("default",), {}, base_table, mistakes)
    tables = [
        (pattern, _policy(document, ("model", pattern), base_table, _table_of(own), mistakes))
        for pattern, own in _table_of(document.values.get("model")).items()
        if isinstance(own, dict)
    ]
    if mistakes or base is None:
        raise ConfigError(tuple(mistakes))
    return Policy(base, tuple(ModelTable(pattern, each) for pattern, each in tables if each is not None), path.name)


def _read(path: Path) -> toml.Document:
    try:
        return toml.read(path)
    except ConfigError as error:
        # The reader names the commands for settings.
        step = "correct it, then start the monitor again"
        raise ConfigError(tuple(replace(mistake, next_step=step) for mistake in error.mistakes)) from error


def _outside(document: toml.Document) -> Iterator[Mistake]:
    for key, value in document.values.items():
        if key not in _TABLES:
            close = get_close_matches(key, _TABLES, n=1)
            yield document.at_key(
                (key,), f"unknown table or key {key!r}", f"did you mean [{close[0]}]?" if close else _HEADERS
            )
        elif not isinstance(value, dict):
            yield document.at_key((key,), f"{key} is a table", _HEADERS)
    for pattern, own in _table_of(document.values.get("model")).items():
        if not isinstance(own, dict):
            yield document.at_key(
                ("model", pattern), f"model.{pattern} is no table", 'write [model."PATTERN"] above its keys'
            )


def _table_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _policy(
    document: toml.Document, at: _Path, base: Mapping[str, Any], own: Mapping[str, Any], mistakes: list[Mistake]
) -> ModelPolicy | None:
    """The policy of one table over [default], with the line of every value."""
    try:
        # As JSON: there a list may be a tuple, while `true` is no number and "5" is none either.
        rules = Rules.model_validate_json(json.dumps({**base, **own}, default=str), strict=True)
    except ValidationError as error:
        # What is wrong in [default] already is said once, there.
        problems = [each for each in error.errors() if at[0] == "default" or not each["loc"] or each["loc"][0] in own]
        mistakes += [_mistake(document, at, problem) for problem in problems]
        return None
    origins = {name: _origin(document, ("default", name)) for name in base}
    origins |= {name: _origin(document, (*at, name)) for name in own}
    return ModelPolicy.model_validate({**rules.model_dump(), "origins": origins})


def _origin(document: toml.Document, at: _Path) -> Origin:
    return Origin("file", document.path.name, document.line(at))


def _mistake(document: toml.Document, at: _Path, problem: Any) -> Mistake:
    loc = tuple(str(part) for part in problem["loc"])
    name = ".".join((*at, *loc))
    if problem["type"] == "extra_forbidden":
        known = list(Rules.model_fields if len(loc) == 1 else Dependent.model_fields)
        close = get_close_matches(loc[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(known)}"
        return document.at_key((*at, *loc), f"unknown key {loc[-1]!r} in [{'.'.join((*at, *loc[:-1]))}]", hint)
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    field = Rules.model_fields.get(loc[0]) if loc else None
    hint = (field.description if field is not None else None) or "what is allowed: docs/monitoring.md"
    where = document.at_value if loc else document.at_key
    return where((*at, *loc), f"{name} {said[:1].lower()}{said[1:]}", hint)
