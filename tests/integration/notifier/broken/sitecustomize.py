"""Put on a notifier's PYTHONPATH by a test: breaks it in the one way that FAULT_VARIANT names."""

import os
import signal
from typing import Any


def _notes_before_it_sends() -> None:
    """That a message was delivered is noted first: whoever dies while sending loses it."""
    from fleetcast.daemons.notifier import rules
    from fleetcast.daemons.notifier.sender import Sender

    async def attempt(self: Any, outbox: Any) -> None:
        message, now = outbox.message, self._ledger.clock.now()
        await self._note(message, rules.delivered(outbox, now), now)
        await self._send(message)

    Sender._attempt = attempt  # type: ignore[method-assign]


def _acknowledges_before_it_stores() -> None:
    """An event is acknowledged first, and the daemon dies before it has stored what is to be told."""
    from fleetcast.daemons.notifier.intake import Intake

    async def take(self: Any, event: Any, delivery: Any) -> None:
        await delivery.confirm()
        os.kill(os.getpid(), signal.SIGKILL)

    Intake.take = take  # type: ignore[method-assign]


def _dies_after_it_stores() -> None:
    """No fault: the daemon is killed at the worst moment, between storing and acknowledging."""
    from fleetcast.daemons.notifier.ledger import Ledger

    kept = Ledger.put_topic

    async def put(self: Any, *arguments: Any) -> bool:
        await kept(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    Ledger.put_topic = put  # type: ignore[method-assign,assignment]


VARIANTS = {
    "notes_first": _notes_before_it_sends,
    "acknowledges_first": _acknowledges_before_it_stores,
    "dies_after_storing": _dies_after_it_stores,
}

if chosen := os.environ.get("FAULT_VARIANT"):
    VARIANTS[chosen]()
