"""Who reads versions by path while the store knows nothing of it: notes of this node's daemons below `<data>/readers`.

A version that somebody reads stays, whatever retention says. A note that nobody has renewed for a day counts no more:
who wrote it is gone. Notes are written by whoever reads (`daemons/trainer/readers.py`); here they are only read.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from fleetcast.events.content import Kind, Stored
from fleetcast.events.ids import Name, Version
from fleetcast.transport.errors import StoreError
from fleetcast.transport.store import layout
from fleetcast.transport.store.folder import Folder, store_errors
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.retention import Pins

NOTE_SECONDS = 86400.0
"""How long a note counts that nobody renews: a night without a trainer costs no data set."""
PATIENCE_SECONDS = 10.0
"""For somebody who writes a note, or removes a version, at the same moment."""
LOCK, SUFFIX = ".lock", ".json"
_LOOK_SECONDS = 0.02


class ReadVersion(Stored):
    """A version that is read; one of a bundle is that of a model."""

    kind: Kind
    name: Name
    version: Version


class ReaderNote(Stored):
    """That somebody reads versions; `reader`: who, for people."""

    reader: str
    versions: tuple[ReadVersion, ...]


def version_of(read: ReadVersion) -> tuple[Line, str]:
    """A version that is read, as retention names it."""
    return Line(Kind.DATASET if read.kind is Kind.DATASET else Kind.MODEL, read.name), read.version


@contextlib.contextmanager
def settled(data: Path, patience_seconds: float) -> Iterator[None]:
    """While nobody else begins to read versions, or removes one.

    Raises:
        StoreError: somebody has been at it for longer than *patience_seconds*, or the disk does not answer.
    """
    with store_errors("cannot look at who reads"), Folder.open(data, layout.READERS, create=True) as folder:
        lock = os.open(LOCK, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder.fd)
    try:
        _wait_for(lock, data, patience_seconds)
        yield
    finally:
        os.close(lock)


def _wait_for(lock: int, data: Path, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as busy:
            if time.monotonic() >= deadline:
                folder = layout.absolute(data, layout.READERS)
                raise StoreError(f"{folder} has been in use for {patience_seconds:g} s") from busy
        time.sleep(_LOOK_SECONDS)


class Readers:
    """The notes of one node; *patience_seconds*: how long to wait for somebody who begins to read."""

    def __init__(self, data: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._data = data
        self._patience_seconds = patience_seconds

    def read_now(self) -> Mapping[tuple[Line, str], str]:
        """Who reads what, by version.

        Raises:
            StoreError: a note cannot be read: what it says to keep is not known.
        """
        found: dict[tuple[Line, str], str] = {}
        with store_errors("cannot look at who reads"):
            for note in self._notes():
                found |= {version_of(each): note.reader for each in note.versions}
        return found

    def over(self, pins: Pins) -> Pins:
        """Pins with what is read now; all stays where that is not known."""
        try:
            return replace(pins, read=self.read_now())
        except StoreError as unknown:
            return replace(pins, unknown=str(unknown))

    @contextlib.contextmanager
    def unless_read(self, line: Line, version: str) -> Iterator[bool]:
        """Whether nobody reads a version, and nobody begins to inside the block; False also where that is not known."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(settled(self._data, self._patience_seconds))
                free = (line, version) not in self.read_now()
            except StoreError:
                free = False
            yield free

    def _notes(self) -> Iterator[ReaderNote]:
        try:
            folder = Folder.open(self._data, layout.READERS)
        except FileNotFoundError:
            return
        with folder:
            oldest = time.time() - NOTE_SECONDS
            for name in folder.names():
                found = folder.stat(name) if name.endswith(SUFFIX) else None
                if found is not None and found.st_mtime > oldest:
                    yield self._note(folder, name)

    def _note(self, folder: Folder, name: str) -> ReaderNote:
        try:
            return ReaderNote.model_validate_json(folder.read(name))
        except FileNotFoundError:
            return ReaderNote(reader="", versions=())
        except ValidationError as damaged:
            raise StoreError(
                f"{folder.path / name} cannot be read, which says who reads what",
                next_step=f"remove {folder.path / name} once nothing trains on this node",
            ) from damaged
