"""An event loop in a thread of its own, with one connection: asynchronous calls for code that has no loop, or has one
of its own."""

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from fleetcast.bus import Bus, connect
from fleetcast.config.settings import BusSettings

R = TypeVar("R")
CLOSE_SECONDS: Final = 5.0
"""How long the end of the process waits for the connection to close."""

_backgrounds: "weakref.WeakSet[Background]" = weakref.WeakSet()
_abandoned: list[object] = []
"""What a forked child has inherited: neither used nor collected, because its sockets are the parent's."""


class Background:
    """Runs calls, several at once, for any thread. The first call makes a connection; one that was lost for good is
    made again, and a forked child makes its own."""

    def __init__(self, settings: BusSettings, *, node: str) -> None:
        self._settings = settings
        self._node = node
        self._lock = threading.Lock()
        self._session: _Session | None = None
        _backgrounds.add(self)

    def run(self, call: Callable[[Bus], Awaitable[R]]) -> R:
        """The result of *call* with the connection; blocks the thread that asks until it is there.

        Raises:
            BusUnavailable: nobody answers at the address of the settings.
            Exception: whatever *call* raises.
        """
        with self._lock:
            if self._session is None or not self._session.is_alive:
                self._session = _Session(self._settings, self._node)
            session = self._session
        return session.run(call)

    def close(self) -> None:
        """End the connection and the thread; a later call begins anew."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def forget(self) -> None:
        """In a forked child: the thread and the connection are the parent's."""
        _abandoned.append(self._session)
        self._lock = threading.Lock()
        self._session = None


class _Session:
    """A thread, its loop and its connection, from the first call until `close`."""

    def __init__(self, settings: BusSettings, node: str) -> None:
        self._settings = settings
        self._node = node
        self._stop = asyncio.Event()
        self._dialing = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._bus: Bus | None = None
        loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._work, args=(loop,), name="fleetcast-registry", daemon=True)
        self._thread.start()
        self._loop = loop.result()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def run(self, call: Callable[[Bus], Awaitable[R]]) -> R:
        """As `Background.run`."""

        async def asked() -> R:
            return await call(await self._connected())

        future: Future[R] = asyncio.run_coroutine_threadsafe(asked(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """As `Background.close`."""
        if self.is_alive:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CLOSE_SECONDS)

    def _work(self, loop: "Future[asyncio.AbstractEventLoop]") -> None:
        with asyncio.Runner() as runner:
            loop.set_result(runner.get_loop())
            runner.run(self._live())

    async def _live(self) -> None:
        await self._stop.wait()
        if self._keeper is not None:
            await asyncio.wait({self._keeper})

    async def _connected(self) -> Bus:
        async with self._dialing:
            if self._bus is None:
                ready: asyncio.Future[Bus] = asyncio.get_running_loop().create_future()
                self._keeper = asyncio.create_task(self._keep(ready), name="fleetcast-registry-connection")
                self._bus = await ready
            return self._bus

    async def _keep(self, ready: "asyncio.Future[Bus]") -> None:
        """Hold the connection: it has to be closed by the task that opened it."""
        try:
            async with connect(self._settings, node=self._node, daemon="python", wait=False) as bus:
                ready.set_result(bus)
                await _either(self._stop.wait(), bus.closed.wait())
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            self._bus = None


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _forget_all() -> None:
    for background in list(_backgrounds):
        background.forget()


def _close_all() -> None:
    for background in list(_backgrounds):
        background.close()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)
