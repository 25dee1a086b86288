"""What becomes of dead letters over the gateway: sent again or dropped, by somebody and for a reason."""

import asyncio
from typing import Any, Final

from fleetcast.bus import Bus, DeadLetter
from fleetcast.bus.errors import AccessDenied, NotFound
from fleetcast.bus.settling import settle
from fleetcast.daemons.gateway.access import Role
from fleetcast.daemons.gateway.problems import Refused
from fleetcast.events.errors import UnknownEventType
from fleetcast.events.letters import Settlement
from fleetcast.events.names import from_subject

ANSWER_SECONDS: Final = 10.0
VERBS: Final = {"retry": Settlement.RETRIED, "drop": Settlement.DROPPED}
SAID: Final = {Settlement.RETRIED: "sent again", Settlement.DROPPED: "dropped"}
PROMOTES: Final = frozenset({"model.promoted"})
"""Events that decide what is served: whoever sends one again decides it."""


def role_for(subject: str) -> Role:
    """Whom it takes to send a message again. Pure."""
    try:
        entry, _ = from_subject(subject)
    except UnknownEventType:
        return Role.OPERATOR
    return Role.PROMOTER if entry.name in PROMOTES else Role.OPERATOR


class Letters:
    """One request each; made anew for every caller, who stands in the record."""

    def __init__(self, bus: Bus, caller: str) -> None:
        self._bus = bus
        self._actor = f"/fleet/{bus.node}/gateway/{caller}"

    async def find(self, number: int) -> DeadLetter:
        """One dead letter; raises Refused: there is none (any more)."""
        try:
            return await self._bus.dead.show(number)
        except NotFound as error:
            raise Refused(404, "not-found", str(error), next_step="/api/dead-letters") from error

    async def settle(self, letter: DeadLetter, outcome: Settlement, reason: str) -> dict[str, Any]:
        """Send it again, or drop it.

        Raises:
            Refused: it cannot be sent again, by anybody or by the gateway, or NATS does not answer.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await settle(self._bus, letter, outcome, by=self._actor, reason=reason)
        except NotFound as error:
            raise Refused(409, "not-stored", str(error), next_step=error.next_step or "") from error
        except AccessDenied as error:
            raise Refused(
                409,
                "not-allowed",
                f"the gateway may not publish to {letter.subject[:200]}",
                why="its key is of a role that may not",
                next_step=f"fleetcast dlq retry {letter.sequence} --reason TEXT",
            ) from error
        except TimeoutError as error:
            raise Refused(
                503,
                "no-nats",
                f"NATS did not answer in time, and dead letter {letter.sequence} may be settled or not",
                next_step="ask again: nothing is sent twice",
                headers={"Retry-After": "2"},
            ) from error
        return {"number": letter.sequence, "message": f"dead letter {letter.sequence} is {SAID[outcome]}"}
