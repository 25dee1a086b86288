"""Borrowing: asks the one node that has everything for pieces that nobody else was handed (ADR 0012).

Over HTTP, on a few connections that stay open. Each answer is a run of pieces that the lender chose; where there is
nothing to lend, it answers late and empty. Standard library only: the child imports this.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from fleetcast.transport.bittorrent.line import Line

LANES = 2
"""Requests under way: while one answer is taken in, the next one is asked for, so that the line never rests."""
STALL_SECONDS = 3.0
"""An answer that brings nothing for so long is given up; the lender answers within a second when it has nothing."""
AGAIN_SECONDS = 0.25
"""Distance of tries to reach a lender that does not answer."""
PATIENCE_SECONDS = 2.0
"""A lender that was not reached for so long is asked as an ordinary peer, if it can be, while tries go on."""
MAX_WRONG_PIECES = 2
"""Pieces of a lender that hash wrong before nothing more is borrowed from it."""
MAX_PIECE_BYTES = 256 * 2**20
_MAX_HEAD_BYTES = 64 * 1024


class Ended(Enum):
    """Why a lender is not what the swarm is fed by."""

    REFUSED = "it does not lend"
    UNREACHABLE = "it does not answer"
    WRONG = "it lent wrong pieces"


class Refused(Exception):
    """The lender answers, and does not lend: it is older, or has not the artifact any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer: pieces and their sizes in bytes, in the order of the body."""

    pieces: tuple[tuple[int, int], ...]


def request(url: str, me: str, have: int) -> bytes:
    """Return the request for more pieces by *me*, who has the pieces *have* (bit *i*: piece *i*)."""
    parts = urlsplit(url)
    bits = base64.b64encode(have.to_bytes(-(-have.bit_length() // 8), "little")).decode()
    lines = (
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Length: 0",
        f"Fleetcast-Borrower: {me}",
        f"Fleetcast-Have: {bits}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(head: bytes) -> Answer:
    """Read the head of an answer.

    Raises:
        Refused: it is none of a lender.
        ValueError: it cannot be understood.
    """
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    code = int(status.split(" ")[1])
    if code == 204:
        return Answer(())
    if code != 200:
        raise Refused(status)
    pairs = (item.partition(":") for item in headers["fleetcast-pieces"].split(","))
    pieces = tuple((int(piece), int(size)) for piece, _, size in pairs)
    if any(piece < 0 or not 0 < size <= MAX_PIECE_BYTES for piece, size in pieces):
        raise ValueError("sizes that no piece has")
    if sum(size for _, size in pieces) != int(headers["content-length"]):
        raise ValueError("pieces that do not make up the body")
    return Answer(pieces)


class Borrowing:
    """Borrows the pieces of one torrent from one lender, until it is closed.

    Args:
        url: where it lends.
        me: how this node calls itself there.
        have: the pieces that need not be lent, as bits: those that are here, and those that peers have. A lender
            forgets who has finished, and would lend what any peer can send.
        take: takes a whole piece; False when it is left to peers. ValueError: it is none of this torrent.
        alone: whether no block of a piece has come from a peer, or can.
        pace: waits until so many bytes more may be received.
        ended: told why this lender does not feed the swarm now; called again when the reason changes.
    """

    def __init__(
        self,
        url: str,
        me: str,
        *,
        have: Callable[[], int],
        take: Callable[[int, bytes], Coroutine[Any, Any, bool]],
        alone: Callable[[int], Coroutine[Any, Any, bool]],
        pace: Callable[[int], Coroutine[Any, Any, None]],
        ended: Callable[[Ended], None],
    ) -> None:
        self.url = url
        self._me = me
        self._have, self._take, self._alone, self._pace, self._ended = have, take, alone, pace, ended
        self.received_bytes = 0
        self.wrong_bytes = 0
        self.unfinished_bytes = 0
        self._reached_at = 0.0
        self._wrong = 0
        self._doubted = False
        self._pending: dict[int, int] = {}
        self._blamed: set[int] = set()
        self._lanes: list[asyncio.Task[None]] = []
        self._open = 0
        self.why_ended: Ended | None = None

    def start(self) -> None:
        """Begin to borrow."""
        self._reached_at = asyncio.get_running_loop().time()
        self._lanes = [asyncio.create_task(self._lane(), name=f"borrow {n}") for n in range(LANES)]

    def close(self) -> None:
        """Stop; what is under way is dropped."""
        for lane in self._lanes:
            lane.cancel()
        self._lanes.clear()
        self._pending.clear()
        self._blamed.clear()

    @property
    def connected(self) -> bool:
        """Whether the lender is talked to."""
        return self._open > 0

    def finished(self, piece: int) -> None:
        """A piece is here and right, whoever brought it."""
        self._pending.pop(piece, None)
        self._blamed.discard(piece)

    def failed(self, piece: int) -> None:
        """A piece hashed wrong, whoever brought it.

        The lender is to blame when nothing but its bytes was in it: libtorrent keeps the blocks of a peer that it has
        banned, and fills up the piece with what was lent. That is looked at from the first wrong piece on.
        """
        self._doubted = True
        size = self._pending.pop(piece, 0)
        if piece not in self._blamed:
            return
        self._blamed.discard(piece)
        self._wrong += 1
        self.wrong_bytes += size
        if self._wrong >= MAX_WRONG_PIECES:
            self._end(Ended.WRONG)
            self.close()

    def _end(self, why: Ended) -> None:
        if self.why_ended is not why:
            self.why_ended = why
            self._ended(why)

    async def _lane(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._talk()
            except Refused:
                self._end(Ended.REFUSED)
                return
            except (OSError, EOFError, ValueError, KeyError, IndexError):
                if loop.time() - self._reached_at > PATIENCE_SECONDS:
                    self._end(Ended.UNREACHABLE)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _talk(self) -> None:
        """Borrow over one connection until it breaks."""
        parts = urlsplit(self.url)
        line = await Line.open(parts.hostname or "", parts.port or 80, STALL_SECONDS)
        self._open += 1
        try:
            while True:
                await self._pace(0)
                await line.send(request(self.url, self._me, self._have()))
                await self._receive(line)
        finally:
            self._open -= 1
            line.close()

    async def _receive(self, line: Line) -> None:
        for piece, size in answer(await line.head(_MAX_HEAD_BYTES)).pieces:
            data = await self._body(line, size)
            try:
                await self._hand_over(piece, data)
            except ValueError as wrong:
                raise Refused("it lends what this torrent has not") from wrong
        self._reached_at = asyncio.get_running_loop().time()
        self.why_ended = None

    async def _hand_over(self, piece: int, data: bytes) -> None:
        # Before it is taken: what comes of it may be known before the call returns.
        self._pending[piece] = len(data)
        if self._doubted and await self._alone(piece):
            self._blamed.add(piece)
        if not await self._take(piece, data):
            self.finished(piece)

    async def _body(self, line: Line, size: int) -> bytes:
        chunks: list[bytes] = []
        try:
            async for chunk in line.body(size):
                chunks.append(chunk)
                self.received_bytes += len(chunk)
                self.unfinished_bytes += len(chunk)
                await self._pace(len(chunk))
        finally:
            self.unfinished_bytes -= sum(map(len, chunks))
        return b"".join(chunks)
