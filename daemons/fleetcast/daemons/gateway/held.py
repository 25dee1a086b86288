"""What takes a while to find out, found out once for everybody who asks at the same time, and kept while it is true."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_TO_COME: Final = object()


class Held(Generic[T]):
    """One such thing. Whoever asks gets what was true when they asked, or later.

    Args:
        make: finds it out.
        holds_seconds: how long it holds while nothing changes.
        pace_seconds: distance of two makings at least, however much changes: whoever asks waits so long.
        standing: what it is made of; equal while nothing has changed.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[T]],
        *,
        holds_seconds: float,
        pace_seconds: float = 0.0,
        standing: Callable[[], object] = lambda: None,
    ) -> None:
        self._make = make
        self._holds_seconds, self._pace_seconds = holds_seconds, pace_seconds
        self._standing = standing
        self._making: asyncio.Task[T] | None = None
        self._made_of: object = _TO_COME
        self._made_at = float("-inf")

    async def get(self) -> T:
        """It. What went wrong is told to all who waited for it, and tried again for the next one."""
        if self._making is not None and not self._making.done() and self._is_old():
            # It was begun before the last change, and does not have it; what is begun next has.
            await asyncio.wait({self._making})
        if self._making is None or (self._making.done() and not self._holds()):
            self._making = asyncio.create_task(self._paced())
        # Who leaves while it is made must not take it away from the others.
        return await asyncio.shield(self._making)

    async def _paced(self) -> T:
        self._made_of = _TO_COME
        rest = self._made_at + self._pace_seconds - time.monotonic()
        if rest > 0:
            await asyncio.sleep(rest)
        # Taken before it is made: what changes meanwhile may not be in it.
        self._made_of, self._made_at = self._standing(), time.monotonic()
        return await self._make()

    def _is_old(self) -> bool:
        return self._made_of is not _TO_COME and self._made_of != self._standing()

    def _holds(self) -> bool:
        assert self._making is not None
        if self._making.cancelled() or self._making.exception() is not None:
            return False
        return time.monotonic() - self._made_at < self._holds_seconds and not self._is_old()
