"""`fleetcast logs --all-nodes`: what every daemon of the fleet logged, from their memories, over the bus."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from fleetcast.bus import Bus
from fleetcast.bus.errors import NotFound, TransportFailed
from fleetcast.bus.streams import NODES_BUCKET
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.logs import Line, write_line
from fleetcast.cli.problems import Exit, not_found
from fleetcast.cli.running import run_async
from fleetcast.cli.units import moment
from fleetcast.daemons.runtime.recent import LOGS_SUBJECT, MOST_LINES, LogsPage, LogsQuestion, Place
from fleetcast.events.payloads import DaemonState
from fleetcast.events.state import NodeStatus
from fleetcast.registry.picture.nodes import LOST_AFTER_HEARTBEATS

POLL_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0
SETTLE_SECONDS: Final = 0.7
"""After an answer, how long another one may take: a node across an ocean, or one that is busy."""
LOOK_SECONDS: Final = 15.0
"""How often it is looked who is there at all."""


@dataclass
class Reading:
    """How far the daemons' lines have been read.

    Attributes:
        after: by `NODE.DAEMON`.
        there: who is heard from, as they call themselves.
        silent: who of them does not answer, and has been named.
    """

    question: LogsQuestion
    after: dict[str, Place] = field(default_factory=dict)
    there: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()

    def ask(self) -> bytes:
        """The next question."""
        return self.question.model_copy(update={"after": self.after}).model_dump_json().encode()

    def take(self, pages: Iterable[LogsPage]) -> tuple[list[Line], list[str]]:
        """The lines of answers in the order of their times, and what a person should know besides."""
        lines: list[Line] = []
        said: list[str] = []
        for page in pages:
            who = f"{page.node}.{page.daemon}"
            before = self.after.get(who)
            if before is not None and before.life != page.at.life:
                said.append(f"{page.node} {page.daemon} was started anew")
            elif page.lost:
                said.append(f"{page.lost} lines of {page.node} {page.daemon} are not kept any more")
            self.after[who] = page.at
            first = page.at.number - len(page.lines)
            lines += [_line(page, first + n, text) for n, text in enumerate(page.lines)]
        return sorted(lines, key=lambda line: (line.at, line.file, line.number)), said

    def missed(self, answered: frozenset[str]) -> list[str]:
        """Who does not answer, and who does again; each is said once."""
        silent = self.there - answered
        said = [f"{_spoken(who)} does not answer" for who in sorted(silent - self.silent)]
        said += [f"{_spoken(who)} answers again" for who in sorted((self.silent - silent) & answered)]
        self.silent = silent
        return said


def _spoken(who: str) -> str:
    return who.replace(".", " ", 1)


def _line(page: LogsPage, number: int, text: str) -> Line:
    try:
        found = json.loads(text)
        fields = dict(found) if isinstance(found, dict) else {"event": text}
        at = moment(str(fields.get("timestamp", "")))
    except ValueError:
        fields, at = {"event": text}, datetime.fromtimestamp(0, UTC)
    # Who said it is told by whoever answered, and not by what stands in the line.
    return Line(at, number, f"{page.node}.{page.daemon}", fields | {"node": page.node, "daemon": page.daemon})


def run(call: Call, *, follow: bool, daemon: str | None, node: str | None, cid: str | None, lines: int) -> Exit:
    """Print the newest *lines* of all that match, and with *follow* those that come."""
    question = LogsQuestion(node=node, daemon=daemon, cid=cid, lines=min(lines, MOST_LINES))
    return run_async(_run(call, target(call), Reading(question), follow=follow, lines=lines))


async def _run(call: Call, aim: Target, reading: Reading, *, follow: bool, lines: int) -> Exit:
    async with connected(aim) as bus:
        silence = aim.settings.distributor.heartbeat_seconds * LOST_AFTER_HEARTBEATS
        reading.there = await _there(bus, reading.question, silence)
        if not reading.there:
            raise not_found("no daemon is heard from that could be asked", next_step="fleetcast status")
        _print(call, (await _round(call, bus, reading))[-lines:] if lines else [])
        looked = time.monotonic()
        while follow:
            await asyncio.sleep(POLL_SECONDS)
            try:
                if time.monotonic() - looked > LOOK_SECONDS:
                    reading.there, looked = await _there(bus, reading.question, silence), time.monotonic()
                _print(call, await _round(call, bus, reading))
            except TransportFailed as away:
                call.out.say(f"NATS is away: {away}")
                await bus.wire.wait_connected()
    return Exit.OK


async def _there(bus: Bus, question: LogsQuestion, silence_seconds: float) -> frozenset[str]:
    try:
        entries = await bus.kv_entries(NODES_BUCKET)
    except NotFound:
        return frozenset()
    now, found = datetime.now(UTC), set()
    for entry in entries:
        try:
            status = NodeStatus.model_validate_json(entry.data)
        except ValidationError:
            continue
        heard = (now - moment(status.at)).total_seconds() <= silence_seconds
        wanted = question.node in {None, status.node} and question.daemon in {None, status.daemon}
        if heard and wanted and status.state is not DaemonState.STOPPED:
            found.add(f"{status.node}.{status.daemon}")
    return frozenset(found)


async def _round(call: Call, bus: Bus, reading: Reading) -> list[Line]:
    """Everything that is new with everybody."""
    lines: list[Line] = []
    answered: set[str] = set()
    while True:
        pages = await _pages(bus, reading)
        answered |= {f"{page.node}.{page.daemon}" for page in pages}
        fresh, said = reading.take(pages)
        lines += fresh
        for word in said:
            call.out.say(word)
        if not any(page.newest > page.at.number for page in pages):
            break
    for word in reading.missed(frozenset(answered)):
        call.out.say(word)
    return sorted(lines, key=lambda line: (line.at, line.file, line.number))


async def _pages(bus: Bus, reading: Reading) -> list[LogsPage]:
    alone = reading.question.node is None and reading.question.daemon is None
    answers = await bus.request_many(
        LOGS_SUBJECT,
        reading.ask(),
        timeout_seconds=ANSWER_SECONDS,
        expect=len(reading.there) if alone and not reading.silent else None,
        settle_seconds=SETTLE_SECONDS,
    )
    found: Mapping[str, LogsPage] = {}
    for answer in answers:
        try:
            page = LogsPage.model_validate_json(answer)
        except ValidationError:
            continue
        found = {**found, f"{page.node}.{page.daemon}": page}
    return list(found.values())


def _print(call: Call, lines: Iterable[Line]) -> None:
    for line in lines:
        write_line(call, line)
