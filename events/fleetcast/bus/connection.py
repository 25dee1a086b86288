"""The bus as its users see it: one object per process, from `connect`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

import structlog

from fleetcast.bus import tracing
from fleetcast.bus import watch as reading
from fleetcast.bus.consume import ConsumerSpec, Handler
from fleetcast.bus.consumption import Consumption
from fleetcast.bus.dead import DeadLetterBox
from fleetcast.bus.errors import (
    AccessDenied,
    BusUnavailable,
    ConnectionLost,
    NoResponder,
    ServiceFailed,
    TransportFailed,
)
from fleetcast.bus.handled import Handled
from fleetcast.bus.intake import EventHandler, event_handler
from fleetcast.bus.jetstream import Entry, JetStream
from fleetcast.bus.keyvalue import KeyValue, KvEntry
from fleetcast.bus.leases import Leases
from fleetcast.bus.link import Message
from fleetcast.bus.objects import Objects
from fleetcast.bus.publish import BatchMessage, Publisher, Receipt
from fleetcast.bus.pull import last_sequence
from fleetcast.bus.retry import DIAL
from fleetcast.bus.services import ERROR, ERROR_CODE, RunningService, Service
from fleetcast.bus.supervision import BusState, Canary
from fleetcast.bus.watch import InSync
from fleetcast.bus.wire import Wire
from fleetcast.config.settings import BusSettings
from fleetcast.events.envelope import Event

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

SETTLE_SECONDS = 0.3
"""After the first answer of many, how long the next may take."""


class Spool(Protocol):
    """Where events wait that the bus does not take now."""

    def append(self, record: bytes) -> object:
        """Keep a record, durably."""


StateCallback = Callable[[BusState], None]


class Bus:
    """Publish, consume, watch, request; made by `connect`."""

    def __init__(self, settings: BusSettings, *, node: str, daemon: str, jetstream: bool) -> None:
        self.settings = settings
        self.node = node
        self.daemon = daemon
        self.closed = asyncio.Event()
        self.proven = asyncio.Event()
        """Set for good by the first round trip: a message was stored and read back."""
        self.tried_at = time.monotonic()
        """When its supervision last ended a try, a round trip or a dial, well or not (`time.monotonic`)."""
        self.wire = Wire(settings, node=node, daemon=daemon)
        self.js = JetStream(self.wire)
        self.publisher = Publisher(self.js, settings.publish_deadline_seconds)
        self.kv = KeyValue(self.js, self.publisher)
        self.leases = Leases(self.kv)
        self.objects = Objects(self.js, self.publisher)
        self.dead = DeadLetterBox(self.js, self.publisher, lambda stream: reading.tail(self.js, stream, []))
        self.canary = Canary(self.js, jetstream=jetstream, report=self._proved)
        self._state = BusState.CONNECTING
        self._callbacks: list[StateCallback] = []
        self.on_handled: Callable[[Handled], None] = lambda _: None
        """Called (synchronous, quick) with what became of every message that a handler was given."""
        self._services: list[RunningService] = []
        self.wire.on_change = self._connection_changed
        self.wire.on_try = self._tried

    # -- state

    @property
    def state(self) -> BusState:
        """How the bus is: `ready` only while round trips succeed."""
        return self._state

    def on_state(self, callback: StateCallback) -> None:
        """Call *callback* (synchronous, quick) with every new state."""
        self._callbacks.append(callback)

    def _set_state(self, state: BusState, reason: str = "") -> None:
        if state is self._state:
            return
        self._state = state
        # A command that ends is not worth a line; a connection that closed for good is told by `_note_end`.
        level = {BusState.READY: log.info, BusState.CLOSED: log.debug}.get(state, log.warning)
        level("bus.state", state=state.value, reason=reason)
        for callback in self._callbacks:
            callback(state)

    def _connection_changed(self, connected: bool) -> None:
        self.canary.wake()
        if not connected:
            self._set_state(BusState.DEGRADED, self.wire.lost_because)

    def _tried(self) -> None:
        self.tried_at = time.monotonic()

    def _proved(self, success: bool, problem: str) -> None:
        if success:
            self.proven.set()
        self._set_state(BusState.READY if success else BusState.DEGRADED, problem)

    def local_address(self) -> str:
        """IP address of this machine as seen on the connection to NATS.

        Raises:
            ConnectionLost: not connected now.
        """
        return self.wire.link.local_address

    async def rtt(self) -> float:
        """Seconds of one PING and PONG.

        Raises:
            BusUnavailable: none came.
        """
        return await self.wire.rtt(self.settings.request_timeout_seconds)

    @property
    def server(self) -> Mapping[str, Any]:
        """What the server says about itself (`version`, `server_id`, `cluster`, …).

        Raises:
            ConnectionLost: not connected now.
        """
        return self.wire.server_info

    # -- streams

    async def publish(self, event: Event, *, deadline_seconds: float | None = None) -> Receipt:
        """Store an event in FC_EVENTS, trying until the deadline (default: the settings' publish deadline).

        Raises:
            BusUnavailable: not before the deadline; it may be stored all the same.
            OperationRefused, PayloadTooLarge: refused for good.
        """
        event = tracing.stamped(event)
        with tracing.span_of(event, doing="publish", node=self.node):
            data, headers = tracing.stamped(event, anew=True).encode()
            return await self.publisher.publish(event.subject, data, headers, deadline_seconds=deadline_seconds)

    async def publish_raw(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        deadline_seconds: float | None = None,
    ) -> Receipt:
        """Store bytes in whichever stream takes *subject*; without a `Nats-Msg-Id` a retry may store them twice.

        Raises:
            SubjectFull: the subject holds as many messages as it may (work queues).
            BusUnavailable, OperationRefused, PayloadTooLarge: as `publish`.
        """
        return await self.publisher.publish(subject, data, headers, deadline_seconds=deadline_seconds)

    async def emit(self, event: Event, spool: Spool, *, deadline_seconds: float | None = None) -> Receipt | None:
        """Store an event, or spool it when the bus does not take it in time; None when it was spooled."""
        event = tracing.stamped(event)
        try:
            return await self.publish(event, deadline_seconds=deadline_seconds)
        except (TransportFailed, AccessDenied) as e:
            # A permission that is missing today may be granted tomorrow; the event must not be lost meanwhile.
            log.warning("event.spooled", event_id=event.id, subject=event.subject, reason=str(e))
            await asyncio.to_thread(spool.append, event.encode()[0])
            return None

    async def batch(self, messages: Sequence[BatchMessage]) -> int:
        """Store all or none (ADR-50); the sequence of the last. Errors as `Publisher.batch`."""
        return await self.publisher.batch(messages)

    async def consume(self, spec: ConsumerSpec, handler: Handler) -> None:
        """Give every message to *handler* under the contract of `fleetcast.bus.consume`; runs until cancelled.

        Raises:
            OperationRefused: the consumer cannot be declared.
        """
        await Consumption(self.js, spec, handler, self.dead, self._tell_handled).run()

    def _tell_handled(self, handled: Handled) -> None:
        self.on_handled(handled)

    async def consume_events(
        self, spec: ConsumerSpec, handler: EventHandler, *, reject_source: str, report_invalid: bool = False
    ) -> None:
        """As `consume`, with the event parsed.

        One consumer group per fleet sets *report_invalid*: it turns what does not parse into a dead letter and an
        `event.rejected`; the others pass it over.
        """
        wrapped = event_handler(
            handler, self.publish, reject_source=reject_source, node=self.node, report_invalid=report_invalid
        )
        await self.consume(spec, wrapped)

    def watch(self, stream: str, subjects: Sequence[str]) -> AsyncGenerator[Entry | InSync, None]:
        """Newest message per subject, `InSync`, then what comes; begins anew after every interruption, never ends."""
        return reading.watch(self.js, stream, subjects)

    def tail(
        self,
        stream: str,
        subjects: Sequence[str],
        *,
        start_sequence: int | None = None,
        start_time: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Entry]:
        """Every message in order from a sequence or time (default: the first); with *follow*, then what comes.

        Raises:
            TransportFailed: the bus does not answer (without *follow*).
            NotFound: there is no such stream.
        """
        return reading.tail(
            self.js, stream, subjects, start_sequence=start_sequence, start_time=start_time, follow=follow
        )

    def batches(
        self,
        stream: str,
        subjects: Sequence[str],
        *,
        start_sequence: int | None = None,
        start_time: datetime | None = None,
    ) -> AsyncGenerator[list[Entry], None]:
        """Every message in order from a sequence or time (default: the first), as many at once as have come; goes on
        across interruptions and never ends. For streams that may storm: it costs half of what `tail` does."""
        return reading.batches(self.js, stream, subjects, start_sequence=start_sequence, start_time=start_time)

    async def newest(self, stream: str, subjects: Sequence[str]) -> list[Entry]:
        """The newest message of every subject, as of now.

        Raises:
            TransportFailed: the bus does not answer.
            NotFound: there is no such stream.
        """
        return await reading.snapshot(self.js, stream, subjects)

    async def last(self, stream: str, subject: str) -> Entry | None:
        """Newest message on *subject*, read through the leader; None for none.

        Raises:
            TransportFailed: the bus does not answer.
            NotFound: there is no such stream.
        """
        return await self.js.message(stream, last_by_subj=subject)

    async def last_sequence(self, stream: str) -> int:
        """Sequence of the newest message that was ever stored; 0 for none. Errors as `last`."""
        return await last_sequence(self.js, stream)

    # -- keys and objects

    async def kv_put(self, bucket: str, key: str, data: bytes, *, deadline_seconds: float | None = None) -> int:
        """Store a value; its revision. Raises BusUnavailable."""
        return await self.kv.put(bucket, key, data, deadline_seconds=deadline_seconds)

    async def kv_get(self, bucket: str, key: str) -> KvEntry | None:
        """A value; None for none. Raises TransportFailed, NotFound (no such bucket)."""
        return await self.kv.get(bucket, key)

    async def kv_entries(self, bucket: str) -> list[KvEntry]:
        """All values. Raises TransportFailed, NotFound (no such bucket)."""
        return await self.kv.entries(bucket)

    async def kv_delete(self, bucket: str, key: str) -> None:
        """Delete a key. Raises BusUnavailable."""
        await self.kv.delete(bucket, key)

    async def object_put(self, name: str, data: bytes) -> None:
        """Store bytes under a name in `fc_meta`. Raises BusUnavailable."""
        await self.objects.put(name, data)

    async def object_get(self, name: str) -> bytes:
        """Bytes by name. Raises NotFound, ObjectDamaged, TransportFailed."""
        return await self.objects.get(name)

    # -- core NATS: nothing is stored

    async def send(self, subject: str, data: bytes) -> bool:
        """Send to whoever listens now; False when there is no connection. Never waits, never raises for a lost one."""
        try:
            await self.wire.publish(subject, data)
        except ConnectionLost:
            return False
        return True

    async def listen(
        self, subject: str, callback: Callable[[Message], None], *, queue: str = ""
    ) -> Callable[[], Awaitable[None]]:
        """Call *callback* (synchronous, quick) with every message, over reconnections too; the result ends it."""
        return await self.wire.listen(subject, callback, queue=queue)

    async def request(self, subject: str, data: bytes, timeout_seconds: float = 5.0) -> bytes:
        """Ask and wait for one answer.

        Raises:
            NoResponder: nobody listens.
            BusTimeout, ConnectionLost: no answer.
            ServiceFailed: the service answered with an error.
        """
        answer = await self.wire.request(subject, data, timeout_seconds=timeout_seconds, headers=tracing.headers())
        if ERROR in answer.headers:
            code = answer.headers.get(ERROR_CODE, "0")
            raise ServiceFailed(answer.headers[ERROR], code=int(code) if code.isdigit() else 0)
        return answer.data

    async def request_many(
        self,
        subject: str,
        data: bytes,
        timeout_seconds: float = 2.0,
        expect: int | None = None,
        *,
        settle_seconds: float | None = SETTLE_SECONDS,
    ) -> list[bytes]:
        """Ask everybody; ends after *expect* answers, after *settle_seconds* without another, or at the timeout.

        Answers that are errors of a service are left out. No answer at all is an empty list.

        Raises:
            ConnectionLost: not connected now.
        """
        answers = await self.wire.request_many(
            subject, data, timeout_seconds=timeout_seconds, expect=expect, settle_seconds=settle_seconds
        )
        return [answer.data for answer in answers if ERROR not in answer.headers]

    async def serve(self, service: Service) -> RunningService:
        """Answer as a service until the bus closes or `stop` is called on the result."""
        running = RunningService(self.wire, service)
        await running.start()
        self._services.append(running)
        return running

    # -- life

    async def dial(self, *, wait: bool) -> None:
        """Make the first connection; errors as `connect`."""
        await self._until(self.wire.dial_once, wait=wait)

    async def find_jetstream(self, *, wait: bool) -> None:
        """Return once JetStream answers; errors as `connect`."""
        await self._until(self._check_jetstream, wait=wait)

    async def _until(self, attempt: Callable[[], Awaitable[None]], *, wait: bool) -> None:
        failures, last = 0, ""
        while True:
            try:
                await attempt()
                return
            except TransportFailed as e:
                if not wait:
                    raise
                failures += 1
                if str(e) != last:
                    log.warning("bus.state", state=self._state.value, reason=str(e))
                last = str(e)
                await asyncio.sleep(DIAL.delay(failures))

    async def _check_jetstream(self) -> None:
        try:
            await self.js.api("INFO")
        except NoResponder as e:
            raise BusUnavailable(
                f"{self.settings.url} answers, but not its JetStream",
                next_step="start nats-server with a jetstream block, or wait for the cluster to elect a leader",
            ) from e

    async def close(self) -> None:
        """Stop the services, send what is buffered, end."""
        for running in self._services:
            await running.stop()
        await self.wire.close()
        self._set_state(BusState.CLOSED, "closed by this process")
        self.closed.set()


@asynccontextmanager
async def connect(
    settings: BusSettings, *, node: str, daemon: str, require_jetstream: bool = True, wait: bool = True
) -> AsyncIterator[Bus]:
    """The bus, supervised as long as the context lasts.

    *wait*: dial for ever while nobody answers (daemons); otherwise every server is tried once (command line).
    `Bus.closed` is set when the connection can no longer be kept up: the process should end then.

    Raises:
        BusUnavailable: nobody answers (only without *wait*).
        ServerTooOld: the server's version is refused.
        AccessDenied, OperationRefused: credentials, TLS files or JetStream are refused.
    """
    # Only daemons keep a message in FC_CANARY: a command that looks must leave nothing behind.
    bus = Bus(settings, node=node, daemon=daemon, jetstream=require_jetstream and wait)
    tasks: list[asyncio.Task[None]] = []

    def start(name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda ended: _note_end(bus, ended))
        tasks.append(task)

    try:
        await bus.dial(wait=wait)
        start("bus-wire", bus.wire.run())
        if require_jetstream:
            await bus.find_jetstream(wait=wait)
        start("bus-canary", bus.canary.run())
        yield bus
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await bus.close()


def _note_end(bus: Bus, task: asyncio.Task[None]) -> None:
    """A root task of the bus that ends by itself is a fault of ours: without it nothing would be replaced any more."""
    if task.cancelled():
        return
    error = task.exception()
    log.error("bus.state", state=BusState.CLOSED.value, reason=f"{task.get_name()} ended: {error!r}")
    bus.closed.set()
