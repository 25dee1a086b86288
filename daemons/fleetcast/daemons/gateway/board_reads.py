"""What only the dashboard asks for: the board of the fleet, models as a whole, decisions with their numbers."""

import asyncio
import json
from datetime import UTC
from typing import Any, Final

from fleetcast.bus import Bus, DeadLetter
from fleetcast.daemons.gateway.board import board
from fleetcast.daemons.gateway.held import Held
from fleetcast.daemons.gateway.letters import Letters, role_for
from fleetcast.daemons.gateway.reads import Reads
from fleetcast.events.lifecycle import StageName
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Promote
from fleetcast.registry.picture.live import Fleet

Document = dict[str, Any]
PACE_SECONDS: Final = 0.1
"""Distance of boards, however much changes: many look at once."""
HOLDS_SECONDS: Final = 2.0
BODY_CHARACTERS: Final = 65536
"""Of a dead letter's body that are shown."""


class BoardReads:
    """One question each."""

    def __init__(self, bus: Bus, fleet: Fleet, reads: Reads) -> None:
        self._bus = bus
        self._fleet = fleet
        self._reads = reads
        self._board = Held(
            self._made, holds_seconds=HOLDS_SECONDS, pace_seconds=PACE_SECONDS, standing=lambda: fleet.standing
        )

    async def fleet(self) -> bytes:
        """The board as JSON, made once for everybody who looks."""
        return await self._board.get()

    async def _made(self) -> bytes:
        served = await self._reads.rollouts()
        made = board(self._fleet.nodes, served["rollouts"])
        document = {**made, "daemons": self._reads.nodes(models=False)["daemons"], "at": served["at"]}
        return await asyncio.to_thread(lambda: json.dumps(document, separators=(",", ":")).encode())

    async def gates(self, model: str, version: str, stage: StageName, percent: int | None, actor: str) -> Document:
        """What would become of a promotion, and what each gate says; nothing is changed.

        Raises:
            NoKeeper: no registry daemon answers.
            TransitionRefused: the promotion is malformed.
        """
        command = Promote(model=model, version=version, stage=stage, percent=percent)
        answer = await RegistryClient(self._bus, actor=actor).transition(command, dry_run=True, reason="dry run")
        return {
            "model_id": model,
            "version": version,
            "stage": stage.value,
            "accepted": answer.accepted,
            "outcome": answer.outcome,
            "code": answer.code,
            "message": answer.message,
            "next": answer.next_step,
            "gates": [gate.model_dump(mode="json") for gate in answer.gates],
        }

    async def dead_letter(self, number: int) -> Document:
        """One dead letter with its body; raises Refused."""
        letter = await Letters(self._bus, "").find(number)
        return {**letter_document(letter), "body": letter.data.decode("utf-8", "replace")[:BODY_CHARACTERS]}


def letter_document(letter: DeadLetter) -> Document:
    """A dead letter in JSON, without its body."""
    return {
        "sequence": letter.sequence,
        "subject": letter.subject,
        "event": letter.event_id,
        "reason": letter.reason,
        "field": letter.field,
        "next": letter.next_step,
        "consumer": letter.consumer,
        "attempts": letter.attempts,
        "role": role_for(letter.subject).value,
        "at": letter.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
