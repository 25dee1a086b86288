"""Servers that people are told through, real ones on free ports: HTTP and SMTP, in good and in bad health."""

import asyncio
import json
import ssl
from abc import ABC, abstractmethod
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import h11

from fleetcast.bus.server import free_ports

LIMIT_SECONDS = 60.0


@dataclass
class Request:
    """What somebody posted."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Server(ABC):
    """Accepts connections until its block is left; `stop` and `start` play an outage on the same port."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[Writer] = set()
        self._changed = asyncio.Condition()
        self.context: ssl.SSLContext | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.context)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def until(self, holds: Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(holds)

    async def _accept(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self.count()
            with suppress(OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.serve(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def count(self) -> None:
        self.connections += 1
        await self.wake()

    async def wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @abstractmethod
    async def serve(self, reader: Reader, writer: Writer) -> None:
        """One connection, until it is closed."""


Behaviour = Callable[["HttpServer", Request, Writer], Awaitable[None]]


async def answer(writer: Writer, status: int, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"ok") -> None:
    http = h11.Connection(h11.SERVER)
    http.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    http.next_event()
    http.next_event()
    named = [*headers, ("Content-Length", str(len(body))), ("Connection", "close")]
    for event in (h11.Response(status_code=status, headers=named), h11.Data(data=body), h11.EndOfMessage()):
        writer.write(http.send(event) or b"")
    await writer.drain()


class HttpServer(Server):
    """Keeps what is posted; `script` says how the next requests are answered, and then `usually`.

    `received` holds requests that were read whole, `accepted` those that were answered with 2xx.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Request] = []
        self.accepted: list[Request] = []
        self.script: list[Behaviour | int] = []
        self.usually: Behaviour | int = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: Reader, writer: Writer) -> None:
        request = await self._read(reader)
        self.received.append(request)
        await self.wake()
        behaviour = self.script.pop(0) if self.script else self.usually
        if isinstance(behaviour, int):
            if behaviour < 300:
                self.accepted.append(request)
            await answer(writer, behaviour)
        else:
            await behaviour(self, request, writer)
        await self.wake()

    async def _read(self, reader: Reader) -> Request:
        http = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                if not data:
                    raise EOFError
                http.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                break
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Request(head.target.decode(), headers, body)


async def hang_up(server: HttpServer, request: Request, writer: Writer) -> None:
    """Take the request and break off without a word."""
    writer.transport.abort()


async def garbage(server: HttpServer, request: Request, writer: Writer) -> None:
    """Answer with something that is no HTTP."""
    writer.write(b"\x00\xff220 smtp.example.org ESMTP\r\n" * 40)
    await writer.drain()


async def endless(server: HttpServer, request: Request, writer: Writer) -> None:
    """Answer with a body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def dribble(server: HttpServer, request: Request, writer: Writer) -> None:
    """Send a byte of a header now and then, so that no pause is ever long."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def wait_for_ever(server: HttpServer, request: Request, writer: Writer) -> None:
    """Take the request and say nothing."""
    await asyncio.Event().wait()


def too_many(seconds: str) -> Behaviour:
    async def behave(server: HttpServer, request: Request, writer: Writer) -> None:
        await answer(writer, 429, (("Retry-After", seconds),), b"rate limited")

    return behave


def redirect(url: str) -> Behaviour:
    async def behave(server: HttpServer, request: Request, writer: Writer) -> None:
        await answer(writer, 307, (("Location", url),))

    return behave


@dataclass
class Letter:
    """A mail as the server took it."""

    sender: str
    to: list[str]
    data: bytes
    secure: bool
    user: str
    mail: EmailMessage = field(init=False)

    def __post_init__(self) -> None:
        self.mail = BytesParser(policy=policy.default).parsebytes(self.data)


class SmtpServer(Server):
    """Speaks as much of RFC 5321, 3207 and 4954 as a submission needs.

    Attributes:
        tls: offered by STARTTLS; with `context` the connection is encrypted from the first byte on.
        faults: verb -> answer instead of the usual one; `connect` for the greeting, `data_end` for the end of a mail.
        mute: accepts, and says nothing.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, password: str = "") -> None:
        super().__init__()
        self.letters: list[Letter] = []
        self.tls = tls
        self.password = password
        self.faults: dict[str, str] = {}
        self.mute = False

    async def serve(self, reader: Reader, writer: Writer) -> None:
        if self.mute:
            await asyncio.Event().wait()
        await _Session(self, reader, writer).run()


class _Session:
    def __init__(self, server: SmtpServer, reader: Reader, writer: Writer) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.secure, self.user, self.sender = server.context is not None, "", ""
        self.to: list[str] = []

    async def say(self, verb: str, text: str) -> bool:
        """Say the usual thing, or what the fault of this verb is; whether it was the usual thing."""
        fault = self.server.faults.get(verb)
        self.writer.write(f"{fault or text}\r\n".encode())
        await self.writer.drain()
        return fault is None

    async def run(self) -> None:
        await self.say("connect", "220 test ESMTP")
        while line := await self.reader.readline():
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            if not await self.take(verb.upper(), rest):
                return

    async def take(self, verb: str, rest: str) -> bool:
        match verb:
            case "EHLO":
                offers = ["test", "8BITMIME", "SMTPUTF8"]
                offers += ["STARTTLS"] if self.server.tls and not self.secure else []
                offers += ["AUTH PLAIN"] if self.server.password else []
                await self.say(verb, "\r\n".join([*(f"250-{each}" for each in offers[:-1]), f"250 {offers[-1]}"]))
            case "STARTTLS":
                await self.say(verb, "220 go on")
                assert self.server.tls is not None
                await self.writer.start_tls(self.server.tls)
                self.secure = True
            case "AUTH":
                await self.auth(rest)
            case "MAIL":
                self.sender, self.to = rest.partition("<")[2].partition(">")[0], []
                await self.say(verb, "250 ok")
            case "RCPT":
                if await self.say(verb, "250 ok"):
                    self.to.append(rest.partition("<")[2].partition(">")[0])
            case "DATA":
                await self.data()
            case "QUIT":
                await self.say(verb, "221 bye")
                return False
            case _:
                await self.say(verb, "250 ok")
        return True

    async def auth(self, rest: str) -> None:
        import base64

        _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
        if password != self.server.password:
            await self.say("AUTH", "535 no")
        elif await self.say("AUTH", "235 ok"):
            self.user = user

    async def data(self) -> None:
        if not await self.say("DATA", "354 go on"):
            return
        data = await self.reader.readuntil(b"\r\n.\r\n")
        letter = Letter(self.sender, self.to, data[:-3].replace(b"\r\n..", b"\r\n."), self.secure, self.user)
        if await self.say("data_end", "250 taken"):
            self.server.letters.append(letter)
            await self.server.wake()


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop()
