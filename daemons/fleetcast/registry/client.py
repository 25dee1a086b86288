"""Asks whoever keeps the registry (`fc.svc.registry.transition`), and waits for a keeper that is away."""

from pydantic import ValidationError

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.client.ulid import new_ulid
from fleetcast.events.lifecycle import transition_subject
from fleetcast.registry.commands import Answer, AnyCommand, Transition
from fleetcast.registry.errors import NoKeeper, RecordDamaged, TransitionRefused
from fleetcast.registry.speaking import Speaker, speaker


class RegistryClient:
    """Transitions over a bus. A request that has no answer is asked again under the same key, never guessed."""

    def __init__(self, bus: Bus, *, actor: str, own: Speaker | None = None) -> None:
        """Make one; *own*: the run that asks, default: the one that this process belongs to, if it does."""
        self._bus = bus
        self._actor = actor
        self._own = own or speaker()

    async def transition(
        self,
        command: AnyCommand,
        *,
        reason: str | None = None,
        request: str | None = None,
        actor: str | None = None,
        dry_run: bool = False,
        correlation: str = "",
        deadline_seconds: float = 10.0,
    ) -> Answer:
        """Ask; the answer says what became of it, a refusal too.

        Raises:
            NoKeeper: no registry daemon answered before the deadline; asking again with the same *request* is safe.
            TransitionRefused: the command is malformed.
            RecordDamaged: the answer cannot be read.
        """
        asked = Transition(
            request=request or new_ulid(),
            actor=actor or self._actor,
            reason=reason,
            dry_run=dry_run,
            correlation=correlation,
            run_id=self._own.run if self._own is not None else None,
            claim=self._own.claim if self._own is not None else None,
            command=command,
        )
        data = asked.model_dump_json(by_alias=True).encode()
        return _answer(await self._ask(transition_subject(command.do), data, deadline_seconds))

    async def _ask(self, subject: str, data: bytes, deadline_seconds: float) -> bytes:
        try:
            return await patience.ask(self._bus, subject, data, deadline_seconds=deadline_seconds)
        except ServiceFailed as e:
            if e.code != patience.NOT_NOW:
                raise TransitionRefused(str(e)) from e
            raise NoKeeper(f"no registry daemon answered: {e}") from e
        except (NoResponder, BusTimeout, ConnectionLost) as e:
            raise NoKeeper(f"no registry daemon answered: {e}") from e


def _answer(data: bytes) -> Answer:
    try:
        return Answer.model_validate_json(data)
    except ValidationError as e:
        raise RecordDamaged(f"the registry's answer cannot be read: {e.errors()[0]['msg']}") from e
