"""The NATS services protocol (ADR-32 of nats-architecture-and-design): `nats micro ls|info|stats` show every daemon.

nats-py's own form cannot leave out the queue group (an empty one silently becomes `q`, so that one node of all would
answer); here the group is the node.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from fleetcast.bus import tracing
from fleetcast.bus.errors import BusError
from fleetcast.bus.link import Message
from fleetcast.bus.wire import Wire
from fleetcast.client.ulid import new_ulid

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

ERROR, ERROR_CODE = "Nats-Service-Error", "Nats-Service-Error-Code"
CONCURRENT_REQUESTS = 32

EndpointHandler = Callable[[bytes], Awaitable[bytes]]


class ServiceError(Exception):
    """An answer that says no: a handler raises it with a code of the HTTP kind and a text for the caller."""

    def __init__(self, code: int, description: str) -> None:
        self.code = code
        self.description = description
        super().__init__(f"{code} {description}")


@dataclass(frozen=True, slots=True)
class Service:
    """One daemon as a service.

    Attributes:
        name: `A-Z a-z 0-9 _ -`.
        version: semantic version.
        endpoints: name -> (subject, handler of the request's bytes).
        group: daemons of one group share requests, each is answered by one of them; empty: every node answers.
        data: what a daemon adds to its statistics, e.g. queue lengths.
    """

    name: str
    version: str
    description: str
    endpoints: Mapping[str, tuple[str, EndpointHandler]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    data: Callable[[], Mapping[str, Any]] = dict


@dataclass(slots=True)
class _Count:
    requests: int = 0
    errors: int = 0
    last_error: str = ""
    nanoseconds: int = 0


class RunningService:
    """A service that answers until `stop`."""

    def __init__(self, wire: Wire, service: Service) -> None:
        self.id = new_ulid()
        self._wire = wire
        self._service = service
        self._started = datetime.now(UTC)
        self._counts = {name: _Count() for name in service.endpoints}
        self._stops: list[Callable[[], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(CONCURRENT_REQUESTS)
        self._queue = service.group or wire.node

    async def start(self) -> None:
        """Begin to answer, on this connection and all later ones."""
        for verb, answer in (("PING", self._identity), ("INFO", self._info), ("STATS", self._stats)):
            for suffix in ("", f".{self._service.name}", f".{self._service.name}.{self.id}"):
                callback = self._monitor(answer)
                self._stops.append(await self._wire.listen(f"$SRV.{verb}{suffix}", callback))
        for name, (subject, handler) in self._service.endpoints.items():
            callback = self._endpoint(name, handler)
            self._stops.append(await self._wire.listen(subject, callback, queue=self._queue))

    async def stop(self) -> None:
        """Stop listening, then let the requests in progress end."""
        for stop in self._stops:
            await stop()
        self._stops.clear()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=2.0)
        for task in set(self._tasks):
            task.cancel()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _monitor(self, answer: Callable[[], dict[str, Any]]) -> Callable[[Message], None]:
        def callback(message: Message) -> None:
            if message.reply:
                self._spawn(self._reply(message.reply, json.dumps(answer(), default=str).encode(), None))

        return callback

    def _endpoint(self, name: str, handler: EndpointHandler) -> Callable[[Message], None]:
        def callback(message: Message) -> None:
            self._spawn(self._answer(name, handler, message))

        return callback

    async def _answer(self, name: str, handler: EndpointHandler, message: Message) -> None:
        async with self._slots:
            fault = await self._call(name, handler, message)
            if fault is not None:
                # In a thread, for a trace reads the source files that it shows; and nobody waits for that.
                await asyncio.to_thread(
                    log.error, "service.failed", service=self._service.name, endpoint=name, exc_info=fault
                )

    async def _call(self, name: str, handler: EndpointHandler, message: Message) -> Exception | None:
        """Answer one request; returns what the handler failed with for no reason of the contract."""
        count, began = self._counts[name], time.perf_counter_ns()
        data, headers, fault = b"", None, None
        try:
            with tracing.continued(message.headers):
                data = await handler(message.data)
        except ServiceError as e:
            headers = {ERROR: e.description.replace("\n", " "), ERROR_CODE: str(e.code)}
        except Exception as e:
            fault = e
            headers = {ERROR: f"{type(e).__name__}: {e}".replace("\n", " "), ERROR_CODE: "500"}
        count.requests += 1
        count.nanoseconds += time.perf_counter_ns() - began
        if headers is not None:
            count.errors += 1
            count.last_error = f"{headers[ERROR_CODE]}:{headers[ERROR]}"
        if message.reply:
            await self._reply(message.reply, data, headers)
        return fault

    async def _reply(self, reply: str, data: bytes, headers: Mapping[str, str] | None) -> None:
        try:
            await self._wire.publish(reply, data, headers=headers)
        except BusError as e:
            log.info("service.unanswered", service=self._service.name, reason=str(e))

    def _identity(self, kind: str = "ping") -> dict[str, Any]:
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": self._service.name,
            "id": self.id,
            "version": self._service.version,
            "metadata": {"node": self._wire.node, **self._service.metadata},
        }

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": name, "subject": subject, "queue_group": self._queue, "metadata": {}}
            for name, (subject, _) in self._service.endpoints.items()
        ]
        return {**self._identity("info"), "description": self._service.description, "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            {
                "name": name,
                "subject": subject,
                "queue_group": self._queue,
                "num_requests": self._counts[name].requests,
                "num_errors": self._counts[name].errors,
                "last_error": self._counts[name].last_error,
                "processing_time": self._counts[name].nanoseconds,
                "average_processing_time": self._counts[name].nanoseconds // max(self._counts[name].requests, 1),
                "data": dict(self._service.data()),
            }
            for name, (subject, _) in self._service.endpoints.items()
        ]
        return {**self._identity("stats"), "started": self._started.isoformat(), "endpoints": endpoints}
