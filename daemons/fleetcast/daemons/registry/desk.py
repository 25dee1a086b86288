"""The desk: `fc.svc.registry.transition` in, decision out."""

import asyncio
from collections.abc import Mapping

import structlog

from fleetcast.bus import patience
from fleetcast.bus.services import EndpointHandler, ServiceError
from fleetcast.daemons.runtime.requests import AWAY, MALFORMED, read_request, refusals
from fleetcast.events.lifecycle import TRANSITION_SUBJECT, transition_subject
from fleetcast.registry.commands import VERBS, Advance, Answer, Transition
from fleetcast.registry.engine import Engine
from fleetcast.registry.errors import DescriptionInvalid

log = structlog.get_logger("fleetcast.registry")


DECIDE_SECONDS = 0.8 * patience.ANSWER_SECONDS
"""How long a request may wait for its decision: less than whoever asks waits for an answer, which is told so, and asks
another daemon, while this one is cut off from what it decides by."""


class TransitionDesk:
    """Answers requests; what it cannot decide now is to be asked again under the same key."""

    def __init__(self, engine: Engine, *, decide_seconds: float = DECIDE_SECONDS) -> None:
        self._engine = engine
        self._decide_seconds = decide_seconds

    def endpoints(self) -> Mapping[str, tuple[str, EndpointHandler]]:
        """Where requests come in: at the subject of all commands, and each command at its own, which is the one that a
        role may be allowed."""

        def of(verb: str) -> EndpointHandler:
            async def answer(body: bytes) -> bytes:
                return await self.answer(body, verb=verb)

            return answer

        own = {verb: (transition_subject(verb), of(verb)) for verb in VERBS}
        return {"transition": (TRANSITION_SUBJECT, self.answer), **own}

    async def answer(self, body: bytes, *, verb: str = "") -> bytes:
        """The answer to a request, as JSON; *verb*: the only command that was allowed to whoever asks.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        transition = read_request(Transition.model_validate_json, body)
        if verb and transition.command.do != verb:
            asked = transition_subject(transition.command.do)
            raise ServiceError(MALFORMED, f"command: {transition.command.do} is asked for at {asked}")
        if isinstance(transition.command, Advance):
            raise ServiceError(MALFORMED, "command: only a registry daemon itself advances a rollout")
        return (await self.handle(transition)).model_dump_json(by_alias=True).encode()

    async def handle(self, transition: Transition) -> Answer:
        """Decide; errors as `answer`."""
        try:
            with refusals():
                async with asyncio.timeout(self._decide_seconds):
                    answer = await self._engine.handle(transition)
        except TimeoutError as e:
            # What was written without a confirmation is found by the same request, wherever it is asked again.
            raise ServiceError(AWAY, f"nothing was decided within {self._decide_seconds:g} s") from e
        except DescriptionInvalid as e:
            raise ServiceError(MALFORMED, str(e)) from e
        log.info(
            "transition.answered",
            model=answer.model,
            version=answer.version,
            do=transition.command.do,
            outcome=answer.outcome,
            code=answer.code or None,
            generation=answer.generation,
            n=answer.n or None,
            actor=transition.actor,
            correlation_id=transition.request,
        )
        return answer
