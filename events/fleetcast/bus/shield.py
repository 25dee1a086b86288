"""Cancellation, where it must not cut work off, and where it must not get lost."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run *work* to its end even when the caller is cancelled meanwhile; the cancellation goes on afterwards.

    An acknowledgement that is cut off would make the effect of a finished handler happen twice. *work* has to be
    bounded in time by itself.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


@contextlib.contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raise the cancellation that foreign code inside swallowed.

    nats-py drops one that arrives while it waits for its flusher; `asyncio.wait_for`, which it uses, drops one that
    arrives together with the result or the failure (up to Python 3.11). The task would then run on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    except Exception as e:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from e
        raise
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
