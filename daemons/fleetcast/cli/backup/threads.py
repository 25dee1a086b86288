"""Files off the loop: while gigabytes are opened and hashed, or a disk is slow, the connection goes on answering."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

_T = TypeVar("_T")
_END = object()


@asynccontextmanager
async def entered(context: AbstractContextManager[_T]) -> AsyncIterator[_T]:
    """*context*, entered and left in threads."""
    value = await asyncio.to_thread(context.__enter__)
    try:
        yield value
    except BaseException as e:
        if not await asyncio.to_thread(context.__exit__, type(e), e, e.__traceback__):
            raise
    else:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def each(items: Iterator[_T]) -> AsyncGenerator[_T, None]:
    """What *items* gives, each taken in a thread."""
    while True:
        item = await asyncio.to_thread(next, items, _END)
        if item is _END:
            return
        yield item  # type: ignore[misc]  # the end was told apart above
