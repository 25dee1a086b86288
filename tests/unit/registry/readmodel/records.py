"""A registry that is not there: records as FC_REGISTRY and FC_EVENTS would hold them, and a file made of them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleetcast.bus.streams import EVENTS, REGISTRY
from fleetcast.events.content import Content, ContentFile, Format, Kind, Value
from fleetcast.events.envelope import new_event
from fleetcast.events.lifecycle import (
    EntryState,
    Evaluation,
    Facts,
    Flag,
    FreezeState,
    Phase,
    Rating,
    RolloutState,
    StageChange,
    StageName,
    entry_subject,
    freeze_subject,
    rollout_subject,
)
from fleetcast.events.payloads import Endpoints, Origin, Payload
from fleetcast.events.state import (
    AuditRecord,
    CanaryEntry,
    Cause,
    SlotEntry,
    SlotState,
    VersionState,
    chain_subject,
    log_subject,
    slot_subject,
    version_subject,
)
from fleetcast.registry.readmodel import ReadModel
from fleetcast.registry.rules import as_mapping, dump

BEGAN = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    """A moment of the test's clock."""
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Message:
    """A stored message."""

    subject: str
    data: bytes
    sequence: int
    time: datetime
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Stream:
    """Messages in order; sequences from 1."""

    messages: list[Message] = field(default_factory=list)

    def put(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        sequence = len(self.messages) + 1
        self.messages.append(Message(subject, data, sequence, BEGAN + timedelta(seconds=sequence), headers or {}))

    def compacted(self) -> list[Message]:
        """As FC_REGISTRY keeps it: the newest message of every subject, with the sequence it had."""
        newest = {message.subject: message for message in self.messages}
        return sorted(newest.values(), key=lambda message: message.sequence)


def content(size: int, kind: Kind = Kind.MODEL) -> Content:
    file = ContentFile(path="m.pt", size=size, sha256=f"{size:064x}", pieces_root="0" * 64)
    return Content(kind=kind, format=Format.OPAQUE, files=(file,))


def cause(sequence: int = 1) -> Cause:
    return Cause(event=f"event-{sequence}", sequence=sequence, by="/fleet/n1/job", correlation="correlation-1")


def state(model: str, version: str, size: int = 1, kind: Kind = Kind.MODEL, **more: Any) -> VersionState:
    made = content(size, kind)
    return VersionState(
        **{
            "model": model,
            "version": version,
            "artifact": made.artifact,
            "content": made,
            "kind": kind,
            "origin": Origin(node="n1", endpoints=Endpoints()),
            "metainfo_b64": "bWV0YQ==",
            "cause": cause(),
            "at": at(0),
            **more,
        }
    )


def entry(model: str, version: str, size: int = 1, **more: Any) -> EntryState:
    return EntryState(
        **{
            "model": model,
            "version": version,
            "artifact": content(size).artifact,
            "since": at(0),
            "bytes": size,
            "format": "opaque",
            "origin": "n1",
            "registered_at": at(0),
            "registered_by": "/fleet/n1/distributor",
            "cause": cause(),
            **more,
        }
    )


class Writer:
    """Writes a registry into `registry` and `events`, as a daemon would."""

    def __init__(self) -> None:
        self.registry = Stream()
        self.events = Stream()
        self._n: dict[str, int] = {}
        self._slots: dict[tuple[str, Kind], SlotState] = {}
        self._clock = 0.0

    def tick(self) -> str:
        """The next moment."""
        self._clock += 1
        return at(self._clock)

    def put(self, subject: str, value: Value) -> None:
        self.registry.put(subject, dump(value))

    def version(self, model: str, version: str, size: int = 1, kind: Kind = Kind.MODEL, **more: Any) -> None:
        made = state(model, version, size, kind, **{"at": self.tick(), **more})
        self.put(version_subject(model, version, kind), made)
        after = {"version": version, "artifact": made.artifact, "kind": kind.value}
        self.record(model, "version.reserved", None, after)

    def entry(self, model: str, version: str, size: int = 1, **more: Any) -> EntryState:
        made = entry(model, version, size, **more)
        self.put(entry_subject(model, version), made)
        return made

    def register(self, model: str, version: str, size: int = 1, **facts: Any) -> None:
        """A version with its entry."""
        now = self.tick()
        self.version(model, version, size, at=now)
        self.entry(model, version, size, since=now, registered_at=now, facts=Facts(**facts))

    def order(
        self,
        model: str,
        production: str | None,
        *,
        canary: str | None = None,
        percent: int = 10,
        kind: Kind = Kind.MODEL,
        size: int = 1,
    ) -> SlotState:
        old, now = self._slots.get((model, kind)), self.tick()
        made = SlotState(
            model=model,
            kind=kind,
            generation=old.generation + 1 if old else 1,
            production=_in_slot(production, size, kind),
            previous=old.production if old else None,
            canary=CanaryEntry(version=canary, artifact=content(size).artifact, percent=percent) if canary else None,
            cause=cause(),
            at=now,
        )
        self._slots[model, kind] = made
        self.put(slot_subject(model, kind), made)
        self.record(model, "slot.ordered", as_mapping(old), as_mapping(made), now)
        return made

    def rollout(self, model: str, version: str, phase: Phase) -> None:
        now = self.tick()
        made = RolloutState(
            rollout=f"rollout-{model}",
            model=model,
            version=version,
            artifact=content(1).artifact,
            target=StageName.PRODUCTION,
            phase=phase,
            started_at=now,
            since=now,
            actor="/fleet/n1/cli",
            cause=cause(),
        )
        self.put(rollout_subject(model), made)

    def freeze(self, model: str, *, frozen: bool) -> None:
        made = FreezeState(frozen=frozen, reason="holidays", by="/fleet/n1/cli", at=self.tick())
        self.put(freeze_subject(model), made)

    def record(
        self,
        model: str,
        action: str,
        before: Mapping[str, object] | None,
        after: Mapping[str, object] | None,
        moment: str | None = None,
        **more: Any,
    ) -> int:
        """An audit record, with the end of the chain and a request, which the read model passes over."""
        n = self._n[model] = self._n.get(model, 0) + 1
        made = AuditRecord(
            n=n,
            model=model,
            action=action,
            request=f"r{n}",
            actor="/fleet/n1/cli",
            before=None if before is None else dict(before),
            after=None if after is None else dict(after),
            at=moment or self.tick(),
            prev_sha256="0" * 64,
            **more,
        )
        self.registry.put(chain_subject(model), json.dumps({"n": n, "sha256": "0" * 64}).encode())
        self.put(log_subject(model, n), made)
        self.registry.put(f"fc.reg.state.request.{model}.r{n}", b"{}")
        return n

    def say(self, payload: Payload, *, moment: float | None = None) -> str:
        """An event; its id."""
        made = new_event(payload, source="/fleet/n1/job", time=BEGAN + timedelta(seconds=moment or self._clock))
        self.events.put(made.subject, *made.encode())
        return made.id


def _in_slot(version: str | None, size: int, kind: Kind) -> SlotEntry | None:
    return None if version is None else SlotEntry(version=version, artifact=content(size, kind).artifact)


def flag(value: bool, by: str = "/fleet/n1/cli") -> Flag:
    return Flag(value=value, by=by, at=at(0))


def games(wins: int, losses: int, draws: int = 0) -> Evaluation:
    return Evaluation(wins=wins, losses=losses, draws=draws)


def rating(elo: float, games: int = 100) -> Rating:
    return Rating(elo=elo, games=games)


def stage_change(stage: StageName, seconds: float, n: int = 0) -> StageChange:
    return StageChange(stage=stage, at=at(seconds), n=n)


@contextmanager
def made_of(path: Path, writer: Writer) -> Iterator[ReadModel]:
    """A read model of all that was written."""
    with opened(path) as model:
        model.apply(REGISTRY, writer.registry.messages)
        model.apply(EVENTS, writer.events.messages)
        model.index()
        yield model


@contextmanager
def opened(path: Path) -> Iterator[ReadModel]:
    model = ReadModel(path)
    model.open()
    try:
        yield model
    finally:
        if model.is_open:
            model.close()


def tables(model: ReadModel) -> dict[str, list[tuple[object, ...]]]:
    """Everything that is in the file."""
    with model.reader() as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: sorted(map(tuple, db.execute(f"SELECT * FROM {name}")), key=repr) for name in names}
