"""Asking a service until somebody answers: a daemon that is just being restarted is no reason to give up."""

import asyncio
import time

from fleetcast.bus.connection import Bus
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.bus.retry import CONFLICT

ANSWER_SECONDS = 10.0
"""How long one answer may take: longer than a daemon waits for what it is asked about."""
BRIEFLY_SECONDS = 0.1
READING = ".read"
"""Ending of the subject of a service where only what changes nothing is answered."""
NOT_NOW = 503
"""The code of a service that cannot answer now, and may be able to later."""


async def ask(
    bus: Bus,
    subject: str,
    data: bytes,
    *,
    deadline_seconds: float,
    wait_for_somebody: bool = True,
    reads: bool = False,
) -> bytes:
    """The answer of whoever serves *subject*. The request must be one that may be asked twice.

    Args:
        bus: where to ask.
        subject: of the service.
        data: the request.
        deadline_seconds: how long to ask.
        wait_for_somebody: whether it is worth waiting where nobody serves the subject at all.
        reads: the request changes nothing: it is asked at the subject that those may use as well who only look.

    Raises:
        NoResponder, BusTimeout, ConnectionLost: nobody answered before the deadline.
        ServiceFailed: the service refused, or could not answer (503) before the deadline.
    """
    deadline = time.monotonic() + deadline_seconds
    subject = f"{subject}{READING}" if reads else subject
    failures = 0
    while True:
        left = deadline - time.monotonic()
        try:
            return await bus.request(subject, data, min(max(left, BRIEFLY_SECONDS), ANSWER_SECONDS))
        except ServiceFailed as e:
            if e.code != NOT_NOW:
                raise
            problem: Exception = e
        except (NoResponder, BusTimeout, ConnectionLost) as e:
            problem = e
        failures += 1
        delay = CONFLICT.delay(failures)
        given_up = isinstance(problem, NoResponder) and not wait_for_somebody
        if given_up or time.monotonic() + delay >= deadline:
            raise problem
        await asyncio.sleep(delay)
