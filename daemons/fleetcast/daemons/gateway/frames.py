"""Events as server-sent events (WHATWG HTML, section 9.2): their frames, and what waits for one client. Pure."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from fleetcast.bus import Entry
from fleetcast.events.envelope import EventInvalid

RETRY_MILLISECONDS: Final = 1000
"""How long a browser waits before it comes back: a gateway is restarted in about a second."""
SHOWN_BYTES: Final = 16384
"""Larger payloads (metainfo of an artifact) are not passed on: `truncated` says so."""
STILL_HERE: Final = b": still here\n\n"
CHUNK_BYTES: Final = 65536
"""Frames that are sent at once."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event, as it is sent to everybody who wants it.

    Attributes:
        sequence: its place in FC_EVENTS, which is its id.
        name: its type in the catalogue; empty: it could not be read.
        model: what it is about, by name; empty: nothing that has one.
    """

    sequence: int
    name: str
    key: str
    model: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a client wants; empty: all."""

    names: frozenset[str] = frozenset()
    key: str = ""

    def takes(self, frame: Frame) -> bool:
        """Whether an event is one of them."""
        about = not self.key or self.key in {frame.key, frame.model}
        return about and (not self.names or frame.name in self.names)


def frame_of(entry: Entry) -> Frame:
    """The frame of a message of FC_EVENTS, one that cannot be read included: it is told as such."""
    try:
        event = entry.event()
    except EventInvalid as invalid:
        said = {"sequence": entry.sequence, "subject": entry.subject, "error": str(invalid)}
        return Frame(entry.sequence, "", "", "", _written(entry.sequence, said))
    document = json.loads(event.encode()[0])
    payload = document.get("data", {})
    if len(entry.data) > SHOWN_BYTES:
        document["data"] = {k: v for k, v in payload.items() if isinstance(v, str | int | float) and len(str(v)) < 200}
        document["truncated"] = True
    shown = {"sequence": entry.sequence, "event": event.type.name, "key": event.key, **document}
    model = payload.get("model")
    named = model if isinstance(model, str) else ""
    return Frame(entry.sequence, event.type.name, event.key, named, _written(entry.sequence, shown))


def _written(sequence: int, said: Mapping[str, Any]) -> bytes:
    body = json.dumps(said, separators=(",", ":"), ensure_ascii=False, default=str)
    return f"id: {sequence}\ndata: {body}\n\n".encode()


def notice(event: str, **said: object) -> bytes:
    """A frame about the stream itself, without an id: it does not count as an event that was seen."""
    return f"event: {event}\ndata: {json.dumps(said, separators=(',', ':'))}\n\n".encode()


def opening(sequence: int) -> bytes:
    """The first frame: how long to wait before coming back, and where the stream stands."""
    return f"retry: {RETRY_MILLISECONDS}\n".encode() + notice("hello", newest=sequence)


def last_event_id(text: str | None) -> int | None:
    """The sequence that a client has seen last; None: it says none.

    Raises:
        ValueError: it is no sequence.
    """
    if text is None or not text.strip():
        return None
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and len(stripped) <= 19):
        raise ValueError(f"Last-Event-ID is {stripped[:40]!r}; it is the `id` of the last event that was seen")
    return int(stripped)


@dataclass(slots=True, eq=False)
class Client:
    """What waits for one client, bounded: one that takes too little in is dropped and told so.

    Attributes:
        wanted: which events it gets.
        most_events, most_bytes: that may wait.
        changes: whether it is told that the fleet has changed.
        allowed: whether it may be told anything.
    """

    wanted: Wanted
    most_events: int
    most_bytes: int
    changes: bool = False
    allowed: Callable[[], bool] = lambda: True
    sent: int = 0
    closed: bool = False
    _waiting: deque[bytes] = field(default_factory=deque)
    _bytes: int = 0
    _last: bytes = b""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _fleet_changed: bool = False

    def offer(self, frame: Frame) -> None:
        """Let an event wait, if it is wanted. Sequences at or below the one that was seen come from the past."""
        if self.closed or frame.sequence <= self.sent:
            return
        if self.wanted.takes(frame):
            if len(self._waiting) >= self.most_events or self._bytes + len(frame.data) > self.most_bytes:
                self._drop()
                return
            self._waiting.append(frame.data)
            self._bytes += len(frame.data)
            self._changed.set()
        self.sent = frame.sequence

    def fleet_changed(self) -> None:
        """Tell it, once, that the fleet has changed."""
        if self.changes and not self.closed:
            self._fleet_changed = True
            self._changed.set()

    def close(self, last: bytes = b"", *, at_once: bool = False) -> None:
        """End it after what waits, or *at_once*; *last*: a final frame."""
        if at_once:
            self._waiting.clear()
            self._bytes = 0
        if not self.closed:
            self.closed = True
            self._last = last
            self._changed.set()

    def _drop(self) -> None:
        why = f"{len(self._waiting)} events waited for this client; come back with Last-Event-ID"
        self.close(notice("dropped", reason=why), at_once=True)

    @property
    def waiting_bytes(self) -> int:
        """How much waits."""
        return self._bytes

    async def next(self, seconds: float) -> bytes | None:
        """What is to be sent now, at the latest after *seconds* a sign of life; None: it was the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()
        sent = bytearray()
        while self._waiting and len(sent) < CHUNK_BYTES:
            data = self._waiting.popleft()
            self._bytes -= len(data)
            sent += data
        if self._waiting:
            self._changed.set()
            return bytes(sent)
        if self._fleet_changed:
            self._fleet_changed = False
            sent += notice("changed")
        if self.closed:
            self._changed.set()
            if not sent and not self._last:
                return None
            sent += self._last
            self._last = b""
        return bytes(sent) or STILL_HERE
