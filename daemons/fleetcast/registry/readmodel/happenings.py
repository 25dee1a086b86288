"""Events as rows: what became of runs, and what nodes did with versions. Runs inside the caller's transaction."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from fleetcast.events.envelope import EventInvalid, parse
from fleetcast.registry.readmodel.flatten import moment, stamp
from fleetcast.registry.readmodel.projection import Record

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

CONSUMED: Final = {"version.installed": "installed", "version.activated": "activated", "version.removed": "removed"}
"""What nodes do with versions, by event."""


@dataclass(frozen=True, slots=True)
class Happening:
    """An event as tables see it.

    Attributes:
        id: of the event; the same event stored twice is one.
        name: as in subjects: `run.started`, `run.epoch_logged`.
        at: when it happened, RFC 3339 in UTC.
    """

    id: str
    name: str
    payload: Mapping[str, Any]
    at: str
    sequence: int


def project_events(db: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Bring the tables to what *records* (in order) say."""
    for record in records:
        happening = read(record)
        if happening is not None:
            record_happening(db, happening)


def read(record: Record) -> Happening | None:
    """The event in a record; None: it is none that tables are made of, or cannot be read."""
    domain = record.subject.removeprefix("fc.ev.").lower().replace("_", ".").partition(".")[0]
    if domain not in {"run", "version"}:
        return None
    try:
        event = parse(
            record.data,
            subject=record.subject,
            headers=record.headers,
            stream="FC_EVENTS",
            sequence=record.sequence,
            time=record.time,
        )
    except EventInvalid as e:
        # Whoever takes in events made a dead letter of it; here it is only passed over.
        log.debug("event.passed_over", subject=record.subject, sequence=record.sequence, reason=str(e)[:500])
        return None
    payload = event.payload.model_dump(mode="json")
    return Happening(event.id, event.type.stem, payload, stamp(event.time), record.sequence)


def record_happening(db: sqlite3.Connection, happening: Happening) -> None:
    """Write what one event says; other events say nothing here."""
    if happening.name in CONSUMED:
        _consumed(db, happening)
    elif happening.name in _RUN_EVENTS:
        _RUN_EVENTS[happening.name](db, happening)


def _consumed(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    db.execute(
        "INSERT OR IGNORE INTO consumption VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            happening.sequence,
            happening.id,
            CONSUMED[happening.name],
            p["model"],
            p["version"],
            p["node"],
            happening.at,
            p["artifact"],
            p.get("generation"),
            p.get("slot"),
            p.get("bytes"),
            p.get("transport"),
            p.get("seconds"),
            p.get("reason"),
        ),
    )


# -- runs


def _run(db: sqlite3.Connection, happening: Happening, said: Mapping[str, Any]) -> None:
    """Merge what was *said* about a run into its row; what is said later holds."""
    run_id = happening.payload["run_id"]
    found = db.execute("SELECT document FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    # A run whose beginning is older than the stream keeps is still a run.
    run: dict[str, Any] = json.loads(found[0]) if found else {"run_id": run_id, "state": "running", "degraded": None}
    if _is_older(said.get("latest"), run.get("latest")):
        said = {name: value for name, value in said.items() if name != "latest"}
    run = {"started_at": happening.at, "finished_at": None, **run, **said, "changed_at": happening.at}
    db.execute(
        "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run_id,
            run.get("lane"),
            run.get("model"),
            run["state"],
            int(run["degraded"] is not None),
            run["started_at"],
            run["finished_at"],
            run.get("node"),
            happening.sequence,
            _text(run),
        ),
    )


def _is_older(said: Mapping[str, Any] | None, known: Mapping[str, Any] | None) -> bool:
    """What a job says often waits in another file of its spool than what it says seldom, and may come late."""
    return bool(said and known and said["at"] < known["at"])


def _started(db: sqlite3.Connection, happening: Happening) -> None:
    wanted = "SELECT started_at, document FROM runs WHERE run_id = ?"
    found = db.execute(wanted, (happening.payload["run_id"],)).fetchone()
    began = found[0] if found else happening.at
    ended = {"finished_at": None, "outcome": None, "reason": None}
    # Said again, it goes on elsewhere: it began when it was first said.
    said = happening.payload
    if found:
        # Said again, in fewer words perhaps: what is left out stays as it was.
        said = {name: value for name, value in said.items() if value not in (None, [], {})}
        late = _late(said.get("claim"), json.loads(found[1]))
        if late is not None:
            _run(db, happening, {name: value for name, value in said.items() if name in late})
            return
    _run(db, happening, {**said, **ended, "state": "running", "started_at": began})


_OF_THE_CODE: Final = frozenset({"experiment_id", "git_commit", "environment", "reproducibility_hash", "config"})
"""What a job says of itself, whichever claim it runs under."""


def _late(claim: int | None, run: Mapping[str, Any]) -> frozenset[str] | None:
    """What holds of a beginning that waited in a spool while the run went on; None: it is not late.

    A lane's job says that it began on its own way to the log, and its trainer says the end on another."""
    known = run.get("claim") or 0
    if claim is None or claim > known:
        return None
    is_over = run["finished_at"] is not None or run["state"] == "queued"
    return _OF_THE_CODE if claim < known or is_over else None


def _epoch_logged(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    run_id, epoch = p["run_id"], p["epoch"]
    # The same epoch again, after a restart from a checkpoint, is the one that counts: with its metrics only.
    db.execute("DELETE FROM run_metrics WHERE run_id = ? AND epoch = ?", (run_id, epoch))
    db.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?)", (run_id, epoch, happening.at, _text(p)))
    db.executemany(
        "INSERT INTO run_metrics VALUES (?, ?, ?, ?, ?)",
        [(run_id, metric, epoch, value, happening.at) for metric, value in (p.get("metrics") or {}).items()],
    )
    _run(db, happening, {"node": p.get("node"), "epoch": epoch, "latest": _latest(happening)})


def _metrics_logged(db: sqlite3.Connection, happening: Happening) -> None:
    _run(db, happening, {"node": happening.payload.get("node"), "latest": _latest(happening)})


def _latest(happening: Happening) -> dict[str, Any]:
    """How a run goes, as of one event."""
    p = happening.payload
    kept = {name: p.get(name) for name in ("step", "epoch", "metrics", "nonfinite")}
    return {**kept, "at": happening.at}


def _checkpoint_saved(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    row = (p["run_id"], happening.id, p.get("epoch"), happening.at, _text(p))
    db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?)", row)
    _run(db, happening, {"checkpoint": {**p, "at": happening.at}})


def _degraded(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    since = {name: p.get(name) for name in ("reason", "since_epoch", "device")}
    _run(db, happening, {"degraded": {**since, "at": happening.at}})


def _fault_recorded(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    at = moment(p["at"]) if p.get("at") else happening.at
    row = (p["run_id"], happening.id, str(p.get("fault_class", "unknown")), at, _text(p))
    db.execute("INSERT OR REPLACE INTO faults VALUES (?, ?, ?, ?, ?)", row)
    _run(db, happening, {})


def _fell_back(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    row = (p["run_id"], happening.id, moment(p["timestamp"]), _text(p))
    db.execute("INSERT OR REPLACE INTO fallbacks VALUES (?, ?, ?, ?)", row)
    known = db.execute("SELECT document FROM runs WHERE run_id = ?", (p["run_id"],)).fetchone()
    epoch = json.loads(known[0]).get("epoch") if known else None
    since = {"reason": p["reason"], "since_epoch": 0 if epoch is None else epoch + 1, "device": p["to_device"]}
    _run(db, happening, {"degraded": {**since, "at": happening.at}})


def _returned(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    newest = "SELECT event, document FROM fallbacks WHERE run_id = ? ORDER BY at DESC, event DESC LIMIT 1"
    found = db.execute(newest, (p["run_id"],)).fetchone()
    if found:
        document = {**json.loads(found[1]), "returned_at": happening.at, "returned_to": p["to_device"]}
        changed = (_text(document), p["run_id"], found[0])
        db.execute("UPDATE fallbacks SET document = ? WHERE run_id = ? AND event = ?", changed)
    _run(db, happening, {"degraded": None, "device": p["to_device"]})


def _finished(db: sqlite3.Connection, happening: Happening) -> None:
    p = happening.payload
    said = {"outcome": p["outcome"], "reason": p.get("reason"), "final_metrics": p.get("metrics") or {}}
    if p.get("claim"):
        said["claim"] = p["claim"]
    _run(db, happening, {**said, "state": p["outcome"], "finished_at": happening.at})


def _moved(db: sqlite3.Connection, happening: Happening) -> None:
    """A lane's run waits for a node, before its first claim and between two; or was cancelled while it waited, of which
    nothing else is told. Who moves it there is no node of the run."""
    p = happening.payload
    known = db.execute("SELECT state FROM runs WHERE run_id = ?", (p["run_id"],)).fetchone()
    said = {name: p[name] for name in ("lane", "model") if p.get(name)}
    said["reason"] = p.get("detail") or None
    if p["phase"] == "queued":
        _run(db, happening, {**said, "state": "queued"})
    elif p["phase"] == "cancelled" and (known is None or known[0] == "queued"):
        ended = {"state": "cancelled", "outcome": "cancelled", "claim": p.get("claim")}
        _run(db, happening, {**said, **ended, "finished_at": happening.at})


_RUN_EVENTS: Final[Mapping[str, Callable[[sqlite3.Connection, Happening], None]]] = {
    "run.started": _started,
    "run.epoch_logged": _epoch_logged,
    "run.metrics_logged": _metrics_logged,
    "run.checkpoint_saved": _checkpoint_saved,
    "run.degraded": _degraded,
    "run.fault_recorded": _fault_recorded,
    "run.fallback": _fell_back,
    "run.returned": _returned,
    "run.moved": _moved,
    "run.finished": _finished,
}


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
