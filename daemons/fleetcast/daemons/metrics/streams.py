"""The streams as the server describes them, asked when somebody looks, and not more often than that is of use."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleetcast.bus import Bus, BusState
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import DEAD, EVENTS, MINUTES, PERF, TRAINING, WORK
from fleetcast.daemons.metrics.sheet import Sheet
from fleetcast.registry.picture.truth import STREAMS, Stored, ask_account, ask_stream

ASKED: Final = (*STREAMS, PERF, MINUTES, DEAD)
WITH_GROUPS: Final = (EVENTS, TRAINING, WORK)
"""Streams whose groups of handlers are looked at."""
FRESH_SECONDS: Final = 5.0
ASK_SECONDS: Final = 3.0
REFUSED_SECONDS: Final = 600.0
"""How long nobody asks again for groups that could not be listed: a role may have no right to."""
OF_EVERY_NODE: Final = ("origin-",)
"""Beginnings of names of groups that each node has one of."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look. `pending`: messages that wait, by stream and group of handlers."""

    streams: tuple[Stored, ...]
    storage_bytes: int
    storage_limit: int | None
    pending: Mapping[tuple[str, str], int]


class StreamsWatch:
    """Looks at the streams of one server; while the bus is away nothing is known of them, and nothing shown."""

    def __init__(self, bus: Bus, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._look: Look | None = None
        self._looked_at = self._refused_at = float("-inf")

    async def read(self, sheet: Sheet) -> None:
        """Show them."""
        look = await self._fresh()
        if look is None:
            return
        for stream in look.streams:
            show(sheet, stream)
        sheet.put("fleetcast_jetstream_storage_bytes", look.storage_bytes)
        sheet.put("fleetcast_jetstream_storage_limit_bytes", look.storage_limit)
        for (stream_name, group), count in look.pending.items():
            sheet.put("fleetcast_consumer_pending_messages", count, stream=stream_name, consumer=group)

    async def _fresh(self) -> Look | None:
        if self._bus.state is not BusState.READY:
            return None
        if self._clock() - self._looked_at > FRESH_SECONDS:
            listed = WITH_GROUPS if self._clock() - self._refused_at > REFUSED_SECONDS else ()
            self._look = await look_at(self._bus, listed)
            self._looked_at = self._clock()
            if listed and not self._look.pending:
                self._refused_at = self._looked_at
        return self._look


def show(sheet: Sheet, stream: Stored) -> None:
    """Show one stream."""
    name = stream.name
    current = sum(copy.current and not copy.offline for copy in stream.others)
    sheet.put("fleetcast_stream_led", stream.led, stream=name)
    if not stream.led:
        return  # nobody knows the rest of it
    sheet.put("fleetcast_stream_messages", stream.messages, stream=name)
    sheet.put("fleetcast_stream_bytes", stream.bytes, stream=name)
    sheet.put("fleetcast_stream_limit_bytes", stream.limit, stream=name)
    sheet.put("fleetcast_stream_replicas", 1 + current, stream=name)
    sheet.put("fleetcast_stream_replicas_wanted", stream.copies, stream=name)
    sheet.put(
        "fleetcast_stream_replica_lag_messages", max((copy.lag for copy in stream.others), default=0), stream=name
    )
    sheet.put("fleetcast_stream_source_lag_messages", stream.source_lag, stream=name)
    if name == DEAD:
        sheet.put("fleetcast_dlq_messages", stream.messages)


async def look_at(bus: Bus, listed: Sequence[str]) -> Look:
    """Ask for all of it at once, with the groups of the streams *listed*; what does not answer in time is left out."""
    found, account, groups = await asyncio.gather(
        asyncio.gather(*(ask_stream(bus, name) for name in ASKED)),
        ask_account(bus),
        asyncio.gather(*(_groups(bus, name) for name in listed)),
    )
    pending: dict[tuple[str, str], int] = {}
    for name, answers in zip(listed, groups, strict=True):
        for group, count in waiting(answers):
            pending[name, group] = pending.get((name, group), 0) + count
    used, limit = account
    return Look(tuple(each for each in found if each is not None), used, limit, pending)


def waiting(answers: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, int]]:
    """Groups that share work, with what waits for them; consumers of single readers are none (their names are of the
    moment)."""
    for answer in answers:
        durable = str((answer.get("config") or {}).get("durable_name") or "")
        if not durable:
            continue
        shared = next((each.rstrip("-") for each in OF_EVERY_NODE if durable.startswith(each)), durable)
        yield shared, int(answer.get("num_pending", 0)) + int(answer.get("num_ack_pending", 0))


async def _groups(bus: Bus, stream: str) -> list[Mapping[str, Any]]:
    """All consumers of a stream; the server gives 256 at once (JetStream API, `CONSUMER.LIST`)."""
    found: list[Mapping[str, Any]] = []
    try:
        while True:
            body = {"offset": len(found)}
            answer = await bus.js.api(f"CONSUMER.LIST.{stream}", body, timeout_seconds=ASK_SECONDS)
            page = answer.get("consumers") or []
            found += page
            if not page or len(found) >= int(answer.get("total", 0)):
                return found
    except BusError:
        return found
