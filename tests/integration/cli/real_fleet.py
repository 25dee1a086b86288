"""A real fleet beside a test that calls commands in its own process: distributors as processes, a loop on a thread."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fleetcast.config.settings import Settings
from fleetcast.daemons.testing import Fleet, fleet

SECONDS = 120.0
_T = TypeVar("_T")


@dataclass
class RealFleet:
    """A fleet that lives on a loop of its own."""

    fleet: Fleet
    loop: asyncio.AbstractEventLoop

    def do(self, act: Coroutine[Any, Any, _T]) -> _T:
        """Do *act* on the fleet's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(act, self.loop).result(SECONDS)

    def data(self, node: str) -> Path:
        """The data folder of *node*."""
        return self.fleet.nodes[node].data


@contextmanager
def running(home: Path, nodes: int, settings: Callable[[str, Settings], Settings]) -> Iterator[RealFleet]:
    """A fleet of *nodes* distributors below *home*, ended on leaving."""
    ready: Future[RealFleet] = Future()
    done = threading.Event()

    async def live() -> None:
        async with fleet(home, nodes, settings=settings) as made:
            ready.set_result(RealFleet(made, asyncio.get_running_loop()))
            await asyncio.to_thread(done.wait)

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    thread = threading.Thread(target=run, name="fleet")
    thread.start()
    try:
        yield ready.result(SECONDS)
    finally:
        done.set()
        thread.join(SECONDS)
