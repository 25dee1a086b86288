"""What people ask about runs: `fc.svc.trainer.runs` in, JSON out.

Any trainer answers, by the run's record: its compare-and-swap is the fence of these orders as of all others. Whether
the run's node answers does not matter.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from fleetcast.daemons.runtime.requests import read_request, refusals
from fleetcast.daemons.trainer.claims.allowing import Allowing
from fleetcast.daemons.trainer.claims.cancelling import Cancelling
from fleetcast.daemons.trainer.claims.commands import AllowNode, RunAnswer, order_of
from fleetcast.daemons.trainer.claims.store import RunStore

EXAMPLE: Final = '{"ask":"cancel","run":"hex8_2p-0123456789abcdef0123","reason":"wrong labels","by":"ann"}'


class RunService:
    """Answers requests about runs."""

    def __init__(self, store: RunStore, *, now: Callable[[], datetime], is_silent: Callable[[str], bool]) -> None:
        """Make one.

        Args:
            store: where the runs are kept.
            now: the server's time.
            is_silent: whether a node's trainer should have been heard from by now.
        """
        self._cancelling = Cancelling(store, now=now, is_silent=is_silent)
        self._allowing = Allowing(store, now=now)

    async def answer(self, body: bytes) -> bytes:
        """The answer to a request, as JSON.

        Raises:
            ServiceError: 400: it is none; 500: what is stored cannot be read; 503: not now, ask again.
        """
        asked = read_request(order_of, body, example=EXAMPLE)
        answer: RunAnswer
        with refusals():
            if isinstance(asked, AllowNode):
                answer = await self._allowing.allow(asked)
            else:
                answer = await self._cancelling.cancel(asked)
        # What a run had as effects, and the lane's definition, may be long, and nobody asked for them.
        return answer.model_dump_json(by_alias=True, exclude={"run": {"commits", "definition"}}).encode()
