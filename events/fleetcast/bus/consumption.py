"""Consuming by the handler contract of `fleetcast.bus.consume`: no message is lost, none blocks the others, none is
handled twice by one process at the same time."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

from fleetcast.bus.consume import ConsumerSpec, Delivery, Handler
from fleetcast.bus.dead import DeadLetterBox, Letter
from fleetcast.bus.errors import BusError, ConnectionLost, NotFound, OperationRefused, TransportFailed
from fleetcast.bus.handled import Handled
from fleetcast.bus.jetstream import NANOSECONDS, AckSubject, JetStream, parse_ack_subject
from fleetcast.bus.link import Message
from fleetcast.bus.outcome import Again, Dead, Done, Outcome, decide
from fleetcast.bus.pull import create_ephemeral, declare_consumer, delete_consumer, last_sequence, open_pull
from fleetcast.bus.retry import RESTART
from fleetcast.bus.shield import finish
from fleetcast.client.ulid import new_ulid

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

INACTIVE_SECONDS = 60.0
STABLE_SECONDS = 5.0
REMEMBERED = 4096
CONFIRM_TRIES = 3
CONFIRM_TIMEOUT_SECONDS = 2.0
DEAD_LETTER_DEADLINE_SECONDS = 5.0


class Ledger:
    """Which sequences are handled, wait for a retry, or are done, so that a redelivery is recognised."""

    def __init__(self) -> None:
        self._replies: dict[int, str] = {}
        self._failures: OrderedDict[int, int] = OrderedDict()
        self._done: OrderedDict[int, None] = OrderedDict()
        self._newest: int | None = None

    def stand_at(self, sequence: int) -> None:
        """Everything up to *sequence* is none of this consumer's business (where a new consumer stands)."""
        if self._newest is None:
            self._newest = sequence

    def begin(self, sequence: int, reply: str) -> bool:
        """Take note of a delivery; False while the message is being handled (the new reply replaces the old)."""
        known = sequence in self._replies
        self._replies[sequence] = reply
        self._newest = max(self._newest or 0, sequence)
        return not known

    def reply(self, sequence: int) -> str:
        """Where the newest delivery of *sequence* is answered."""
        return self._replies[sequence]

    def attempt(self, sequence: int, delivered: int) -> int:
        """Number of this delivery: a consumer that was made anew counts from 1, we do not."""
        return max(delivered, self._failures.get(sequence, 0) + 1)

    def done(self, sequence: int) -> None:
        """It must not be handled again."""
        self._replies.pop(sequence, None)
        self._failures.pop(sequence, None)
        self._done[sequence] = None
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    def failed(self, sequence: int) -> None:
        """It will be delivered again."""
        self._replies.pop(sequence, None)
        self._failures[sequence] = self._failures.get(sequence, 0) + 1
        while len(self._failures) > REMEMBERED:
            # Another member of the group finished it, or it was superseded.
            self._failures.popitem(last=False)

    def is_done(self, sequence: int) -> bool:
        """Whether it was finished, as far back as that is remembered."""
        return sequence in self._done

    @property
    def floor(self) -> int | None:
        """Lowest sequence not finished, from which a new consumer has to start; None before the first consumer."""
        unfinished = [*self._replies, *self._failures]
        if unfinished:
            return min(unfinished)
        return None if self._newest is None else self._newest + 1


class Slots:
    """How many handlers may still start."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Return when at least one is free."""
        while self.free <= 0:
            self._changed.clear()
            await self._changed.wait()

    def take(self) -> None:
        """One handler starts."""
        self.free -= 1

    def give(self) -> None:
        """One handler has ended."""
        self.free += 1
        self._changed.set()


_CALLED: Final[dict[type[Outcome], Literal["done", "again", "dead"]]] = {Done: "done", Again: "again", Dead: "dead"}


class _Work:
    """One message between its delivery and its acknowledgement."""

    def __init__(self, message: Message, ack: AckSubject, attempt: int) -> None:
        self.message = message
        self.ack = ack
        self.attempt = attempt
        self.confirmed = False

    @property
    def sequence(self) -> int:
        return self.ack.stream_sequence


class Consumption:
    """One running `consume`."""

    def __init__(
        self,
        js: JetStream,
        spec: ConsumerSpec,
        handler: Handler,
        dead: DeadLetterBox,
        told: Callable[[Handled], None] = lambda _: None,
    ) -> None:
        self._told = told
        self._js = js
        self._spec = spec
        self._handler = handler
        self._dead = dead
        self._ledger = Ledger()
        self._slots = Slots(spec.concurrency)
        self._log = log.bind(stream=spec.stream, consumer=spec.group)

    # -- the consumer on the server

    async def run(self) -> None:
        """Deliver until cancelled; whatever breaks is made anew, with backoff.

        Raises:
            OperationRefused: the consumer cannot be declared, and no later try will be different.
        """
        # A refusal leaves the group in order instead of through it, which would wrap it in an exception group.
        async with asyncio.TaskGroup() as handlers:
            refusal = await self._sessions(handlers)
        raise refusal

    async def _sessions(self, handlers: asyncio.TaskGroup) -> OperationRefused:
        failures = 0
        while True:
            await self._js.wire.wait_connected()
            began = time.monotonic()
            try:
                await self._session(handlers)
            except (TransportFailed, NotFound) as e:
                # NotFound: the stream is not declared yet, or somebody removed the consumer a moment ago.
                reason = str(e)
            except OperationRefused as e:
                return e
            except Exception as e:
                # In a thread: a trace reads the source files that it shows.
                await asyncio.to_thread(self._log.error, "consumer.crashed", exc_info=e)
                reason = "a fault of its own"
            failures = 1 if time.monotonic() - began > STABLE_SECONDS else failures + 1
            self._log.info("consumer.interrupted", reason=reason, failures=failures)
            await asyncio.sleep(RESTART.delay(failures))

    async def _session(self, handlers: asyncio.TaskGroup) -> None:
        name = await self._declare()
        try:
            async with open_pull(self._js, self._spec.stream, name) as pull:
                while True:
                    await self._slots.wait()
                    self._take(await pull.get(self._slots.free), handlers)
        finally:
            if self._spec.durable is None and self._js.wire.connected:
                await finish(delete_consumer(self._js, self._spec.stream, name))

    async def _declare(self) -> str:
        spec = self._spec
        if spec.durable:
            config = {**spec.config(), **self._start(), "durable_name": spec.durable, "name": spec.durable}
            change = await declare_consumer(self._js, spec.stream, config)
            if change is not None:
                self._log.info("consumer.declared", action=change.action, fields=change.fields)
            return spec.durable
        await self._stand()
        name = f"{spec.group}-{new_ulid().lower()}"
        config = {**spec.config(), **self._start(), "name": name}
        config["inactive_threshold"] = int(INACTIVE_SECONDS * NANOSECONDS)
        await create_ephemeral(self._js, spec.stream, config)
        return name

    async def _stand(self) -> None:
        """Learn where "what comes" begins, before there is a consumer.

        The answer to its creation may be lost: one that is made anew must not pass over what was stored meanwhile.
        """
        spec = self._spec
        if spec.start == "new" and spec.start_sequence is None and self._ledger.floor is None:
            self._ledger.stand_at(await last_sequence(self._js, spec.stream))

    def _start(self) -> dict[str, Any]:
        """Where the consumer begins: an ephemeral one that was lost goes on where its handlers are."""
        spec = self._spec
        floor = self._ledger.floor
        if spec.durable is None and spec.start != "last_per_subject" and floor is not None:
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(floor, 1)}
        if spec.start_sequence is not None:
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": spec.start_sequence}
        return {"deliver_policy": spec.start}

    # -- one message

    def _take(self, message: Message, handlers: asyncio.TaskGroup) -> None:
        ack = parse_ack_subject(message.reply)
        sequence = ack.stream_sequence
        if self._ledger.is_done(sequence):
            handlers.create_task(self._acknowledge_again(message.reply))
            return
        if not self._ledger.begin(sequence, message.reply):
            return
        self._slots.take()
        work = _Work(message, ack, self._ledger.attempt(sequence, ack.delivered))
        handlers.create_task(self._handle(work), name=f"handle-{self._spec.group}-{sequence}")

    async def _acknowledge_again(self, reply: str) -> None:
        try:
            await self._js.wire.publish(reply, b"+ACK")
        except BusError as e:
            self._log.info("ack.lost", reason=str(e))

    async def _handle(self, work: _Work) -> None:
        outcome: Outcome | None = None
        age = (datetime.now(UTC) - work.ack.time).total_seconds()
        began = time.monotonic()
        try:
            outcome = await self._call(work)
            took = time.monotonic() - began
            self._told(Handled(self._spec.group, work.message.subject, _CALLED[type(outcome)], took, max(age, 0.0)))
        finally:
            # None: this consumer is stopped; another one takes the message over at once.
            await finish(self._settle(work, outcome or self._when_stopped(work)))
            self._slots.give()

    def _when_stopped(self, work: _Work) -> Outcome:
        stopped = asyncio.CancelledError("the daemon was stopped")
        return decide(stopped, attempt=0, confirmed=True, spec=self._spec) if work.confirmed else Again(0.0, "stopped")

    async def _call(self, work: _Work) -> Outcome:
        keeper = asyncio.create_task(self._keep_alive(work.sequence), name=f"keep-{work.sequence}")
        error: BaseException | None = None
        try:
            await self._handler(self._delivery(work))
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that the handler awaited was cancelled, not we: for the contract that is a failure.
            error = e
        except Exception as e:
            error = e
        finally:
            keeper.cancel()
        return decide(error, attempt=work.attempt, confirmed=work.confirmed, spec=self._spec)

    def _delivery(self, work: _Work) -> Delivery:
        async def confirm() -> None:
            await self._confirm(work)

        message, ack = work.message, work.ack
        return Delivery(
            subject=message.subject,
            data=message.data,
            stream=ack.stream,
            sequence=ack.stream_sequence,
            time=ack.time,
            attempt=work.attempt,
            last_attempt=work.attempt >= self._spec.max_deliver,
            pending=ack.pending,
            confirm=confirm,
            headers=message.headers,
        )

    async def _keep_alive(self, sequence: int) -> None:
        while True:
            await asyncio.sleep(self._spec.ack_wait_seconds / 3)
            try:
                await self._js.wire.publish(self._ledger.reply(sequence), b"+WPI")
            except (BusError, KeyError) as e:
                self._log.info("keep_alive.lost", sequence=sequence, reason=str(e))

    # -- acknowledgements

    async def _settle(self, work: _Work, outcome: Outcome) -> None:
        try:
            match outcome:
                case Done():
                    await self._acknowledge(work)
                case Again(delay, reason):
                    await self._again(work, delay, reason)
                case Dead():
                    await self._bury(work, outcome)
        except BusError as e:
            self._log.warning("ack.lost", sequence=work.sequence, reason=str(e))

    async def _acknowledge(self, work: _Work) -> None:
        reply = self._ledger.reply(work.sequence)
        # Done first: if the acknowledgement is lost, the redelivery is answered without a second effect.
        self._ledger.done(work.sequence)
        if work.confirmed:
            return
        if self._spec.double_ack:
            await self._confirm_at(reply)
        else:
            await self._js.wire.publish(reply, b"+ACK")

    async def _confirm(self, work: _Work) -> None:
        await self._confirm_at(self._ledger.reply(work.sequence))
        work.confirmed = True

    async def _confirm_at(self, reply: str) -> None:
        for attempt in range(1, CONFIRM_TRIES + 1):
            try:
                await self._js.wire.request(reply, b"+ACK", timeout_seconds=CONFIRM_TIMEOUT_SECONDS)
                return
            except ConnectionLost:
                raise
            except TransportFailed:
                if attempt == CONFIRM_TRIES:
                    raise

    async def _again(self, work: _Work, delay: float, reason: str) -> None:
        reply = self._ledger.reply(work.sequence)
        self._ledger.failed(work.sequence)
        self._log.info("message.again", sequence=work.sequence, attempt=work.attempt, delay=delay, reason=reason)
        body = json.dumps({"delay": int(delay * NANOSECONDS)}) if delay > 0 else ""
        await self._js.wire.publish(reply, f"-NAK {body}".strip().encode())

    async def _bury(self, work: _Work, dead: Dead) -> None:
        letter = Letter(
            subject=work.message.subject,
            data=work.message.data,
            headers=work.message.headers,
            stream=work.ack.stream,
            sequence=work.sequence,
            consumer=self._spec.group,
            attempts=work.attempt,
            reason=dead.reason,
            field=dead.field,
            next_step=dead.next_step,
        )
        self._log.warning("message.dead", sequence=work.sequence, subject=letter.subject, reason=dead.reason)
        try:
            await self._dead.put(letter, deadline_seconds=DEAD_LETTER_DEADLINE_SECONDS)
        except BusError as e:
            # Not ended without its dead letter: it is delivered again, or the server's advisory speaks for it.
            await self._again(work, self._spec.backoff.delay(work.attempt), f"no dead letter could be written: {e}")
            return
        reply = self._ledger.reply(work.sequence)
        self._ledger.done(work.sequence)
        await self._js.wire.publish(reply, b"+TERM " + dead.reason.encode()[:256].replace(b"\n", b" "))
