"""What is kept, in which order streams are taken and put back, and what a restore refuses. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleetcast.bus.streams import (
    AUDIT,
    EVENTS,
    META_BUCKET,
    PASSING,
    REGISTRY,
    REMEDY,
    STREAMS,
    TRAINING,
    WORK,
)
from fleetcast.cli.backup.manifest import Part, PartHead

LEFT_OUT: Final = {spec.name: spec.description for spec in STREAMS if spec.name in PASSING}
_COPIES: Final = (EVENTS, AUDIT)
_TRUTH: Final = (REMEDY, TRAINING, REGISTRY)
_AFTER: Final = (WORK, f"OBJ_{META_BUCKET}")
DRILL_SECONDS: Final = 1800.0
"""What a restore may take (seed 002): longer, and somebody has to say why."""
NAME_FORMAT: Final = "fleetcast-%Y%m%dT%H%M%SZ"


def order_of_taking(names: Iterable[str]) -> tuple[str, ...]:
    """Copies before what they copy, so that none tells of what its source does not know; what is referred to last."""
    known = [spec.name for spec in STREAMS if spec.name in set(names) and spec.name not in LEFT_OUT]
    middle = [name for name in known if name not in {*_COPIES, *_TRUTH, *_AFTER}]
    return tuple(name for name in (*_COPIES, *middle, *_TRUTH, *_AFTER) if name in known)


def rounds_of_restoring(parts: Sequence[Part]) -> tuple[tuple[str, ...], ...]:
    """What is copied is there before whoever copies it: streams by the round that makes them."""
    names = [part.stream for part in parts]
    return tuple(n for n in names if n not in _COPIES), tuple(n for n in names if n in _COPIES)


@dataclass(frozen=True, slots=True)
class Existing:
    """A stream that is there where one is to be restored. `last_time`: of its newest message, as the server writes
    it."""

    name: str
    messages: int
    last_sequence: int
    last_time: str = ""
    consumers: int = 0

    @classmethod
    def of(cls, name: str, state: Mapping[str, Any]) -> "Existing":
        """As the server describes it."""
        messages, last = int(state.get("messages", 0)), int(state.get("last_seq", 0))
        return cls(name, messages, last, str(state.get("last_ts", "")), int(state.get("consumer_count", 0)))

    @property
    def unused(self) -> bool:
        """Whether nothing was ever in it: it was declared, and may be declared again."""
        return self.last_sequence == 0 and self.consumers == 0

    @property
    def text(self) -> str:
        """`FC_EVENTS with 12 messages (last number 12)`."""
        return f"{self.name} with {self.messages} messages (last number {self.last_sequence})"


def restored_already(part: PartHead, found: Existing) -> bool:
    """Whether a stream is what a restore that was interrupted left whole. Time may have taken old messages, numbers
    never go back, and what copies others may have gone on."""
    if part.stream in _COPIES:
        return found.last_sequence >= int(part.state.get("last_seq", 0))
    there = Existing.of(part.stream, part.state)
    return (found.last_sequence, found.last_time) == (there.last_sequence, there.last_time)


def in_the_way(parts: Sequence[Part], found: Sequence[Existing], *, resume: bool) -> tuple[Existing, ...]:
    """Streams that a restore would have to overwrite. Nothing ever is."""
    by_name = {part.stream: part for part in parts}
    return tuple(
        each
        for each in found
        if each.name in by_name and not each.unused and not (resume and restored_already(by_name[each.name], each))
    )


def name_of(taken_at: datetime) -> str:
    """File name of a backup, without its ending; sorts by time."""
    return taken_at.strftime(NAME_FORMAT)


def time_of(path: Path) -> datetime | None:
    """When a backup was taken, by its name; None: it is none of ours."""
    try:
        return datetime.strptime(f"{path.stem}+0000", f"{NAME_FORMAT}%z")
    except ValueError:
        return None


def outlived(paths: Iterable[Path], now: datetime, *, days: int, least: int) -> tuple[Path, ...]:
    """Backups older than *days*, but for the newest *least* of all; files of other names are nobody's to remove."""
    timed = sorted(((at, path) for path in paths if (at := time_of(path)) is not None), reverse=True)
    limit = now - timedelta(days=days)
    return tuple(path for at, path in timed[least:] if at < limit)


def needs_notes(seconds: float, limit_seconds: float = DRILL_SECONDS) -> bool:
    """Whether a drill took so long that somebody has to say what is done about it."""
    return seconds > limit_seconds
