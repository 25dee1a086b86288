"""Mirrors that are asked to keep to a rate: what they are told last, and who is asked again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from fleetcast.transport import testing
from fleetcast.transport.aria2.asking import Asking

pytestmark = pytest.mark.asyncio
CAP = 10_000_000
YES = b"HTTP/1.1 204 No Content\r\nFleetcast-Sent: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
NO = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
ABSURD = b"HTTP/1.1 204 No Content\r\nFleetcast-Sent: " + b"9" * 5000 + b"\r\n\r\n"


@dataclass
class Mirror:
    """Answers requests for rates as it is told to, and notes the rates; closes the connection of whom it refuses."""

    answer: bytes = YES
    rates: list[int] = field(default_factory=list)
    base: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.rates += [int(line.split()[1]) for line in head.splitlines() if line.startswith(b"fleetcast-rate")]
                writer.write(self.answer)
                await writer.drain()
                if self.answer is not YES:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def mirror(answer: bytes = YES) -> AsyncIterator[Mirror]:
    made = Mirror(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/capability"
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def asking() -> AsyncIterator[Asking]:
    made = Asking()
    try:
        yield made
    finally:
        await made.close()


async def until(condition: Callable[[], bool]) -> None:
    await testing.until(condition, 30)


def directed(a: Asking, m: Mirror, *, obeyed: bool) -> Callable[[], bool]:
    return lambda: a.direct(CAP, [m.base]) is obeyed and bool(m.rates)


async def test_a_mirror_that_is_not_asked_any_more_is_told_that_it_has_no_rate() -> None:
    async with mirror() as m, asking() as a:
        await until(directed(a, m, obeyed=True))
        a.direct(0, [])
        await until(lambda: m.rates[-1] == 0)
        # Who comes back is asked again, whatever was said last.
        await until(directed(a, m, obeyed=True))
        await until(lambda: m.rates[-1] > 0)


async def test_the_end_waits_until_mirrors_are_told_that_they_have_no_rate() -> None:
    async with mirror() as m:
        async with asking() as a:
            await until(directed(a, m, obeyed=True))
        assert m.rates[-1] == 0


@pytest.mark.parametrize("answer", [BUSY, TOO_MANY], ids=["503", "429"])
async def test_a_mirror_that_is_busy_is_asked_again_and_obeys_later(answer: bytes) -> None:
    async with mirror(answer) as m, asking() as a:
        await until(directed(a, m, obeyed=False))
        m.answer = YES
        await until(directed(a, m, obeyed=True))


@pytest.mark.parametrize("answer", [NO, ABSURD], ids=["405", "absurd count"])
async def test_a_mirror_that_knows_no_rates_is_asked_once_and_anew_when_it_has_left(answer: bytes) -> None:
    async with mirror(answer) as m, asking() as a:
        await until(directed(a, m, obeyed=False))
        m.answer = YES
        await until(lambda: a._mirrors[m.base].deaf)
        assert a.direct(CAP, [m.base]) is False
        a.direct(CAP, [])
        # Else every mirror of a fleet's life would be kept; it may be a newer one by now.
        await until(lambda: not a._mirrors)
        await until(directed(a, m, obeyed=True))
        assert len(m.rates) >= 2


async def test_a_mirror_at_no_address_at_all_is_no_fault_of_ours() -> None:
    bases = {"http://127.0.0.1:99999999/c", "http://[::1/c"}
    async with asking() as a:
        a.direct(CAP, bases)
        await until(lambda: all(mirror.deaf for mirror in a._mirrors.values()))
        assert a.direct(CAP, bases) is False
