"""Answers `fc.svc.registry.query` from the read model.

Request: `{"query": NAME, "args": {…}, "min_seq": N}`; answer: `{"as_of_seq": N, "behind": N, "result": …}`. Codes of
refusals: 400 not understood, 404 nothing of that name, 413 too long for a message, 503 ask again, 504 `min_seq` was not
reached.
"""

import json
import sqlite3
from typing import Any, Final

from pydantic import Field

from fleetcast.bus import Bus, ServiceError
from fleetcast.bus.streams import REGISTRY
from fleetcast.daemons.registry.projector import Projector
from fleetcast.daemons.runtime.requests import read_request
from fleetcast.events.content import Stored
from fleetcast.registry.readmodel import BadQuery, NothingFound, ReadModelDamaged, answer
from fleetcast.registry.readmodel.model import cursor_of

MIN_SEQ_SECONDS: Final = 5.0
"""How long a question waits for the sequence that it asks for."""
HEAD_ROOM_BYTES: Final = 4096
"""Of a message, for its headers."""


class Question(Stored):
    """What is asked.

    Attributes:
        min_seq: answer from tables that have at least this sequence of FC_REGISTRY: a transition's answer names it.
    """

    query: str = Field(max_length=200)
    args: dict[str, Any] = {}
    min_seq: int | None = Field(default=None, ge=0)


class QueryDesk:
    """The endpoint."""

    def __init__(self, bus: Bus, projector: Projector) -> None:
        self._bus = bus
        self._projector = projector

    async def answer(self, data: bytes) -> bytes:
        """The answer to one request.

        Raises:
            ServiceError: it has none.
        """
        question = _read(data)
        await self._reach(question.min_seq)
        try:
            sequence, result = await self._projector.ask(lambda db: _answered(db, question))
        except BadQuery as e:
            raise ServiceError(400, str(e)) from e
        except NothingFound as e:
            raise ServiceError(404, self._maybe_later(str(e))) from e
        except ReadModelDamaged as e:
            raise ServiceError(503, "the read model is being made again; ask again") from e
        behind = self._projector.behind_at(sequence)
        encoded = json.dumps(
            {"as_of_seq": sequence, "behind": behind, "result": result}, separators=(",", ":")
        ).encode()
        if len(encoded) > self._bus.wire.max_payload - HEAD_ROOM_BYTES:
            raise ServiceError(
                413, f"the answer has {len(encoded)} bytes, too many for a message; ask with a lower limit"
            )
        return encoded

    async def _reach(self, sequence: int | None) -> None:
        if sequence is None or await self._projector.wait_for(sequence, MIN_SEQ_SECONDS):
            return
        raise ServiceError(
            504,
            f"sequence {sequence} was not reached in {MIN_SEQ_SECONDS:.0f} s: the read model is as of "
            f"{self._projector.as_of_seq}, {self._projector.behind} behind; ask again, or without min_seq",
        )

    def _maybe_later(self, reason: str) -> str:
        behind = self._projector.behind
        return f"{reason} (the read model is {behind} behind: ask again)" if behind else reason


def _read(data: bytes) -> Question:
    example = '{"query": "versions", "args": {"stage": "production"}}'
    return read_request(Question.model_validate_json, data, example=example)


def _answered(db: sqlite3.Connection, question: Question) -> tuple[int, dict[str, Any]]:
    """The result, and what it is true as of: both from one snapshot."""
    sequence = cursor_of(db, REGISTRY).sequence
    return sequence, answer(db, question.query, question.args)
