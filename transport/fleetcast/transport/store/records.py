"""Records: small JSON files beside the bytes, each replaced in one step."""

import base64
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from fleetcast.events.content import Content, Value
from fleetcast.events.payloads import ManifestEnvelope
from fleetcast.events.state import InstalledVersion, SlotEntry, SlotState
from fleetcast.transport.errors import NotKept, StoreError
from fleetcast.transport.store import layout
from fleetcast.transport.store.folder import Folder

SlotName = Literal["production", "canary", "previous"]


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """What a node needs to seed an artifact again after a restart."""

    content: Content
    metainfo: bytes
    envelope: ManifestEnvelope


class _StoredArtifact(Value):
    content: Content
    metainfo_b64: str
    envelope: ManifestEnvelope


class Fingerprint(Value):
    """What a file looked like when its bytes were proven last: while this is so, nobody has written to it since."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Fingerprint":
        return cls(size=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


class InstallRecord(Value):
    """An installed version, and what it is made of: enough to prove it again without any other record.

    Attributes:
        proven: fingerprints by path; none: of a record from before they were kept.
        envelope: the manifest by which it came; None: of a record from before it was kept here.
    """

    installed: InstalledVersion
    content: Content
    proven: dict[str, Fingerprint] = {}
    envelope: ManifestEnvelope | None = None


class AppliedSlot(Value):
    """The slot order in force on this node, and how far it could be obeyed.

    Attributes:
        served: versions that were in production here, the newest first.
        on_canary: whether this is a node of the canary, whose `current` follows it once it is here.
        shown: slots of the order whose versions are here, and which the pointers therefore show.
        drained: whether this node is out of service, which `slots.json` says.
    """

    slot: SlotState
    served: tuple[str, ...] = ()
    on_canary: bool = False
    shown: tuple[SlotName, ...] = ()
    drained: bool = False

    @property
    def follows(self) -> Literal["production", "canary"] | None:
        """The slot that `current` follows; None: there is no `current`."""
        if self.on_canary and "canary" in self.shown:
            return "canary"
        # Records from before there was `shown` were written only where production was here.
        return "production" if self.slot.production is not None else None

    @property
    def current(self) -> SlotEntry | None:
        """What `current` points to."""
        return self.slot.canary if self.follows == "canary" else self.slot.production


class ArtifactRecords:
    """`<data>/artifacts/`."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def write(self, record: ArtifactRecord) -> None:
        metainfo_b64 = base64.b64encode(record.metainfo).decode()
        stored = _StoredArtifact(content=record.content, metainfo_b64=metainfo_b64, envelope=record.envelope)
        *names, name = layout.artifact_record(record.content.artifact)
        with Folder.open(self._data, tuple(names), create=True) as folder:
            folder.write(name, stored.model_dump_json().encode(), point="record.write")

    def read(self, artifact: str) -> ArtifactRecord:
        """Return one record.

        Raises:
            NotKept: there is none, or it cannot be read.
        """
        *names, name = layout.artifact_record(artifact)
        try:
            with Folder.open(self._data, tuple(names)) as folder:
                stored = _StoredArtifact.model_validate_json(folder.read(name))
        except (FileNotFoundError, ValidationError) as fault:
            raise NotKept(f"no record of artifact {artifact} on this node") from fault
        return ArtifactRecord(stored.content, base64.b64decode(stored.metainfo_b64), stored.envelope)

    def all(self) -> list[ArtifactRecord]:
        """Every record that can be read."""
        found = []
        for artifact in self.names():
            with contextlib.suppress(NotKept):
                found.append(self.read(artifact))
        return found

    def names(self) -> list[str]:
        """The artifacts that there are records of."""
        try:
            with Folder.open(self._data, layout.ARTIFACTS) as folder:
                return [n.removesuffix(".json") for n in folder.names() if n.endswith(".json")]
        except FileNotFoundError:
            return []

    def remove(self, artifact: str) -> None:
        *names, name = layout.artifact_record(artifact)
        with Folder.open(self._data, tuple(names), create=True) as folder:
            folder.remove(name, point="record.remove")
            folder.sync(point="record.remove_sync")


def read_applied(line: Folder, name: str) -> AppliedSlot | None:
    """The slot order kept in a line's folder under *name*; None when there is none.

    Raises:
        StoreError: there is one, and it cannot be read; guessing would undo a rollback.
    """
    if not line.is_file(name):
        return None
    try:
        return AppliedSlot.model_validate_json(line.read(name))
    except ValidationError as damaged:
        raise StoreError(
            f"{line.path / name} is damaged: {damaged.errors()[0]['msg']}",
            next_step="restart the daemon: it sets the file aside and takes the slot order from the bus again",
        ) from damaged


def read_install(installs: Folder, name: str) -> InstallRecord | None:
    """One install record; None when it is damaged, which makes the version not installed."""
    try:
        return InstallRecord.model_validate_json(installs.read(name))
    except (OSError, ValidationError):
        return None
