"""The event log, passed on to many clients: one reader of FC_EVENTS for all, and the past for whoever was away."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from itertools import islice
from typing import Any, Final, cast

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fleetcast.bus import Bus, Entry
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import EVENTS
from fleetcast.config.gateway import GatewaySettings
from fleetcast.daemons.gateway.frames import STILL_HERE, Client, Frame, Wanted, frame_of, notice, opening
from fleetcast.daemons.gateway.problems import AGAIN_SECONDS, Refused
from fleetcast.registry.picture.live import Fleet

log = structlog.get_logger("fleetcast.gateway")

ALL: Final = ("fc.ev.>",)
KEPT_EVENTS: Final = 2000
"""Newest events that are kept at hand: whoever was away for less needs no reader of its own."""
KEPT_BYTES: Final = 8 * 2**20
SIGN_SECONDS: Final = 15.0
"""Without an event, a sign of life so often: proxies close what is silent for a minute."""
CHANGE_SECONDS: Final = 0.1
"""Distance of the news that the fleet has changed: two heartbeats need no two redraws."""
REPLAYS: Final = 4
"""Clients that read the past at once; others wait their turn."""
AGAIN: Final = 1.0
AT_ONCE: Final = 100
"""Events of those at hand that are sent together."""
PAGE_BYTES: Final = 65536
"""Of the log that is read for one client at once."""
PAGE_EVENTS: Final = 1000
"""That are looked at for it at once, wanted or not."""


class Feed:
    """Reads the log once, for all clients."""

    def __init__(self, bus: Bus, settings: GatewaySettings) -> None:
        self._bus = bus
        self._settings = settings
        self._kept: deque[Frame] = deque()
        self._bytes = 0
        self._clients: set[Client] = set()
        self._live: set[Client] = set()
        self._replays = asyncio.Semaphore(REPLAYS)
        self.newest = 0
        self.began = asyncio.Event()

    @property
    def clients(self) -> int:
        """How many there are."""
        return len(self._clients)

    async def run(self) -> None:
        """Follow the log until cancelled; an interruption is caught up."""
        while True:
            try:
                await self._follow()
            except BusError as away:
                log.warning("feed.away", reason=str(away))
            await asyncio.sleep(AGAIN)

    async def _follow(self) -> None:
        if not self.began.is_set():
            await self._begin()
        async for entry in self._bus.tail(EVENTS, ALL, start_sequence=self.newest + 1, follow=True):
            self._take(frame_of(entry))

    async def _begin(self) -> None:
        """It has begun once what was there at the start is at hand: before that, nobody is told what is newest. The
        newest events may have been purged, and are waited for by nobody then."""
        head = await self._bus.last_sequence(EVENTS)
        self.newest = max(self.newest, head - KEPT_EVENTS // 4)
        async for entry in self._bus.tail(EVENTS, ALL, start_sequence=self.newest + 1):
            self._take(frame_of(entry))
        self.newest = max(self.newest, head)
        self.began.set()

    def _take(self, frame: Frame) -> None:
        if frame.sequence <= self.newest:
            return
        self.newest = frame.sequence
        self._kept.append(frame)
        self._bytes += len(frame.data)
        while len(self._kept) > KEPT_EVENTS or self._bytes > KEPT_BYTES:
            self._bytes -= len(self._kept.popleft().data)
        for client in self._live:
            client.offer(frame)

    async def watch(self, fleet: Fleet) -> None:
        """Tell clients that the fleet has changed, until cancelled."""
        told = fleet.standing
        while True:
            await fleet.change()
            if (now := fleet.standing) != told:
                told = now
                for client in self._clients:
                    client.fleet_changed()
                await asyncio.sleep(CHANGE_SECONDS)

    def close(self) -> None:
        """End all streams: the gateway stops. Clients come back by themselves, and go on where they were."""
        for client in tuple(self._clients):
            client.close(notice("restarting"))

    def recheck(self) -> None:
        """End the streams of those who may not have them any more: their token was revoked."""
        for client in tuple(self._clients):
            if not client.allowed():
                client.close(notice("revoked"), at_once=True)

    # -- one client

    def open(
        self, wanted: Wanted, *, seen: int | None, tail: int, changes: bool, allowed: Callable[[], bool] = lambda: True
    ) -> "EventStream":
        """A stream of events for one client.

        Args:
            wanted: which events.
            seen: the last one that it has; None: it begins with the newest *tail* and what comes.
            changes: whether it is also told that the fleet has changed.
            allowed: whether it still may have it; asked when tokens have changed.

        Raises:
            Refused: there are too many.
        """
        if len(self._clients) >= self._settings.max_streams:
            raise Refused(
                503,
                "too-many-streams",
                f"{len(self._clients)} event streams are open, which is as many as may be",
                next_step="come back later; gateway.max_streams is the limit",
                headers={"Retry-After": AGAIN_SECONDS},
            )
        client = Client(wanted, self._settings.stream_events, self._settings.stream_bytes, changes, allowed)
        self._clients.add(client)
        if seen is None:
            client.sent = self._start(tail)
        else:
            client.sent = seen
        return EventStream(self, client, stalled_seconds=self._settings.stalled_seconds)

    def leave(self, client: Client) -> None:
        """It is gone."""
        client.close()
        self._clients.discard(client)
        self._live.discard(client)

    @property
    def _oldest(self) -> int:
        """The sequence from which on all events are at hand."""
        return self._kept[0].sequence if self._kept else self.newest + 1

    def _start(self, tail: int) -> int:
        """The sequence before the newest *tail* events."""
        if tail <= 0 or not self._kept:
            return self.newest
        return self._kept[-min(tail, len(self._kept))].sequence - 1

    async def past(self, client: Client) -> AsyncIterator[bytes]:
        """What a client has missed, oldest first: from the log what is not at hand any more, read as fast as the client
        takes it in. When this ends, the client is told what comes, without a gap."""
        if client.sent > self.newest and client.sent > await self._bus.last_sequence(EVENTS):
            yield notice("reset", reason="the log is shorter than that; it goes on with what comes now")
            client.sent = self.newest
        while not client.closed:
            # What is at hand moves on while the log is read.
            while client.sent + 1 < self._oldest and not client.closed:
                if page := await self._from_log(client):
                    yield page
            missed = list(islice((f for f in self._kept if f.sequence > client.sent), AT_ONCE))
            if not missed:
                # Nothing waits between this look and the next event: there is no gap.
                self._live.add(client)
                return
            client.sent = missed[-1].sequence
            if data := b"".join(frame.data for frame in missed if client.wanted.takes(frame)):
                yield data

    async def _from_log(self, client: Client) -> bytes:
        """The next page of events from the log, up to those that are at hand; how slow a client is holds up nobody else
        who waits for the past."""
        oldest = self._oldest
        page, looked_at = bytearray(), 0
        # A generator that is left in the middle keeps its consumer on the server until it is closed.
        past = cast("AsyncGenerator[Entry, None]", self._bus.tail(EVENTS, ALL, start_sequence=client.sent + 1))
        async with self._replays, aclosing(past) as entries:
            async for entry in entries:
                if entry.sequence >= oldest:
                    break
                if len(page) >= PAGE_BYTES or looked_at >= PAGE_EVENTS:
                    return bytes(page) or STILL_HERE
                looked_at += 1
                frame = frame_of(entry)
                client.sent = frame.sequence
                if client.wanted.takes(frame):
                    page += frame.data
        # All up to there was read; what the log does not have any more has expired.
        client.sent = max(client.sent, oldest - 1)
        return bytes(page)


class EventStream(Response):
    """An answer that goes on: events as they come, until the client goes, is dropped, or the gateway stops."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, client: Client, *, stalled_seconds: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._client = client
        self._stalled_seconds = stalled_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it is over. A client that takes nothing in for too long is cut off: it would not read a word of
        farewell either."""
        leaving = asyncio.create_task(self._until_gone(receive), name="gateway-stream-client")
        try:
            await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._body(send)
        except TimeoutError:
            log.info("stream.stalled", seconds=self._stalled_seconds)
        finally:
            self._feed.leave(self._client)
            leaving.cancel()
            await asyncio.wait({leaving})
            if not leaving.cancelled():
                leaving.exception()  # it was told by the stream's end
        with suppress(TimeoutError):
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, send: Send) -> None:
        await self._write(send, opening(self._feed.newest))
        async for data in self._feed.past(self._client):
            await self._write(send, data)
        while (news := await self._client.next(SIGN_SECONDS)) is not None:
            await self._write(send, news)

    async def _write(self, send: Send, data: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": data, "more_body": True})

    async def _send(self, send: Send, message: Mapping[str, Any]) -> None:
        async with asyncio.timeout(self._stalled_seconds):
            await send(dict(message))

    async def _until_gone(self, receive: Receive) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            # Also when it promised a body and sends none: who is not listened to any more must not keep a place.
            self._feed.leave(self._client)
