"""What becomes of snapshots that are not counted: told to whoever sends them, without a storm of refusals; what cannot
even be read is kept as a dead letter."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from fleetcast.bus import Bus, Entry
from fleetcast.bus.dead import Letter
from fleetcast.bus.errors import BusError
from fleetcast.bus.streams import PERF
from fleetcast.events.envelope import Event, new_event
from fleetcast.events.ids import derived_id, is_name
from fleetcast.events.names import UNKNOWN_KEY
from fleetcast.events.payloads import EventRejected
from fleetcast.events.performance import SnapshotInvalid

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.monitor")

CONSUMER: Final = "monitor"
TELL_SECONDS: Final = 60.0
"""One refusal of a kind about a model is told in each such time of the stream: a replay tells the same ones, which are
then stored once."""
LETTERS: Final = 10
"""Dead letters of one kind in that time; the others stay in FC_PERF for hours, and are counted here."""
KINDS: Final = 2000
"""Kinds of refusals that are remembered: whoever invents models invents kinds."""
WAITING: Final = 2000
PREFIX: Final = "fc.perf."

NOT_COUNTED: Final[Mapping[str, tuple[str, str]]] = {
    "unknown_model": (
        "no slot of {model} is known, so nothing is judged",
        "fleetcast models {model}    (register and promote it, or correct the subject fc.perf.MODEL)",
    ),
    "unknown_version": (
        "the version is in no slot of {model}",
        "fleetcast status {model}    (the serving process should report the version that it serves)",
    ),
    "not_served_there": (
        "the node says that it serves another version of {model}",
        "fleetcast status {model}    (the serving process may still have the former version loaded: see its hook)",
    ),
    "from_the_future": (
        "the time of the snapshot is too far after the time at which it was stored",
        "set the clock of the node (timedatectl), or leave timestamp out",
    ),
    "from_the_past": (
        "the time of the snapshot is too far before the time at which it was stored",
        "set the clock of the node (timedatectl), or send snapshots when they are taken",
    ),
}
"""Why readable snapshots are not counted, as far as somebody has to do something about it, and what."""


@dataclass(slots=True)
class _Kind:
    minute: int
    letters: int = 0
    untold: int = 0


class Refusals:
    """Tells what was refused.

    Attributes:
        counts: snapshots that could not be read, by model.
        untold: of all refusals, those whose kind had been told shortly before.
    """

    def __init__(self, bus: Bus, *, now: Callable[[], datetime]) -> None:
        self._bus = bus
        self._now = now
        self._source = f"/fleet/{bus.node}/{bus.daemon}"
        self._kinds: OrderedDict[tuple[str, str], _Kind] = OrderedDict()
        self._waiting: asyncio.Queue[Letter | Event] = asyncio.Queue(WAITING)
        self.counts: OrderedDict[str, int] = OrderedDict()
        self.untold = 0

    def invalid(self, entry: Entry, fault: SnapshotInvalid) -> None:
        """A message cannot be read as a snapshot."""
        model = entry.subject.removeprefix(PREFIX)
        self.counts[model] = self.counts.get(model, 0) + 1
        while len(self.counts) > KINDS:
            self.counts.popitem(last=False)
        tell, kind = self._kind(model, fault.field or "body", entry.time)
        if kind.letters < LETTERS:
            kind.letters += 1
            self._put(_letter(entry, fault))
        if tell:
            event = f"{PERF}:{entry.sequence}"
            reason = fault.reason + _more(kind)
            self._say(model, event, entry.subject, reason, fault.next_step, fault.field or "body", entry.time)
            kind.untold = 0

    def not_counted(self, model: str, reason: str, count: int, entry: Entry | None = None) -> None:
        """So many snapshots of a model were read and not counted, *entry* the last of them."""
        if reason not in NOT_COUNTED or count <= 0:
            return
        at = entry.time if entry is not None else self._now()
        tell, kind = self._kind(model, reason, at)
        kind.untold += count - (not tell)
        if not tell:
            return
        why, step = NOT_COUNTED[reason]
        noun = "snapshot" if kind.untold == 1 else "snapshots"
        said = f"{kind.untold} {noun} of {model} not counted: {why.format(model=model)}"
        event = f"{PERF}:{entry.sequence}" if entry is not None else PERF
        self._say(model, event, f"{PREFIX}{model}", said, step.format(model=model), reason, at)
        kind.untold = 0

    def _kind(self, model: str, what: str, at: datetime) -> tuple[bool, _Kind]:
        """Whether this kind is to be told now, and what is known of it."""
        minute = int(at.timestamp() // TELL_SECONDS)
        kind = self._kinds.get((model, what))
        if kind is not None and minute <= kind.minute:
            kind.untold += 1
            self.untold += 1
            return False, kind
        kind = _Kind(minute, untold=kind.untold if kind else 0)
        self._kinds[model, what] = kind
        self._kinds.move_to_end((model, what))
        while len(self._kinds) > KINDS:
            self._kinds.popitem(last=False)
        return True, kind

    def _say(self, model: str, event: str, subject: str, reason: str, next_step: str, what: str, at: datetime) -> None:
        refusal = EventRejected(
            event=event,
            subject=subject,
            reason=reason,
            field=None if what in NOT_COUNTED or what == "body" else what,
            next_step=next_step,
            node=self._bus.node,
        )
        key = model if is_name(model) else UNKNOWN_KEY
        name = derived_id(f"{subject}/{int(at.timestamp() // TELL_SECONDS)}", "event.rejected.v1", what)
        self._put(new_event(refusal, source=self._source, event_id=name, key=key, time=at))

    def _put(self, said: Letter | Event) -> None:
        try:
            self._waiting.put_nowait(said)
        except asyncio.QueueFull:
            self.untold += 1

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            said = await self._waiting.get()
            try:
                if isinstance(said, Letter):
                    await self._bus.dead.put(said)
                else:
                    await self._bus.publish(said)
            except BusError as away:
                log.warning("refusal.untold", reason=str(away))


def _more(kind: _Kind) -> str:
    return f" (and {kind.untold} more since this was last said)" if kind.untold else ""


def _letter(entry: Entry, fault: SnapshotInvalid) -> Letter:
    return Letter(
        subject=entry.subject,
        data=entry.data,
        headers=entry.headers,
        stream=PERF,
        sequence=entry.sequence,
        consumer=CONSUMER,
        attempts=1,
        reason=fault.reason,
        field=fault.field,
        next_step=fault.next_step,
    )
