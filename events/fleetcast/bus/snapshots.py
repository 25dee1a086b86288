"""A whole stream as the server writes it down: settings, messages with sequences and times, consumers; and back.

JetStream's own snapshots, over plain requests: chunks come to an inbox and are acknowledged one by one, so that the
server never sends more than a window ahead of who writes them away. What is in them is the server's affair.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.bus.errors import BusUnavailable, ConnectionLost, OperationRefused
from fleetcast.bus.jetstream import JetStream, decode
from fleetcast.bus.link import Message

CHUNK_BYTES: Final = 128 * 1024
WINDOW_BYTES: Final = 4 * 2**20
"""Sent ahead of our acknowledgements: far below what a subscription may have waiting before messages are dropped."""
IDLE_SECONDS: Final = 60.0
"""Longest silence of a server that gathers, or takes in, a stream."""
PIECE_BYTES: Final = 16 * 1024
"""Sent at once to a server that restores. It writes every message down before it answers, a thousand a second where
each is synced to the disk, and a few bytes of a snapshot may be many messages."""
PIECE_SECONDS: Final = 300.0
FINISH_SECONDS: Final = 900.0
"""After the last chunk of a restored stream the server reads all of it once more, and copies it to its followers."""
GOOD: Final = (None, 204)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stream as it was at one moment.

    Attributes:
        config: its settings, as the server has them.
        state: what it held: `messages`, `first_seq`, `last_seq`, `consumer_count`, …
        chunks: the snapshot, to be read once.
    """

    config: Mapping[str, Any]
    state: Mapping[str, Any]
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def snapshot(js: JetStream, stream: str) -> AsyncIterator[Snapshot]:
    """Have the server write *stream* down.

    Raises:
        NotFound: there is no such stream.
        BusUnavailable, ConnectionLost: the server stopped sending.
        OperationRefused: the server or this role refuses.
    """
    queue: asyncio.Queue[Message | None] = asyncio.Queue()
    # A subject subscribed to as it is: for one that only a wildcard covers, the server waits two seconds (tried).
    async with js.wire.inbox_for_stream(queue.put_nowait) as inbox:
        take_back = js.wire.when_lost(lambda: queue.put_nowait(None))
        try:
            request = {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "window_size": WINDOW_BYTES}
            answer = await js.api(f"STREAM.SNAPSHOT.{stream}", request, timeout_seconds=IDLE_SECONDS)
            yield Snapshot(answer["config"], answer["state"], _chunks(js, stream, queue))
        finally:
            take_back()


async def _chunks(js: JetStream, stream: str, queue: asyncio.Queue[Message | None]) -> AsyncIterator[bytes]:
    number = 0
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await queue.get()
        except TimeoutError as e:
            raise BusUnavailable(f"the snapshot of {stream} stands still for {IDLE_SECONDS:g} s") from e
        if message is None:
            raise ConnectionLost(f"the connection was lost in the middle of the snapshot of {stream}")
        if not message.data:
            if message.status not in GOOD:
                raise BusUnavailable(f"the snapshot of {stream} broke off: {message.description or message.status}")
            return
        number += 1
        _in_order(stream, message, number)
        yield message.data
        # Only now: the window is what whoever writes the chunks away has not taken in yet.
        if message.reply:
            await js.wire.publish(message.reply, b"")


def _in_order(stream: str, message: Message, number: int) -> None:
    """The server numbers the chunks that it wants acknowledged, in the last token of where the answer goes."""
    said = message.reply.rpartition(".")[2]
    if said.isdigit() and int(said) != number:
        raise BusUnavailable(f"chunk {number} of the snapshot of {stream} was lost on its way")


async def restore(
    js: JetStream, stream: str, config: Mapping[str, Any], state: Mapping[str, Any], chunks: AsyncIterator[bytes]
) -> dict[str, Any]:
    """Make *stream* from a snapshot; the server's description of it. Left off in the middle, nothing of it stays.

    Raises:
        OperationRefused: there is such a stream, the server cannot read the snapshot, or this role may not.
        TransportFailed: the server does not answer; whether the stream is there now is told by its description.
    """
    answer = await js.api(
        f"STREAM.RESTORE.{stream}", {"config": dict(config), "state": dict(state)}, timeout_seconds=IDLE_SECONDS
    )
    subject = str(answer["deliver_subject"])
    async for chunk in chunks:
        for begin in range(0, len(chunk), PIECE_BYTES):
            piece = chunk[begin : begin + PIECE_BYTES]
            taken = await js.wire.request(subject, piece, timeout_seconds=PIECE_SECONDS)
            if taken.data:
                decode(taken)
                raise OperationRefused(f"the server wants no more of {stream} than it has")
    return decode(await js.wire.request(subject, b"", timeout_seconds=FINISH_SECONDS))
