"""Something that lives on an event loop of its own, beside a test that runs commands in its own process."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

_T = TypeVar("_T")


@contextmanager
def aside(open_it: Callable[[], AbstractAsyncContextManager[_T]], name: str, seconds: float) -> Iterator[_T]:
    """What *open_it* gives, on a thread called *name* that lives until the block ends; both ends take *seconds* at
    most.
    """
    ready: Future[_T] = Future()
    done = threading.Event()

    async def live() -> None:
        async with open_it() as made:
            ready.set_result(made)
            await asyncio.to_thread(done.wait)

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        yield ready.result(seconds)
    finally:
        done.set()
        thread.join(seconds)
