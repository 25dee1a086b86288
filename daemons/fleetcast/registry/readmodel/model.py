"""The file of the read model: opened, checked, written in batches, read in snapshots, moved aside when it is no good.

One connection writes, and the thread that opened it owns it; readers have connections of their own.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from fleetcast.bus.streams import EVENTS, MINUTES, REGISTRY
from fleetcast.registry.readmodel import files
from fleetcast.registry.readmodel.errors import ReadModelDamaged
from fleetcast.registry.readmodel.flatten import stamp
from fleetcast.registry.readmodel.happenings import project_events
from fleetcast.registry.readmodel.minutes import project_minutes
from fleetcast.registry.readmodel.projection import Record, project_registry
from fleetcast.registry.readmodel.schema import APPLICATION_ID, INDEXES, SCHEMA_VERSION, TABLES

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleetcast.registry")

BATCH_RECORDS: Final = 1000
"""Records in one transaction: a commit costs as much as dozens of rows, a replay should not lose much when killed."""
READER_CACHE_KIB: Final = 32 * 1024
WRITER_CACHE_KIB: Final = 64 * 1024
PAGE_BYTES: Final = 8192
CHECKPOINT_PAGES: Final = 4000
"""32 MiB of log before it is copied into the file: a replay writes most pages many times."""
BUSY_SECONDS: Final = 5.0

# A busy or full disk passes, and a statement that is wrong stays so: the file is not at fault.
_OTHERS_FAULT: Final = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM}
)
_UNFIT: Final = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    OverflowError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)
"""What a record can be at fault for that was read well, but does not fit into the tables."""

_PROJECTIONS: Final[dict[str, Callable[[sqlite3.Connection, Iterable[Record]], None]]] = {
    REGISTRY: project_registry,
    EVENTS: project_events,
    MINUTES: project_minutes,
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream has been read.

    Attributes:
        sequence: of the last record that is in the tables; 0: none is.
        created: when the stream was made, as its server says: another one is another stream; empty: not known yet.
        time: when the stream took that record, RFC 3339; empty: none.
    """

    sequence: int = 0
    created: str = ""
    time: str = ""


class ReadModel:
    """The tables, in a file. All but `reader` belong to the thread that called `open`.

    Attributes:
        age: grows whenever the file is closed or given up: what went wrong in an older one says nothing of this.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._inode = 0
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self.age = 0

    # -- life

    def open(self) -> str | None:
        """Open the file, or begin an empty one.

        Returns:
            Why the file that was there is of no use and was moved aside; None: it goes on, or there was none.

        Raises:
            OSError, sqlite3.Error: the folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        problem = files.problem(self.path, APPLICATION_ID, SCHEMA_VERSION)
        if problem is not None:
            self._put_aside(problem)
        self._connect()
        return problem

    def reset(self, reason: str) -> None:
        """Begin an empty file; the present one is moved aside. Errors as `open`."""
        self._disconnect()
        self._put_aside(reason)
        self._connect()

    def close(self) -> None:
        """Close the file, and seal it: what changes in it until it is opened again will be noticed."""
        with contextlib.suppress(sqlite3.Error):
            self._open_writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._disconnect()
        files.seal(self.path)

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def present(self) -> bool:
        """Whether the file under its name is still the one that is open."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def _put_aside(self, reason: str) -> None:
        kept = files.move_aside(self.path)
        log.warning("readmodel.set_aside", path=str(self.path), reason=reason, kept=str(kept) if kept else None)

    def _connect(self) -> None:
        files.unseal(self.path)
        db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA journal_mode = WAL")
            # A power cut may cost the last transactions, cursor and rows together: they are read again.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                _create(db)
        except BaseException:
            db.close()
            raise
        self._writer = db
        self._inode = self.path.stat().st_ino

    def _disconnect(self) -> None:
        with self._lock:
            # A reader that is out now is closed when it comes back: it belongs to an older file.
            self.age += 1
            idle, self._idle = self._idle, []
        # The writer is the last to go: it takes the write-ahead log with it, which those that only read cannot.
        for db in idle:
            db.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            raise RuntimeError("the read model is not open")
        return self._writer

    # -- write

    def cursor(self, stream: str) -> Cursor:
        """How far *stream* has been read."""
        with _damage_named():
            return cursor_of(self._open_writer, stream)

    def identify(self, stream: str, created: str) -> None:
        """Remember which stream the records come from."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO cursors VALUES (?, 0, ?, '') "
                "ON CONFLICT (stream) DO UPDATE SET created = excluded.created",
                (stream, created),
            )

    def apply(self, stream: str, records: Sequence[Record]) -> int:
        """Bring the tables to what *records* say, given in the order of their sequences; those that are in the tables
        already are passed over.

        Returns:
            The sequence that the tables are true as of.

        Raises:
            ReadModelDamaged: the file is no good; `reset` begins another.
            sqlite3.OperationalError: it cannot be written now (the disk is full); the same call may succeed later.
        """
        sequence = 0
        for start in range(0, len(records), BATCH_RECORDS):
            sequence = self._apply(stream, records[start : start + BATCH_RECORDS])
        return sequence

    def _apply(self, stream: str, records: Sequence[Record]) -> int:
        try:
            return self._project(stream, records)
        except _UNFIT as e:
            if len(records) > 1:
                log.info("readmodel.one_by_one", stream=stream, records=len(records), reason=str(e))
                return max([self._apply(stream, [record]) for record in records])
            record = records[0]
            log.warning("record.unreadable", subject=record.subject, sequence=record.sequence, reason=str(e)[:500])
            return self._advance(stream, record)

    def _project(self, stream: str, records: Sequence[Record]) -> int:
        with self._transaction() as db:
            done = cursor_of(db, stream).sequence
            new = [record for record in records if record.sequence > done]
            if not new:
                return done
            _PROJECTIONS[stream](db, new)
            return _move_cursor(db, stream, new[-1])

    def _advance(self, stream: str, record: Record) -> int:
        with self._transaction() as db:
            return _move_cursor(db, stream, record)

    def index(self) -> None:
        """Make what lists need to be quick; until then they are only right. Called once all streams are read."""
        with self._transaction() as db:
            for statement in filter(str.strip, INDEXES.split(";")):
                db.execute(statement)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._open_writer
        with _damage_named():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    # -- read, from any thread

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads one state of all tables for as long as the context lasts.

        Raises:
            ReadModelDamaged: the file is no good.
        """
        with self._lock:
            age = self.age
            db = self._idle.pop() if self._idle else None
        with _damage_named():
            db = db or _open_reader(self.path)
            try:
                db.execute("BEGIN")
                yield db
            finally:
                self._give_back(db, age)

    def _give_back(self, db: sqlite3.Connection, age: int) -> None:
        try:
            db.rollback()
        except sqlite3.Error:
            db.close()
            return
        with self._lock:
            if age == self.age and self._writer is not None:
                self._idle.append(db)
                return
        db.close()


def cursor_of(db: sqlite3.Connection, stream: str) -> Cursor:
    """How far *stream* has been read, as of the connection's snapshot."""
    found = db.execute("SELECT sequence, created, time FROM cursors WHERE stream = ?", (stream,)).fetchone()
    return Cursor(*found) if found else Cursor()


def _move_cursor(db: sqlite3.Connection, stream: str, record: Record) -> int:
    db.execute(
        "INSERT INTO cursors VALUES (?, ?, '', ?) "
        "ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence, time = excluded.time",
        (stream, record.sequence, stamp(record.time)),
    )
    return record.sequence


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in filter(str.strip, TABLES.split(";")):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def _open_reader(path: Path) -> sqlite3.Connection:
    # A connection is used by one thread at a time, not always the same one.
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    db.row_factory = sqlite3.Row
    db.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return db


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    """Tell a file that is no good from a record that does not fit and from a disk that is busy."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as e:
        if getattr(e, "sqlite_errorcode", 0) & 0xFF in _OTHERS_FAULT:
            raise
        raise ReadModelDamaged(f"the read model cannot be read: {e}") from e
