"""Reading playbooks: a mistake is shown with file, line, column, and what is allowed there."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from fleetcast.config import toml
from fleetcast.config.errors import ConfigError, Mistake
from fleetcast.config.toml import Document
from fleetcast.daemons.remedy.playbooks.definition import APPROVAL, On, Playbook, StepDefinition
from fleetcast.daemons.remedy.playbooks.template import KNOWN, names_in

SHIPPED: Final = Path(__file__).parent / "shipped"
"""Playbooks that are part of the program; a folder of one's own adds to them, and replaces by name."""

ParamsOf = Mapping[str, type[BaseModel] | None]
"""The actions that there are, each with the class of its params; None: it takes anything."""

_AGAIN: Final = "correct it, then run: fleetcast playbooks"
_GROUPS: Final[Mapping[str, type[BaseModel]]] = {"steps": StepDefinition, "on": On}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A playbook, and the file that it was read from."""

    playbook: Playbook
    file: Path


@dataclass(frozen=True, slots=True)
class Playbooks:
    """All playbooks in force, by name."""

    all: Mapping[str, Loaded]

    def find(self, name: str) -> Playbook | None:
        """A playbook by its name; None: there is none."""
        loaded = self.all.get(name)
        return None if loaded is None else loaded.playbook

    def close_to(self, name: str) -> str:
        """What to try for a name that there is not."""
        close = get_close_matches(name, self.all, n=1)
        return f"did you mean {close[0]}?" if close else f"there is {', '.join(sorted(self.all))}"


def load_all(folder: Path | None, actions: ParamsOf) -> Playbooks:
    """The shipped playbooks, and those of *folder*.

    Raises:
        ConfigError: a file cannot be read or makes no sense; it names every mistake, each with its place.
    """
    found: dict[str, Loaded] = {}
    mistakes: list[Mistake] = []
    for place in (SHIPPED, folder):
        if place is not None:
            mistakes += _take(place, found, actions)
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return Playbooks(dict(sorted(found.items())))


def _take(folder: Path, found: dict[str, Loaded], actions: ParamsOf) -> list[Mistake]:
    """Read the files of a folder into *found*; what is wrong with them."""
    if not folder.is_dir():
        step = "make the folder, or name another one: remedy.playbooks"
        return [Mistake(str(folder), "is no folder with playbooks", step)]
    mistakes: list[Mistake] = []
    here: dict[str, Path] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            playbook, document = load(path, actions)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        if playbook.name in here:
            message = f"the playbook {playbook.name} is in {here[playbook.name].name} as well"
            mistakes.append(document.at_value(("name",), message, "give one of them another name"))
        here[playbook.name] = path
        found[playbook.name] = Loaded(playbook, path)
    return mistakes


def load(path: Path, actions: ParamsOf) -> tuple[Playbook, Document]:
    """Read one playbook.

    Raises:
        ConfigError: it cannot be read or makes no sense.
    """
    document = _read(path)
    try:
        # As JSON: there a list may be a tuple, while `true` is no number and "5" is none either.
        playbook = Playbook.model_validate_json(json.dumps(document.values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(tuple(_mistake(document, problem) for problem in error.errors())) from error
    mistakes = tuple(_in_steps(document, playbook, actions))
    if mistakes:
        raise ConfigError(mistakes)
    return playbook, document


def _read(path: Path) -> Document:
    try:
        return toml.read(path)
    except ConfigError as error:
        # The reader names the commands for settings.
        raise ConfigError(tuple(replace(mistake, next_step=_AGAIN) for mistake in error.mistakes)) from error


def _in_steps(document: Document, playbook: Playbook, actions: ParamsOf) -> Iterable[Mistake]:
    """Actions that there are not, params that they do not take, names that nothing fills."""
    earlier: list[str] = []
    for index, step in enumerate(playbook.steps):
        at = ("steps", str(index))
        if step.does not in actions and step.does != APPROVAL:
            close = get_close_matches(step.does, actions, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(sorted(actions))}"
            key = "action" if step.action is not None else "name"
            yield document.at_value((*at, key), f"no action is called {step.does!r}", hint)
        yield from _in_params(document, (*at, "params"), actions.get(step.does), step.all_params)
        known = {*KNOWN, *playbook.params}
        for name in names_in(step.all_params):
            if name not in known and not any(name.startswith(f"steps.{each}.") for each in earlier):
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {{{close[0]}}}?" if close else f"known: {', '.join(sorted(known))}"
                key = "command" if step.command is not None else "params"
                yield document.at_value((*at, key), f"nothing is called {{{name}}} here", hint)
        earlier.append(step.name)


def _in_params(
    document: Document, at: tuple[str, ...], kind: type[BaseModel] | None, params: Mapping[str, Any]
) -> Iterable[Mistake]:
    if kind is None:
        return
    try:
        kind.model_validate(params)
    except ValidationError as error:
        for problem in error.errors():
            yield _described(document, at, kind, problem)


def _mistake(document: Document, problem: Any) -> Mistake:
    loc = tuple(str(part) for part in problem["loc"])
    at: tuple[str, ...] = ()
    kind: type[BaseModel] = Playbook
    if len(loc) >= 2 and loc[0] in _GROUPS:
        at, loc, kind = loc[:2], loc[2:], _GROUPS[loc[0]]
    return _described(document, at, kind, {**problem, "loc": loc})


def _described(document: Document, at: tuple[str, ...], kind: type[BaseModel], problem: Any) -> Mistake:
    loc = tuple(str(part) for part in problem["loc"])
    path = (*at, *loc)
    name = ".".join(path) or document.path.name
    field = kind.model_fields.get(loc[0]) if loc else None
    if problem["type"] == "extra_forbidden":
        known = list(kind.model_fields)
        close = get_close_matches(loc[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(known)}"
        return document.at_key(path, f"unknown key {loc[-1]!r}", hint)
    hint = (field.description if field else "") or "what is allowed: docs/playbooks.md"
    if problem["type"] == "missing":
        return document.at_key(path, f"{name} is missing", hint)
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    where = document.at_value if loc else document.at_key
    return where(path, f"{name} {said[:1].lower()}{said[1:]}", hint)
