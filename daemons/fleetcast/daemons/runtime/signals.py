"""Signals as a context: what they mean to a daemon inside the block, and the old handlers back outside."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A closed terminal (SIGHUP) would end the process anyway; here it ends in order.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def handled(callback: Callable[[signal.Signals], None], which: tuple[signal.Signals, ...] = STOPPING) -> Iterator[None]:
    """Call `callback` on the running loop for each of these signals, until the block ends. Main thread only."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in which}
    for number in which:
        loop.add_signal_handler(number, callback, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            # None: the handler was not installed from Python, and cannot be put back from here.
            if handler is not None:
                signal.signal(number, handler)
