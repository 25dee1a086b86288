"""The read model's file as a file: whether it can be trusted, its seal, and where it goes when it cannot."""

import contextlib
import hashlib
import sqlite3
from pathlib import Path

_READ_BYTES = 2**20
_COMPANIONS = ("-wal", "-shm")


def problem(path: Path, application_id: int, schema_version: int) -> str | None:
    """Why the file at *path* must not be used; None: it may be, or there is none.

    A sealed file is compared byte for byte with what was closed: SQLite has no checksums, and a version that became
    another one by a flipped bit would be a wrong answer. A file that was never closed is checked for its structure.
    """
    if not path.exists():
        # Left-overs of a file that is gone would be taken for its own.
        return "its file is missing" if any(companion.exists() for companion in _companions(path)) else None
    sealed = _sealed(path)
    try:
        if sealed is not None and sealed != _digest(path):
            return "it is not as it was closed"
        return _looked_into(path, application_id, schema_version, thoroughly=sealed is None)
    except (sqlite3.Error, OSError) as e:
        return f"it cannot be read: {e}"


def _looked_into(path: Path, application_id: int, schema_version: int, *, thoroughly: bool) -> str | None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if db.execute("PRAGMA application_id").fetchone()[0] != application_id or found != schema_version:
            return f"it has layout {found}, this fleetcast makes {schema_version}"
        if thoroughly:
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                return f"it is damaged: {verdict}"
    return None


def seal(path: Path) -> None:
    """Keep the digest of a file that was closed. Without it (the file could not be read) the file is only looked into
    when it is opened again."""
    with contextlib.suppress(OSError):
        if not any(companion.exists() for companion in _companions(path)):
            _seal_of(path).write_text(_digest(path))


def unseal(path: Path) -> None:
    """Forget the digest: the file is about to change."""
    _seal_of(path).unlink(missing_ok=True)


def move_aside(path: Path) -> Path | None:
    """Take the file away, and the one that was taken away before; where it is now, None when there was none.

    One is kept, for whoever wants to know what became of it; more would fill a disk.
    """
    unseal(path)
    aside = path.with_name(f"{path.name}.aside")
    kept = None
    for source, target in zip((path, *_companions(path)), (aside, *_companions(aside)), strict=True):
        target.unlink(missing_ok=True)
        if source.exists():
            source.rename(target)
            kept = aside
    return kept


def _companions(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in _COMPANIONS)


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sealed(path: Path) -> str | None:
    try:
        return _seal_of(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
