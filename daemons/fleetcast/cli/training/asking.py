"""Questions about runs: to the read model of a registry daemon, or to the events themselves where there is none."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fleetcast.bus import Bus
from fleetcast.bus.streams import EVENTS
from fleetcast.cli.problems import Problem, not_found, usage
from fleetcast.cli.registry.reading import answered
from fleetcast.registry.querying import QueryAnswer
from fleetcast.registry.readmodel.aside import answer_of_events, run_subjects
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound

LIST = "fleetcast runs    (lists them)"


async def ask(bus: Bus, name: str, args: Mapping[str, Any]) -> QueryAnswer:
    """The answer to one question about runs. Without a registry daemon FC_EVENTS is read, which keeps 90 days: what a
    run made is not known then.

    Raises:
        Problem: there is none; says why and what to do.
    """
    given = {key: value for key, value in args.items() if value is not None}
    try:
        return await answered(bus, name, given)
    except Problem as problem:
        if problem.code == "not_found":
            raise not_found(problem.what, next_step=LIST) from problem
        if problem.code != "no_registry":
            raise
    return await _of_events(bus, name, given)


async def _of_events(bus: Bus, name: str, args: Mapping[str, Any]) -> QueryAnswer:
    records = [entry async for entry in bus.tail(EVENTS, run_subjects())]
    try:
        result = await asyncio.to_thread(answer_of_events, records, name, args)
    except NothingFound as error:
        raise not_found(str(error), next_step=LIST) from error
    except BadQuery as error:
        raise usage(str(error)) from error
    return QueryAnswer(as_of_seq=0, behind=0, result=result)
