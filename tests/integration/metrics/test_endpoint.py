"""Readers that are slow, many, or not readers at all: the endpoint answers the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from fleetcast.config.metrics import MetricsSettings
from fleetcast.daemons.metrics import endpoint
from fleetcast.daemons.metrics.endpoint import MOST_CONNECTIONS, Endpoint
from fleetcast.daemons.metrics.listening import listen

pytestmark = pytest.mark.asyncio

LARGE = b"x" * 8_000_000
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"
Serve = Callable[[Callable[[], Awaitable[tuple[str, bytes]]]], Awaitable[int]]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    tasks: list[asyncio.Task[None]] = []

    async def start(write: Callable[[], Awaitable[tuple[str, bytes]]]) -> int:
        listener = listen("registry", MetricsSettings(port=0))
        tasks.append(asyncio.create_task(Endpoint(write).serve(listener)))
        return int(listener.getsockname()[1])

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def said(text: bytes = b"fleetcast_x 1\n") -> tuple[str, bytes]:
    return "text/plain", text


async def ask(port: int, request: bytes = GET) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def is_answered(port: int) -> bool:
    """Whether a reader gets the text; one that is turned away may be so before it has asked."""
    try:
        answer = await ask(port)
    except ConnectionError:
        return False
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
    return answer.startswith(b"HTTP/1.1 200")


async def test_the_text_is_given_to_get_and_only_its_length_to_head(serve: Serve) -> None:
    port = await serve(said)

    head, _, body = (await ask(port)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b"fleetcast_x 1\n"
    head, _, body = (await ask(port, GET.replace(b"GET", b"HEAD"))).partition(b"\r\n\r\n")
    assert b"Content-Length: 14" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"/metrics", b"/"), b"404"),
        (GET.replace(b"/metrics", b"/metrics/../etc/passwd"), b"404"),
        (GET.replace(b"GET", b"POST"), b"405"),
        (b"garbage\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"4"),
    ],
)
async def test_what_is_no_question_is_refused(serve: Serve, request_: bytes, status: bytes) -> None:
    port = await serve(said)

    assert (await ask(port, request_)).startswith(b"HTTP/1.1 " + status)
    assert (await ask(port)).startswith(b"HTTP/1.1 200")


async def test_readers_beyond_the_limit_are_turned_away_and_the_rest_is_answered_once_some_have_left(
    serve: Serve,
) -> None:
    port = await serve(said)
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]

    assert not await is_answered(port)
    for _, writer in idle:
        writer.close()
    async with asyncio.timeout(30):
        while not await is_answered(port):  # noqa: ASYNC110 - what is waited for is on the other side
            await asyncio.sleep(0.02)


async def test_a_reader_that_takes_nothing_is_left_and_holds_nobody_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(endpoint, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(endpoint, "FAREWELL_SECONDS", 0.1)
    port = await serve(lambda: said(LARGE))
    silent = await asyncio.open_connection("127.0.0.1", port)
    slow = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    slow[1].write(GET)

    async with asyncio.timeout(30):
        assert (await ask(port)).endswith(LARGE)
        assert await silent[0].read() == b""
        received = 0
        with contextlib.suppress(ConnectionError):
            await asyncio.sleep(1.0)
            while data := await slow[0].read(65536):
                received += len(data)
    assert received < len(LARGE)
    for _, writer in (silent, slow):
        writer.close()


async def test_many_readers_at_once_are_answered_from_one_look(serve: Serve) -> None:
    looks = 0

    async def look() -> tuple[str, bytes]:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.05)
        return await said()

    port = await serve(look)
    answers = await asyncio.gather(*(ask(port) for _ in range(MOST_CONNECTIONS)))

    assert all(each.startswith(b"HTTP/1.1 200") for each in answers)
    assert looks <= 2


async def test_a_look_that_fails_is_an_error_of_the_server_and_tells_nothing_of_why(serve: Serve) -> None:
    async def fail() -> tuple[str, bytes]:
        raise ValueError("the password is swordfish")

    port = await serve(fail)
    answer = await ask(port)

    assert answer.startswith(b"HTTP/1.1 500")
    assert b"swordfish" not in answer
