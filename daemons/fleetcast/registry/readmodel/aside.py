"""The tables of runs without a read model: made in memory from events, for whoever finds no registry daemon."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from fleetcast.events.names import CATALOGUE
from fleetcast.registry.readmodel.asked import Result
from fleetcast.registry.readmodel.catalogue import answer
from fleetcast.registry.readmodel.happenings import project_events
from fleetcast.registry.readmodel.projection import Record
from fleetcast.registry.readmodel.schema import TABLES


def run_subjects() -> tuple[str, ...]:
    """Where everything about runs is published, in either spelling."""
    return tuple(s for entry in CATALOGUE if entry.name.startswith("run.") for s in entry.filters())


def answer_of_events(records: Iterable[Record], name: str, arguments: Mapping[str, Any]) -> Result:
    """As `answer`, from *records* of FC_EVENTS alone: what only the registry knows is not there.

    Raises:
        BadQuery, NothingFound: as `answer`.
    """
    with closing(sqlite3.connect(":memory:")) as db:
        db.row_factory = sqlite3.Row
        db.executescript(TABLES)
        project_events(db, records)
        return answer(db, name, arguments)
