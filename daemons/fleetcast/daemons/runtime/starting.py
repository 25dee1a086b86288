"""Steps of a start that a bus in trouble interrupts: repeated as long as anything comes of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from fleetcast.bus.errors import TransportFailed
from fleetcast.bus.retry import DIAL
from fleetcast.daemons.runtime.progress import Progress

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T")

VAIN_SECONDS = 120.0
"""A start that gets nowhere for so long ends: the service manager makes another one, with nothing left over from
this."""


async def patiently(step: Callable[[], Awaitable[T]], *, doing: str, progress: Progress | None = None) -> T:
    """What *step* returns, which may be repeated: on a busy machine a request of its start may have no answer in time.

    Args:
        step: reads what is there each time.
        doing: what it does, in words.
        progress: renewed by the step with whatever is not lost when it is repeated. Default: nothing is.

    Raises:
        TransportFailed: *progress* holds no more, which is after 120 s by default.
    """
    proof = progress or Progress(VAIN_SECONDS)
    failures = 0
    while True:
        try:
            return await step()
        except TransportFailed as away:
            if not proof():
                raise
            failures += 1
            log.warning("start.waiting", doing=doing, reason=str(away), failures=failures)
            await asyncio.sleep(DIAL.delay(failures))
