"""What a node notes about the hooks of its models, beside the slot order in force."""

from pathlib import Path

from fleetcast.events.content import Kind
from fleetcast.transport.store import layout
from fleetcast.transport.store.folder import Folder, store_errors
from fleetcast.transport.store.layout import Line


class HookNotes:
    """`<data>/models/<model>/.hook.json`."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def read(self, model: str) -> bytes | None:
        """The note; None: there is none, or it cannot be read, which is as if nobody had been told."""
        try:
            with Folder.open(self._data, Line(Kind.MODEL, model).names) as folder:
                return folder.read(layout.HOOK) if folder.is_file(layout.HOOK) else None
        except OSError:
            return None

    def write(self, model: str, note: bytes) -> None:
        """Keep a note, durably.

        Raises:
            StoreError: the disk does not take it.
        """
        names = Line(Kind.MODEL, model).names
        with store_errors(f"cannot note the hook of {model}"), Folder.open(self._data, names, create=True) as folder:
            folder.write(layout.HOOK, note, point="hook.note")
