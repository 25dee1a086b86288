"""Questions to the read model, as problems a person can act on when they have no answer."""

from collections.abc import Mapping
from typing import Any

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import connected, target
from fleetcast.cli.problems import Problem, not_found, timed_out, usage
from fleetcast.cli.running import run_async
from fleetcast.registry.errors import NoKeeper
from fleetcast.registry.picture.keeping import START_ONE
from fleetcast.registry.querying import QueryAnswer, query
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound, NotYet


def asked(call: Call, name: str, args: Mapping[str, Any], *, min_seq: int | None = None) -> QueryAnswer:
    """The answer to one question.

    Raises:
        Problem: there is none; says why and what to do.
    """
    aim = target(call)

    async def run() -> QueryAnswer:
        async with connected(aim) as bus:
            return await answered(bus, name, args, min_seq=min_seq)

    return run_async(run())


async def answered(bus: Bus, name: str, args: Mapping[str, Any], *, min_seq: int | None = None) -> QueryAnswer:
    """As `asked`, over a connection that is there."""
    given = {key: value for key, value in args.items() if value not in (None, ())}
    try:
        return await query(bus, name, given, min_seq=min_seq)
    except NoKeeper as error:
        raise Problem(
            "no_registry",
            "no registry daemon answers, and lists are read from its read model",
            why=str(error),
            next_step=f"{START_ONE}; fleetcast status needs none",
        ) from error
    except NothingFound as error:
        raise not_found(str(error), next_step="fleetcast models") from error
    except NotYet as error:
        raise timed_out(str(error), next_step="the same again, or without --min-seq") from error
    except BadQuery as error:
        raise usage(str(error)) from error


def document(answer: QueryAnswer) -> dict[str, object]:
    """An answer in JSON: what it says, and what it is true as of."""
    return {**answer.result, "as_of_seq": answer.as_of_seq, "behind": answer.behind}
