"""The questions that can be asked, by name; what they take is what their functions take."""

import inspect
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fleetcast.registry.readmodel import comparing, consumed, listing, models, past, performance, training, versions
from fleetcast.registry.readmodel.asked import Result
from fleetcast.registry.readmodel.errors import BadQuery


@dataclass(frozen=True)
class Query:
    """A question.

    Attributes:
        ask: answers it over a connection that reads; raises BadQuery, NothingFound.
    """

    name: str
    ask: Callable[..., Result]

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """What it takes, as a type that checks it."""
        hints = get_type_hints(self.ask, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
            for name, parameter in inspect.signature(self.ask).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        return create_model(f"{self.name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments in *given*.

        Raises:
            BadQuery: they are not what it takes.
        """
        try:
            checked = self.arguments.model_validate(dict(given))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadQuery(f"{self.name}: {where}: {first['msg']}; it takes {', '.join(self.takes)}") from e
        return {name: getattr(checked, name) for name in self.arguments.model_fields}

    @property
    def takes(self) -> list[str]:
        """Names of its arguments; with a `*` those that must be given."""
        return [f"{name}{'*' if field.is_required() else ''}" for name, field in self.arguments.model_fields.items()]


_FUNCTIONS: Final[Mapping[str, Callable[..., Result]]] = {
    "versions": listing.list_versions,
    "models": models.models,
    "info": versions.info,
    "compare": versions.compare,
    "history": past.history,
    "decision": past.decision,
    "registry_at": past.registry_at,
    "consumption": consumed.consumption,
    "rollouts": models.rollouts,
    "freezes": models.freezes,
    "runs": training.runs,
    "run": training.run,
    "compare_runs": comparing.compare_runs,
    "stats": models.stats,
    "performance": performance.performance,
    "rollback_reasons": performance.rollback_reasons,
}
QUERIES: Final[Mapping[str, Query]] = {name: Query(name, ask) for name, ask in _FUNCTIONS.items()}


def answer(db: sqlite3.Connection, name: str, arguments: Mapping[str, Any]) -> Result:
    """The answer to a question.

    Raises:
        BadQuery: there is no such question, or it does not take that.
        NothingFound: what it asks for does not exist.
    """
    query = QUERIES.get(name)
    if query is None:
        raise BadQuery(f"there is no query {name[:80]!r}; there is {', '.join(sorted(QUERIES))}")
    return query.ask(db, **query.read(arguments))
