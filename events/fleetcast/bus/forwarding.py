"""Sends what lies in a spool: at least once, in order within a file, with the ids that it was written with."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from fleetcast.bus.connection import Bus
from fleetcast.bus.dead import Letter
from fleetcast.bus.errors import DataRefused, OperationRefused, TransportFailed
from fleetcast.bus.publish import MESSAGE_ID
from fleetcast.client.names import SNAPSHOT
from fleetcast.client.spool import Damaged, SpoolReader, SpoolRecord
from fleetcast.events.envelope import Event, parse
from fleetcast.events.errors import EventInvalid
from fleetcast.events.event import CONTENT_TYPE, ID
from fleetcast.events.ids import is_name

log = structlog.get_logger("fleetcast.bus.forwarding")

SLICE = 256
"""Records held in memory at once; a full spool has hundreds of MiB."""
WAVE = 64
"""Records on their way at once: a server that waits for its disk with each takes 2.4 times as many a second."""
SNAPSHOT_TYPE = f"{SNAPSHOT}.v1"


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What one look at a spool came to.

    Attributes:
        records: that the bus has now, or that became dead letters.
        refused: of these, how many became dead letters.
        waiting: that were looked at and could not be sent.
        problem: why not; empty: all were.
    """

    records: int = 0
    refused: int = 0
    waiting: int = 0
    problem: str = ""


class Forwarder:
    """Sends the records of one spool; what is damaged or refused becomes a dead letter, and holds nothing up.

    Attributes:
        damaged: pieces of the spool that were no records, since this began.
        dropped: records that writers dropped for want of space, since this began.
    """

    def __init__(self, bus: Bus, folder: str, *, node: str, deadline_seconds: float) -> None:
        """*node* says who forwards; *deadline_seconds*: how long one record is tried before the bus counts as away."""
        self._bus = bus
        self._folder = folder
        self._node = node
        self._deadline_seconds = deadline_seconds
        self._found: list[Damaged] = []
        self._dropped_before = 0
        self.damaged = 0
        self.dropped = 0

    async def open(self) -> SpoolReader:
        """Become the forwarder of the spool.

        Raises:
            SpoolBusy: another process is.
            SpoolError: the folder cannot be used.
        """
        reader = await asyncio.to_thread(SpoolReader, self._folder, on_damaged=self._note)
        self._dropped_before = await asyncio.to_thread(reader.dropped)
        return reader

    async def forward(self, reader: SpoolReader) -> Forwarded:
        """Send the next records, at most SLICE of them."""
        records = await asyncio.to_thread(self._next, reader)
        sent = Forwarded(waiting=len(records))
        try:
            await self._tell_damage()
        except TransportFailed as away:
            return replace(sent, problem=str(away))
        for wave in (records[i : i + WAVE] for i in range(0, len(records), WAVE)):
            sent = await self._send_all(reader, wave, sent)
            if sent.problem:
                break
        return sent

    def _next(self, reader: SpoolReader) -> list[SpoolRecord]:
        records = list(itertools.islice(reader.pending(), SLICE))
        dropped = reader.dropped() - self._dropped_before
        if dropped > self.dropped:
            log.error("spool.dropped", spool=self._folder, records=dropped - self.dropped, reason="want of space")
            self.dropped = dropped
        return records

    async def _send_all(self, reader: SpoolReader, wave: Sequence[SpoolRecord], before: Forwarded) -> Forwarded:
        """Send a *wave* side by side, but one after the other what goes to one subject: there, order means something.
        Then commit up to the first record that could not be sent; what was sent behind it is sent again."""
        chains: dict[str, list[_Sending]] = {}
        sendings = [_Sending(record, *_read(record.data)) for record in wave]
        for each in sendings:
            chains.setdefault(each.subject, []).append(each)
        await asyncio.gather(*(self._send_chain(chain) for chain in chains.values()))
        done = list(itertools.takewhile(lambda each: each.ended, sendings))
        if done:
            await asyncio.to_thread(_commit, reader, [each.record for each in done])
        return Forwarded(
            before.records + len(done),
            before.refused + sum(each.refused for each in done),
            before.waiting - len(done),
            next((each.problem for each in sendings if each.problem), ""),
        )

    async def _send_chain(self, chain: Sequence["_Sending"]) -> None:
        for each in chain:
            try:
                each.refused = await self._send(each)
                each.ended = True
            except TransportFailed as away:
                each.problem = str(away) or "the bus does not answer"
                return

    async def _send(self, sending: "_Sending") -> bool:
        """Store one record; True when all that could be stored of it is why not."""
        content = sending.content
        try:
            if isinstance(content, EventInvalid):
                raise content
            if isinstance(content, Event):
                await self._bus.publish(content, deadline_seconds=self._deadline_seconds)
            else:
                headers = {MESSAGE_ID: content, "Content-Type": CONTENT_TYPE}
                data = sending.record.data
                await self._bus.publish_raw(sending.subject, data, headers, deadline_seconds=self._deadline_seconds)
        except EventInvalid as invalid:
            await self._bury(sending.record, invalid.reason, field=invalid.field, next_step=invalid.next_step)
        except (DataRefused, OperationRefused) as refused:
            await self._bury(sending.record, str(refused), field=None, next_step=refused.next_step or "")
        else:
            return False
        return True

    async def _bury(self, record: SpoolRecord, reason: str, *, field: str | None, next_step: str) -> None:
        log.warning("spool.refused", spool=self._folder, reason=reason, field=field)
        await self._put(record.data, record.file, record.end_offset, reason, field=field, next_step=next_step)

    def _note(self, damaged: Damaged) -> None:
        """Called by the reader, in its thread."""
        facts = {"reason": damaged.reason, "bytes": damaged.bytes, "kept": damaged.kept}
        log.error("spool.damaged", spool=self._folder, file=damaged.file, offset=damaged.offset, **facts)
        self.damaged += 1
        self._found.append(damaged)

    async def _tell_damage(self) -> None:
        """Have every piece of damage named in FC_DEAD, where the whole fleet's losses are looked for."""
        while self._found:
            found = self._found[0]
            where = f"{self._folder}/{found.file} at byte {found.offset}"
            reason = f"the spool is damaged: {where}, {found.bytes} bytes: {found.reason}"
            kept = f"what it held is lost; the bytes are in {found.kept}" if found.kept else "what it held is lost"
            await self._put(b"", f"damage/{found.file}", found.offset, reason, field=None, next_step=kept)
            self._found.pop(0)

    async def _put(self, data: bytes, file: str, place: int, reason: str, *, field: str | None, next_step: str) -> None:
        letter = Letter(
            subject="spool",
            data=data,
            headers={},
            stream=f"spool/{file}",
            sequence=place,
            consumer=f"spool-{self._node}",
            attempts=1,
            reason=reason,
            field=field,
            next_step=next_step,
        )
        await self._bus.dead.put(letter, deadline_seconds=self._deadline_seconds)


@dataclass
class _Sending:
    """A record on its way.

    Attributes:
        subject: where it goes; empty: nowhere, for it is no event.
        content: the event; of a snapshot its id; or why it is neither.
        ended: the bus has it, or why not.
    """

    record: SpoolRecord
    subject: str
    content: Event | str | EventInvalid
    ended: bool = False
    refused: bool = False
    problem: str = ""


def _read(data: bytes) -> tuple[str, Event | str | EventInvalid]:
    try:
        return _snapshot(data) or _event(parse(data))
    except EventInvalid as invalid:
        return "", invalid


def _event(event: Event) -> tuple[str, Event]:
    return event.subject, event


def _snapshot(data: bytes) -> tuple[str, str] | None:
    """Subject and id of a snapshot, which goes to FC_PERF as it is; None: it is something else."""
    if SNAPSHOT_TYPE.encode() not in data:
        return None
    try:
        document = json.loads(data)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("type") != SNAPSHOT_TYPE:
        return None
    model, event_id = _text(document.get("data"), "model"), _text(document, "id")
    if not is_name(model) or not ID.match(event_id):
        raise EventInvalid(
            f"a snapshot of {model[:80]!r}: that is no name of a model",
            field="data.model",
            next_step="snapshot(MODEL, VERSION, …), with the name that the model was promoted under",
            event_id=event_id or "unknown",
            subject="fc.perf",
        )
    return f"fc.perf.{model}", event_id


def _text(document: object, name: str) -> str:
    return str(document.get(name, "")) if isinstance(document, dict) else ""


def _commit(reader: SpoolReader, records: Sequence[SpoolRecord]) -> None:
    """Commit *records*: the last one of each segment says all."""
    for record in {record.file: record for record in records}.values():
        reader.commit(record)
