"""Asks the read model of a registry daemon (`fc.svc.registry.query`)."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.events.lifecycle import QUERY_SUBJECT
from fleetcast.registry.errors import NoKeeper, RecordDamaged, RegistryError
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound, NotYet

DEADLINE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """What the read model says.

    Attributes:
        as_of_seq: the sequence of FC_REGISTRY that it is true as of.
        behind: how many sequences the daemon knew of that it did not have yet.
        result: see the query's function in `fleetcast.registry.readmodel`.
    """

    as_of_seq: int
    behind: int
    result: dict[str, Any]


async def query(
    bus: Bus,
    name: str,
    args: Mapping[str, Any] | None = None,
    *,
    min_seq: int | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> QueryAnswer:
    """Ask one question.

    *min_seq*: answer from tables that have at least this sequence: with `Answer.sequence` of a transition, whoever asks
    sees what they just did.

    Raises:
        NoKeeper: no registry daemon answers.
        BadQuery: the question is not understood; the message says what would be.
        NothingFound: there is nothing of that name.
        NotYet: *min_seq* was not reached in time.
        RegistryError: the daemon failed.
        RecordDamaged: the answer cannot be read.
    """
    request = {"query": name, "args": dict(args or {}), "min_seq": min_seq}
    data = json.dumps(request, default=str).encode()
    return _read(await _ask(bus, data, deadline_seconds))


async def pages(
    bus: Bus, name: str, args: Mapping[str, Any] | None = None, *, min_seq: int | None = None
) -> AsyncIterator[QueryAnswer]:
    """All pages of a list, one after the other; errors as `query`.

    What changes meanwhile may be missed, or come twice.
    """
    asked = dict(args or {})
    following = "before" if name == "history" else "after"
    while True:
        page = await query(bus, name, asked, min_seq=min_seq)
        yield page
        if page.result.get("next") is None:
            return
        asked[following] = page.result["next"]


async def _ask(bus: Bus, data: bytes, deadline_seconds: float) -> bytes:
    try:
        return await patience.ask(bus, QUERY_SUBJECT, data, deadline_seconds=deadline_seconds, wait_for_somebody=False)
    except ServiceFailed as e:
        if e.code != patience.NOT_NOW:
            raise _refusal(e) from e
        raise NoKeeper(f"no registry daemon answered: {e}") from e
    except (NoResponder, BusTimeout, ConnectionLost) as e:
        raise NoKeeper(f"no registry daemon answered: {e}") from e


def _refusal(failed: ServiceFailed) -> RegistryError:
    kinds: dict[int, type[RegistryError]] = {400: BadQuery, 413: BadQuery, 404: NothingFound, 504: NotYet}
    return kinds.get(failed.code, RegistryError)(str(failed))


def _read(data: bytes) -> QueryAnswer:
    try:
        answer = json.loads(data)
        return QueryAnswer(int(answer["as_of_seq"]), int(answer["behind"]), answer["result"])
    except (ValueError, KeyError, TypeError) as e:
        raise RecordDamaged(f"the answer of the read model cannot be read: {e}") from e
