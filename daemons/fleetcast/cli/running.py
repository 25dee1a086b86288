"""One asyncio loop per command, ended in order by signals."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from fleetcast.cli.problems import Terminated

_T = TypeVar("_T")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command in order: Ctrl-C, a service manager, a terminal that was closed."""


def run_async(body: Coroutine[Any, Any, _T]) -> _T:
    """Run *body* to its end. The first signal of `ENDING` cancels it; what it does to clean up is not interrupted by
    further ones, so a second Ctrl-C leaves nothing behind either: every clean-up here is bounded in time.

    Raises:
        Terminated: SIGTERM or SIGHUP arrived and *body* has cleaned up.
        KeyboardInterrupt: SIGINT arrived and *body* has cleaned up.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
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
    for number in ENDING:
        # Under nohup SIGHUP is ignored, and stays so; a script's background jobs are born deaf to SIGINT, and are not.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        raise (KeyboardInterrupt if received[0] == signal.SIGINT else Terminated) from None
