"""Metadata services for tests and drills on one machine: they speak the documented HTTP interfaces of AWS and GCP on
loopback, and say what a test has them say.

    async with aws_metadata() as cloud:
        cloud.interrupt("terminate", datetime(...))
        await Aws(cloud.url).look()
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import h11

_META = "/latest/meta-data/"
_GCP = "/computeMetadata/v1/instance/"


@dataclass
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class _Reply:
    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Metadata(ABC):
    """One such service.

    Attributes:
        url: where it answers.
        values: what lies below its instance path.
        asked: paths that were asked for, in order.
        broken: answer with status 500.
        silent: take the connection and never answer.
    """

    url: str = ""
    values: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: bool = False
    silent: bool = False

    @abstractmethod
    def answer(self, request: _Request) -> _Reply:
        """What it says to one request."""


@dataclass
class AwsMetadata(Metadata):
    """The instance metadata service, version 2: no token, no answer."""

    tokens: list[str] = field(default_factory=list)

    def interrupt(self, action: str, at: datetime) -> None:
        """The interruption notice of a spot instance."""
        self.values["spot/instance-action"] = json.dumps({"action": action, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"})

    def rebalance(self, noticed: datetime) -> None:
        """The recommendation to rebalance."""
        self.values["events/recommendations/rebalance"] = json.dumps({"noticeTime": f"{noticed:%Y-%m-%dT%H:%M:%SZ}"})

    def maintain(self, code: str, at: datetime, state: str = "active") -> None:
        """A scheduled event."""
        event = {"Code": code, "Description": "…", "EventId": "instance-event-1", "State": state}
        event["NotBefore"] = f"{at:%d %b %Y %H:%M:%S} GMT"
        self.values["events/maintenance/scheduled"] = json.dumps([event])

    def forget_tokens(self) -> None:
        """Refuse every token that was given until now."""
        self.tokens.clear()

    def answer(self, request: _Request) -> _Reply:
        """What it says to one request."""
        if request.path == "/latest/api/token":
            if request.method != "PUT" or "x-aws-ec2-metadata-token-ttl-seconds" not in request.headers:
                return _Reply(405)
            self.tokens.append(f"token-{len(self.asked)}")
            return _Reply(200, self.tokens[-1])
        if request.headers.get("x-aws-ec2-metadata-token") not in self.tokens:
            return _Reply(401)
        found = self.values.get(request.path.removeprefix(_META))
        return _Reply(404) if found is None else _Reply(200, found)


@dataclass
class GcpMetadata(Metadata):
    """The metadata server of Compute Engine: no flavor, no answer."""

    def __post_init__(self) -> None:
        self.values = {"preempted": "FALSE", "maintenance-event": "NONE", **self.values}

    def preempt(self) -> None:
        """The machine is preempted."""
        self.values["preempted"] = "TRUE"

    def answer(self, request: _Request) -> _Reply:
        """What it says to one request."""
        flavor = (("Metadata-Flavor", "Google"),)
        if request.headers.get("metadata-flavor") != "Google":
            return _Reply(403, headers=flavor)
        found = self.values.get(request.path.removeprefix(_GCP))
        return _Reply(404, headers=flavor) if found is None else _Reply(200, found, flavor)


@asynccontextmanager
async def aws_metadata() -> AsyncIterator[AwsMetadata]:
    """A metadata service of AWS on loopback."""
    made = AwsMetadata()
    async with _served(made):
        yield made


@asynccontextmanager
async def gcp_metadata() -> AsyncIterator[GcpMetadata]:
    """A metadata server of GCP on loopback."""
    made = GcpMetadata()
    async with _served(made):
        yield made


@asynccontextmanager
async def _served(metadata: Metadata) -> AsyncIterator[None]:
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await _talk(metadata, reader, writer)
        finally:
            writer.transport.abort()
            talks.discard(task)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    metadata.url = f"http://{host}:{port}"
    try:
        yield
    finally:
        server.close()
        for task in tuple(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


async def _talk(metadata: Metadata, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    http = h11.Connection(h11.SERVER)
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(4096))
    if not isinstance(event, h11.Request):
        return
    headers = {name.decode(): value.decode() for name, value in event.headers}
    request = _Request(event.method.decode(), event.target.decode(), headers)
    metadata.asked.append(request.path)
    if metadata.silent:
        await asyncio.Event().wait()
    reply = _Reply(500) if metadata.broken else metadata.answer(request)
    body = reply.body.encode()
    response = h11.Response(
        status_code=reply.status, headers=[("Content-Length", str(len(body))), ("Connection", "close"), *reply.headers]
    )
    for part in (response, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(http.send(part) or b"")
    await writer.drain()
