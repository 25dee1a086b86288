"""A real fleet beside a test that calls commands in its own process: distributors as processes, a loop on a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.integration.cli.aside import aside

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

    @asynccontextmanager
    async def opened() -> AsyncIterator[RealFleet]:
        async with fleet(home, nodes, settings=settings) as made:
            yield RealFleet(made, asyncio.get_running_loop())

    with aside(opened, "fleet", SECONDS) as found:
        yield found
