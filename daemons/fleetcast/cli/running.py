"""One asyncio loop per command, ended in order by SIGINT and SIGTERM."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from fleetcast.cli.problems import Terminated

_T = TypeVar("_T")


def run_async(body: Coroutine[Any, Any, _T]) -> _T:
    """Run *body* to its end. The first SIGINT or SIGTERM cancels it; what it does to clean up is not interrupted by
    further ones, so a second Ctrl-C leaves nothing behind either: every clean-up here is bounded in time.

    Raises:
        Terminated: SIGTERM arrived and *body* has cleaned up.
        KeyboardInterrupt: SIGINT arrived and *body* has cleaned up.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return asyncio.run(_until_signal(body))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _until_signal(body: Coroutine[Any, Any, _T]) -> _T:
    task = asyncio.ensure_future(body)
    received: list[int] = []

    def on_signal(number: int) -> None:
        if not received:
            task.cancel()
        received.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        raise (Terminated if received[0] == signal.SIGTERM else KeyboardInterrupt) from None
