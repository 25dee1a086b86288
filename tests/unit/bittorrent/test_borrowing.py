"""Whom a borrowed piece that hashes wrong counts against."""

import asyncio

import pytest

from fleetcast.transport.bittorrent.borrowing import Borrowing, Ended

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nFleetcast-Pieces: {piece}:4\r\n\r\nabcd"


class Loans:
    """Lends piece 0, 1, 2, … to a `Borrowing` in whose torrent every piece hashes wrong."""

    def __init__(self, *, mixed: frozenset[int]) -> None:
        self._mixed = mixed
        self._next = 0
        self.taken: list[int] = []
        self.ended: list[Ended] = []
        self._happened = asyncio.Event()
        self._talks = 0
        self.borrowing: Borrowing

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talks += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(HEAD.replace(b"{piece}", str(self._next).encode()))
                self._next += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            self._talks -= 1
            self._happened.set()

    async def alone(self, piece: int) -> bool:
        return piece not in self._mixed

    async def take(self, piece: int, _data: bytes) -> bool:
        self.taken.append(piece)
        self._happened.set()
        self.borrowing.failed(piece)
        return True

    async def pace(self, _count: int) -> None:
        await asyncio.sleep(0)

    async def until(self, count: int) -> None:
        """Borrow until so many pieces were taken, or it has ended."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.borrowing = Borrowing(
            f"http://{host}:{port}/l/a",
            "me",
            have=lambda: 0,
            take=self.take,
            alone=self.alone,
            pace=self.pace,
            ended=self.ended.append,
        )
        self.borrowing.start()
        try:
            async with asyncio.timeout(30):
                while len(self.taken) < count and not self.ended:
                    self._happened.clear()
                    await self._happened.wait()
        finally:
            self.borrowing.close()
            server.close()
            while self._talks:
                self._happened.clear()
                await self._happened.wait()


@pytest.mark.asyncio
async def test_a_lender_of_wrong_pieces_is_asked_for_no_more() -> None:
    loans = Loans(mixed=frozenset())
    await loans.until(100)
    assert loans.ended == [Ended.WRONG]
    assert len(loans.taken) <= 5


@pytest.mark.asyncio
async def test_a_lender_whose_pieces_were_filled_up_with_what_a_liar_sent_is_not_blamed() -> None:
    loans = Loans(mixed=frozenset(range(1000)))
    await loans.until(50)
    assert loans.ended == []
    assert loans.borrowing.wrong_bytes == 0
