"""Keeps what is received and not written yet within bounds, and gives memory back afterwards. Standard library only."""

import asyncio
import ctypes
from collections.abc import Callable, Iterable
from typing import Protocol

from fleetcast.transport.bittorrent.notes import Load
from fleetcast.transport.bittorrent.rhythm import LOAD_SECONDS, load_pause

HIGH_BYTES = 32 * 2**20
LOW_BYTES = 16 * 2**20
BRAKED_BYTES_PER_SECOND = 2**20
"""When more than HIGH waits, torrents receive this little until less than LOW waits. libtorrent 2.1.1 does not count
blocks that are being hashed or written towards its own limit: without the brake 346 MiB waited on a busy machine."""


class Braked(Protocol):
    """What is looked at, and slowed down (`session.Session`)."""

    def ask_load(self) -> None: ...

    def brake(self, key: str, bytes_per_second: int) -> None: ...


class Brake:
    """Watches a session while something is fetched.

    Args:
        keys: the torrents of the session.

    Attributes:
        room: set unless too much waits.
        queued_bytes: what waited at the last look.
        pause: seconds until the next look; short when much comes.
    """

    def __init__(self, session: Braked, keys: Callable[[], Iterable[str]]) -> None:
        self._session, self._keys = session, keys
        self.room = asyncio.Event()
        self.room.set()
        self.queued_bytes = 0
        self.pause = LOAD_SECONDS
        self._received = 0

    async def watch(self, busy: asyncio.Event) -> None:
        """Look again and again while *busy*."""
        loop = asyncio.get_running_loop()
        while True:
            await busy.wait()
            self.pause = LOAD_SECONDS
            while busy.is_set():
                before, at = self._received, loop.time()
                self._session.ask_load()
                await asyncio.sleep(self.pause)
                self.pause = load_pause((self._received - before) / (loop.time() - at))
            _give_memory_back()

    def take(self, load: Load) -> None:
        """Take what a look has found."""
        self.queued_bytes, self._received = load.waiting_bytes, load.received_bytes
        braking = not self.room.is_set()
        if (load.waiting_bytes > (LOW_BYTES if braking else HIGH_BYTES)) == braking:
            return
        self.room.set() if braking else self.room.clear()
        for key in self._keys():
            self._session.brake(key, 0 if braking else BRAKED_BYTES_PER_SECOND)


def _give_memory_back() -> None:
    """Free memory goes back to the system; glibc would keep what one transfer needed at its peak for good."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
