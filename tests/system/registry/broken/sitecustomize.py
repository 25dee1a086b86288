"""Put on a registry daemon's PYTHONPATH by a test: breaks it in the one way that FAULT_VARIANT names."""

import itertools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

LAST_DECISION = 4
"""After which a daemon dies before it has answered."""


def _piece_by_piece() -> None:
    """What belongs together is published one after the other."""
    from fleetcast.bus import BatchMessage, Bus

    async def publish_each(self: Bus, messages: Sequence[BatchMessage]) -> int:
        sequence = 0
        for message in messages:
            headers = dict(message.headers or {})
            if message.expected_sequence is not None:
                headers["Nats-Expected-Last-Subject-Sequence"] = str(message.expected_sequence)
            sequence = (await self.publish_raw(message.subject, message.data, headers)).sequence
        return sequence

    Bus.batch = publish_each  # type: ignore[method-assign]


def _remembers_nothing() -> None:
    """Whether a request was carried out before is not looked up, and its record is kept under another name."""
    from fleetcast.client.ulid import new_ulid
    from fleetcast.events.state import request_subject
    from fleetcast.registry import engine
    from fleetcast.registry.ledger import Change, Committed, Ledger

    def elsewhere(model: str, _request: str) -> str:
        return request_subject(model, new_ulid())

    commit = Ledger.commit

    decided = itertools.count(1)

    async def commit_and_die(self: Ledger, change: Change) -> Committed:
        done: Committed = await commit(self, change)
        if next(decided) == LAST_DECISION:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    vars(engine)["request_subject"] = elsewhere
    Ledger.commit = commit_and_die  # type: ignore[method-assign]


_VARIANTS: dict[str, Callable[[], Any]] = {"piece by piece": _piece_by_piece, "remembers nothing": _remembers_nothing}
if variant := os.environ.get("FAULT_VARIANT"):
    _VARIANTS[variant]()
