"""From file, environment and flags to settings, with the origin of every value.

Later sources win: default, the selected NATS context (whole, and only where nothing else says which server), file,
the context named by `NATS_CONTEXT`, `NATS_*` variables, `FLEETCAST_*` variables, flags. Relative paths in a file are
taken from the file's folder, all others from the current one; `~` is the home folder; `credential:FILE` is a secret
that the service manager hands over (`credentials`).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fleetcast.config import credentials, natscli, toml
from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.config.group import Group
from fleetcast.config.origins import Given, Origin
from fleetcast.config.settings import SECRETS, Settings

PREFIX = "FLEETCAST_"
FILE_VARIABLE = "FLEETCAST_CONFIG"
SEARCHED = (Path("fleetcast.toml"), Path("/etc/fleetcast/fleetcast.toml"))
HIDDEN = "********"

Layer = dict[str, Given]
"""Values by dotted name (`bus.url`)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as it is shown: dotted name, value (secrets hidden), origin."""

    name: str
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Loaded:
    """Checked settings; the origin of each, by dotted name; and the file that was read, where there was one."""

    settings: Settings
    origins: dict[str, Origin]
    file: Path | None

    def rows(self) -> list[Row]:
        """All settings in the order of their declaration, for people: secrets are hidden."""
        return [Row(name, self._shown(name), origin) for name, origin in self.origins.items()]

    def _shown(self, name: str) -> object:
        section, field = name.split(".")
        value = getattr(getattr(self.settings, section), field)
        return HIDDEN if value and name in SECRETS else value


def load(
    path: Path | None = None,
    *,
    env: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] | None = None,
    searched: tuple[Path, ...] = SEARCHED,
) -> Loaded:
    """Load the settings of this node.

    `path` is the file asked for (`--config`); without one `$FLEETCAST_CONFIG` is, and else the first of `searched` that
    exists, which may be none. `flags` are values by dotted name; None means that the flag was not given.

    Raises:
        ConfigError: a file that was asked for does not exist, or something in file, environment or flags is wrong; it
            names every mistake found, each with its place.
    """
    document = _document(path, env, searched)
    mistakes: list[Mistake] = []
    layers = _layers(document, env, flags or {}, mistakes)
    given: Layer = {name: _found(value, env) for layer in layers for name, value in layer.items()}
    settings = _validated(given, document, mistakes)
    if mistakes or settings is None:
        raise ConfigError(tuple(mistakes))
    origins = {name: given[name].origin if name in given else Origin() for name, _ in named_fields()}
    return Loaded(settings, origins, document.path if document else None)


def named_fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting with its dotted name, in the order of declaration."""
    for section, group in sections().items():
        for field, info in group.model_fields.items():
            yield f"{section}.{field}", info


def sections() -> dict[str, type[Group]]:
    """The groups of settings by their name in the file."""
    annotations = {name: info.annotation for name, info in Settings.model_fields.items()}
    return {name: kind for name, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, Group)}


def variable(name: str) -> str:
    """The environment variable of a setting: `bus.url` -> `FLEETCAST_BUS_URL`."""
    return PREFIX + name.replace(".", "_").upper()


def _document(path: Path | None, env: Mapping[str, str], searched: tuple[Path, ...]) -> toml.Document | None:
    asked = path or (Path(env[FILE_VARIABLE]).expanduser() if env.get(FILE_VARIABLE) else None)
    if asked:
        return toml.read(asked)
    found = next((candidate for candidate in searched if candidate.exists()), None)
    return toml.read(found) if found else None


def _layers(
    document: toml.Document | None, env: Mapping[str, str], flags: Mapping[str, object], mistakes: list[Mistake]
) -> list[Layer]:
    explicit = [
        _from_file(document, mistakes) if document else {},
        _from_nats(env, mistakes),
        _from_environment(env, mistakes),
        _from_flags(flags, mistakes),
    ]
    said = {name for layer in explicit for name in layer}
    selected = natscli.selected_context(env)
    # A context's credentials are for its own server: they are not sent to one that was named elsewhere.
    implicit = selected.values() if selected and not said & natscli.REACHING else {}
    return [_anchored(implicit, Path.cwd()), *explicit]


def _from_file(document: toml.Document, mistakes: list[Mistake]) -> Layer:
    layer: Layer = {}
    for section, table in document.values.items():
        group = sections().get(section)
        if group is None:
            mistakes.append(_unknown_section(document, section))
        elif not isinstance(table, dict):
            mistakes.append(document.at_key((section,), f"{section} is a table", f"write [{section}] above its keys"))
        else:
            layer |= _from_table(document, section, group, table, mistakes)
    return _anchored(layer, document.path.absolute().parent)


def _from_table(
    document: toml.Document, section: str, group: type[Group], table: dict[str, Any], mistakes: list[Mistake]
) -> Layer:
    layer: Layer = {}
    for key, value in table.items():
        if key in group.model_fields and isinstance(value, bool) and group.model_fields[key].annotation is not bool:
            # Python's true is also the number 1: `replicas = true` would pass.
            message = f"{section}.{key} should not be true or false"
            mistakes.append(document.at_value((section, key), message, group.model_fields[key].description or ""))
        elif key in group.model_fields:
            origin = Origin("file", str(document.path), document.line((section, key)))
            layer[f"{section}.{key}"] = Given(value, origin)
        else:
            message = f"unknown key {key!r} in [{section}]"
            mistakes.append(document.at_key((section, key), message, _suggestion(key, section)))
    return layer


def _from_nats(env: Mapping[str, str], mistakes: list[Mistake]) -> Layer:
    try:
        context = natscli.named_context(env)
        return _anchored({**(context.values() if context else {}), **natscli.from_variables(env)}, Path.cwd())
    except ConfigError as error:
        mistakes.extend(error.mistakes)
        return {}


def _from_environment(env: Mapping[str, str], mistakes: list[Mistake]) -> Layer:
    known = {variable(name): (name, info) for name, info in named_fields()}
    groups = tuple(f"{PREFIX}{section.upper()}_" for section in sections())
    layer: Layer = {}
    for key in sorted(key for key in env if key.startswith(groups) and env[key]):
        if key in known:
            name, info = known[key]
            layer[name] = Given(_split(env[key], info), Origin("environment", key))
        else:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"unset {key}"
            mistakes.append(Mistake(key, "no setting has this variable", hint))
    return _anchored(layer, Path.cwd())


def _from_flags(flags: Mapping[str, object], mistakes: list[Mistake]) -> Layer:
    known = dict(named_fields())
    mistakes.extend(Mistake(name, "no setting has this name", _suggestion(name)) for name in flags if name not in known)
    given = {name: value for name, value in flags.items() if value is not None and name in known}
    return _anchored({name: Given(value, Origin("flag", name)) for name, value in given.items()}, Path.cwd())


def _split(text: str, info: FieldInfo) -> object:
    """A variable's text as a value: lists are separated by commas, tables are `key=value` pairs separated by commas."""
    kind = getattr(info.annotation, "__origin__", None)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if kind is tuple:
        return parts
    if kind is dict:
        return {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in parts)}
    return text


def _anchored(layer: Layer, folder: Path) -> Layer:
    """The layer with its paths made absolute."""
    holds_paths = {name for name, info in named_fields() if _holds_paths(info.annotation)}
    return {
        name: Given(_absolute(given.value, folder), given.origin) if name in holds_paths else given
        for name, given in layer.items()
    }


def _holds_paths(annotation: Any) -> bool:
    return annotation is Path or any(_holds_paths(argument) for argument in get_args(annotation))


def _absolute(value: object, folder: Path) -> object:
    if credentials.is_named(value):
        return value
    if isinstance(value, str | Path):
        return folder / Path(value).expanduser()
    if isinstance(value, list | tuple):
        return [_absolute(part, folder) for part in value]
    return value


def _found(given: Given, env: Mapping[str, str]) -> Given:
    """A setting that names a credential, with the file that this process has under that name."""
    if not credentials.is_named(given.value):
        return given
    return Given(credentials.place(str(given.value), env), given.origin)


def _validated(given: Layer, document: toml.Document | None, mistakes: list[Mistake]) -> Settings | None:
    nested: dict[str, dict[str, object]] = {section: {} for section in sections()}
    for name, value in given.items():
        section, field = name.split(".")
        nested[section][field] = value.value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        mistakes.extend(_value_mistake(problem, given, document) for problem in error.errors())
        return None


def _value_mistake(problem: Any, given: Layer, document: toml.Document | None) -> Mistake:
    section, field, *inside = (str(part) for part in problem["loc"])
    name = f"{section}.{field}"
    origin = given[name].origin
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    # A row of an array of tables has a place, and a key, of its own.
    named = ".".join((name, *inside)) if len(inside) > 1 else name
    message = f"{named} {said[:1].lower()}{said[1:]}"
    next_step = dict(named_fields())[name].description or ""
    if origin.kind == "file" and document:
        return document.at_value((section, field, *inside), message, next_step)
    return Mistake(str(origin), f"{message}, not {HIDDEN if name in SECRETS else problem['input']!r}", next_step)


def _unknown_section(document: toml.Document, section: str) -> Mistake:
    if isinstance(document.values[section], dict):
        close = get_close_matches(section, sections(), n=1)
        hint = f"did you mean [{close[0]}]?" if close else f"known tables: {', '.join(sections())}"
        return document.at_key((section,), f"unknown table [{section}]", hint)
    return document.at_key((section,), f"unknown key {section!r} outside of any table", _suggestion(section))


def _suggestion(key: str, section: str = "") -> str:
    """The setting that was probably meant: one of the same table first, then the same key of another one."""
    inside = list(sections()[section].model_fields) if section else [name for name, _ in named_fields() if "." in key]
    if close := get_close_matches(key, inside, n=1):
        return f"did you mean {close[0]}?"
    elsewhere = [name for name, _ in named_fields() if get_close_matches(key, [name.split(".")[1]], n=1, cutoff=0.8)]
    if elsewhere:
        return "did you mean " + " or ".join(f"{field} in [{table}]" for table, field in map(_halves, elsewhere)) + "?"
    return "all settings with their meaning: fleetcast init --print"


def _halves(name: str) -> tuple[str, str]:
    table, _, field = name.partition(".")
    return table, field
