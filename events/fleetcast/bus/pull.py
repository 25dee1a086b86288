"""Consumers, declared and compared; and messages pulled from them without a gap.

One pull request is always outstanding, so that a message is delivered the moment it is stored; heartbeats and status
messages tell at once when the consumer, its leader or the connection is gone. Protocol: ADR-37 of
nats-architecture-and-design.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fleetcast.bus.errors import (
    BusError,
    DeclarationRefused,
    NotFound,
    OperationRefused,
    TransportFailed,
)
from fleetcast.bus.jetstream import CONSUMER_EXISTS, NANOSECONDS, JetStream
from fleetcast.bus.link import Message
from fleetcast.bus.streams import Change, differences

PULL_EXPIRES_SECONDS = 30.0
HEARTBEAT_SECONDS = 2.5
MISSED_HEARTBEATS = 2
PULL_BYTES = 8 * 2**20
UNCHANGEABLE = frozenset({"deliver_policy", "opt_start_seq", "opt_start_time", "ack_policy", "replay_policy"})

_HEARTBEAT, _NOT_FOUND, _TIMEOUT, _CONFLICT, _NO_RESPONDERS = 100, 404, 408, 409, 503


class Interrupted(TransportFailed):
    """The flow of a consumer's messages broke off; the consumer has to be looked at again."""


async def last_sequence(js: JetStream, stream: str) -> int:
    """Sequence of the newest message that was ever stored in *stream*; 0 for none.

    Raises:
        TransportFailed: no answer.
        NotFound: there is no such stream.
    """
    return int((await js.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"])


async def create_ephemeral(js: JetStream, stream: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Make a consumer in memory that lives as long as somebody pulls; returns its information.

    Raises:
        TransportFailed: no answer.
        OperationRefused: refused, e.g. NotFound when there is no such stream.
    """
    body = {"stream_name": stream, "config": {**config, "mem_storage": True, "num_replicas": 1}, "action": ""}
    return await js.api(f"CONSUMER.CREATE.{stream}.{config['name']}", body)


async def delete_consumer(js: JetStream, stream: str, name: str) -> None:
    """Remove a consumer as far as the bus allows it now; an ephemeral one ends by itself anyway."""
    with suppress(BusError, TimeoutError):
        await js.api(f"CONSUMER.DELETE.{stream}.{name}", timeout_seconds=1.0)


async def declare_consumer(js: JetStream, stream: str, config: Mapping[str, Any]) -> Change | None:
    """Bring a durable consumer to its declaration: nats-py and the server silently keep what exists.

    Raises:
        DeclarationRefused: it exists with settings that cannot be changed.
        TransportFailed, OperationRefused: as `JetStream.api`.
    """
    name = str(config["durable_name"])
    try:
        found = (await js.api(f"CONSUMER.INFO.{stream}.{name}"))["config"]
    except NotFound:
        created = await _create_durable(js, stream, config)
        if created:
            return Change(f"{stream}/{name}", "created")
        found = (await js.api(f"CONSUMER.INFO.{stream}.{name}"))["config"]
    changed = differences(config, found)
    if not changed:
        return None
    fixed = UNCHANGEABLE.intersection(changed)
    if fixed:
        raise DeclarationRefused(
            f"consumer {stream}/{name} exists with another {', '.join(sorted(fixed))}",
            next_step=f"nats consumer rm {stream} {name}, then start again",
        )
    await js.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config, "action": "update"})
    return Change(f"{stream}/{name}", "updated", changed)


async def _create_durable(js: JetStream, stream: str, config: Mapping[str, Any]) -> bool:
    body = {"stream_name": stream, "config": config, "action": "create"}
    try:
        await js.api(f"CONSUMER.CREATE.{stream}.{config['durable_name']}", body)
    except OperationRefused as e:
        # Another member of the group was quicker, with other settings: compare like any existing one.
        if e.error_code == CONSUMER_EXISTS:
            return False
        raise
    return True


class Pull:
    """Messages of one consumer over one connection.

    `get` raises Interrupted once anything is wrong; the caller then makes a new Pull.
    """

    def __init__(self, js: JetStream, stream: str, consumer: str, inbox: str, queue: asyncio.Queue[Message]) -> None:
        self._js = js
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = inbox
        self._queue = queue
        self._outstanding = 0

    async def _request(self, credit: int) -> None:
        body = {
            "batch": credit,
            "max_bytes": PULL_BYTES,
            "expires": int(PULL_EXPIRES_SECONDS * NANOSECONDS),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * NANOSECONDS),
        }
        await self._js.wire.publish(self._subject, json.dumps(body).encode(), reply=self._inbox)
        self._outstanding = credit

    async def get(self, credit: int) -> Message:
        """The next message; *credit* is how many may come when the server has to be asked again.

        Raises:
            Interrupted: the consumer, its leader or the connection is gone.
        """
        while True:
            if self._outstanding <= 0 and self._queue.empty():
                await self._request(credit)
            message = await self._receive()
            if message.status is None:
                self._outstanding -= 1
                return message
            self._status(message)

    def waiting(self) -> list[Message]:
        """The messages that came and were not taken yet, without waiting for any.

        Raises:
            Interrupted: as `get`; what came before is lost to this Pull, and delivered again by the next.
        """
        found = []
        while not self._queue.empty():
            message = self._queue.get_nowait()
            if message.status is None:
                self._outstanding -= 1
                found.append(message)
            else:
                self._status(message)
        return found

    async def _receive(self) -> Message:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS * MISSED_HEARTBEATS):
                return await self._queue.get()
        except TimeoutError as e:
            raise Interrupted("no heartbeat from the consumer") from e

    def _status(self, message: Message) -> None:
        completed = message.status == _CONFLICT and "Batch Completed" in message.description
        if message.status == _HEARTBEAT or completed:
            # A completed batch was counted message by message; the next request may be on its way already.
            return
        too_large = message.status == _CONFLICT and "MaxBytes" in message.description
        if message.status in {_TIMEOUT, _NOT_FOUND} or too_large:
            self._outstanding = 0
            return
        raise Interrupted(f"{message.status} {message.description}".strip())


@asynccontextmanager
async def open_pull(js: JetStream, stream: str, consumer: str) -> AsyncIterator[Pull]:
    """A flow of messages from an existing consumer, ended at once when the connection is.

    Raises:
        Interrupted: there is no connection.
    """
    queue: asyncio.Queue[Message] = asyncio.Queue()
    gone = Message("", b"", status=_NO_RESPONDERS, description="the connection ended")
    async with js.wire.inbox_for_stream(queue.put_nowait) as inbox:
        unhook = js.wire.when_lost(lambda: queue.put_nowait(gone))
        try:
            if not js.wire.connected:
                raise Interrupted("not connected")
            yield Pull(js, stream, consumer, inbox, queue)
        finally:
            unhook()
