"""The newest lines that a daemon logged, kept in memory and told over the bus: `fleetcast logs --all-nodes`.

Wherever the lines themselves go, the journal, a file or a terminal, a person can have those of the whole fleet in one
place without an account on every machine. Nothing is stored for it: a few thousand lines, gone with the process.
"""

import importlib.metadata
import json
import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from structlog.typing import EventDict, WrappedLogger

from fleetcast.bus import Bus, Service, ServiceError
from fleetcast.client.ulid import new_ulid

LOGS_SUBJECT: Final = "fc.svc.logs"
LINES_KEPT: Final = 2000
BYTES_KEPT: Final = 2 * 2**20
LONGEST_LINE: Final = 16 * 1024
PAGE_BYTES: Final = 256 * 1024
"""Of one answer: what a server takes in one message is four times as much."""
MOST_LINES: Final = 2000
VERSION: Final = importlib.metadata.version("fleetcast")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Place(_Message):
    """How far the lines of a daemon have been read: the number of the newest one, in that life of the process."""

    life: str
    number: int = Field(ge=0)


class LogsQuestion(_Message):
    """Asked of all daemons at once.

    Attributes:
        node, daemon: who is to answer with lines; None: everybody.
        cid: beginning of a correlation id.
        lines: how many of the newest, of a daemon that is not in *after*.
        after: by `NODE.DAEMON`, what was read before.
    """

    node: str | None = None
    daemon: str | None = None
    cid: str | None = None
    lines: int = Field(default=200, ge=0, le=MOST_LINES)
    after: dict[str, Place] = {}


class LogsPage(_Message):
    """One daemon's answer.

    Attributes:
        at: how far these lines go.
        newest: how far there are some; beyond `at.number` there is more to ask for.
        lost: lines after the place that was asked for that are not kept any more.
        lines: as JSON, the oldest first.
    """

    node: str
    daemon: str
    at: Place
    newest: int
    lost: int = 0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int
    cid: str
    text: str


class Recent:
    """The newest lines of this process; a processor of structlog, called by any thread."""

    def __init__(self, *, lines: int = LINES_KEPT, size: int = BYTES_KEPT) -> None:
        self.life = new_ulid()
        self._lock = threading.Lock()
        self._kept: deque[_Kept] = deque()
        self._most, self._room = lines, size
        self._size = 0
        self._number = 0
        self._format = structlog.processors.ExceptionRenderer()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Keep a line; it goes on as it came. Never raises."""
        try:
            line = dict(self._format(logger, method, dict(event)))
            cid = str(line.get("correlation_id", ""))
            text = _text(line)
        except Exception:  # what cannot be written is not worth the daemon
            return event
        with self._lock:
            self._number += 1
            self._kept.append(_Kept(self._number, cid, text))
            self._size += len(text)
            while len(self._kept) > self._most or self._size > self._room:
                self._size -= len(self._kept.popleft().text)
        return event

    def page(self, node: str, daemon: str, question: LogsQuestion) -> LogsPage:
        """What *question* asks for."""
        with self._lock:
            kept, newest = tuple(self._kept), self._number
        place = question.after.get(f"{node}.{daemon}")
        wanted = [each for each in kept if each.cid.startswith(question.cid or "")]
        if place is None:
            chosen, lost = _last(wanted, question.lines), 0
            reached = newest
        else:
            # Of another life, everything is news.
            start = place.number if place.life == self.life else 0
            oldest = kept[0].number if kept else newest + 1
            lost = max(0, oldest - start - 1)
            chosen = _first([each for each in wanted if each.number > start])
            more = len(chosen) < sum(each.number > start for each in wanted)
            reached = chosen[-1].number if more else newest
        at = Place(life=self.life, number=reached)
        lines = tuple(each.text for each in chosen)
        return LogsPage(node=node, daemon=daemon, at=at, newest=newest, lost=lost, lines=lines)


def _text(line: Mapping[str, Any]) -> str:
    stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    text = json.dumps({"timestamp": stamp} | dict(line), ensure_ascii=False, default=str)
    if len(text) <= LONGEST_LINE:
        return text
    known = {key: str(line.get(key))[:1000] for key in ("level", "event", "node", "daemon", "correlation_id")}
    return json.dumps({"timestamp": stamp} | known | {"cut_off": len(text)}, ensure_ascii=False)


def _last(kept: list[_Kept], count: int) -> list[_Kept]:
    """The newest *count* that fit into an answer."""
    newest = kept[max(0, len(kept) - count) :] if count else []
    return _first(newest[::-1])[::-1]


def _first(kept: list[_Kept]) -> list[_Kept]:
    """As many as fit into an answer; one at least."""
    room = PAGE_BYTES
    chosen: list[_Kept] = []
    for each in kept:
        room -= len(each.text.encode(errors="replace"))
        if room < 0 and chosen:
            break
        chosen.append(each)
    return chosen


RECENT: Final = Recent()
"""Of this process."""


def log_service(node: str, daemon: str, recent: Recent = RECENT) -> Service:
    """Answers for one daemon."""

    async def answer(body: bytes) -> bytes:
        try:
            question = LogsQuestion.model_validate_json(body or b"{}")
        except ValidationError as e:
            raise ServiceError(400, f"no question about logs: {e.error_count()} mistakes") from e
        if question.node not in {None, node} or question.daemon not in {None, daemon}:
            raise ServiceError(404, "somebody else is asked")
        return recent.page(node, daemon, question).model_dump_json().encode()

    return Service(
        name="fleetcast-logs",
        version=VERSION,
        description="tells the newest lines that a daemon logged",
        metadata={"node": node, "daemon": daemon, "pid": str(os.getpid())},
        endpoints={"logs": (LOGS_SUBJECT, answer)},
        # Every daemon answers, also beside another one of its node.
        group=f"{node}.{daemon}",
    )


async def tell_logs(bus: Bus, node: str, daemon: str) -> None:
    """Answer as long as the bus lasts."""
    await bus.serve(log_service(node, daemon))
