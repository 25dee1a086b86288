"""The store of one node: what its daemons call. All methods block; a daemon calls them in threads."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.payloads import Checks, ManifestEnvelope
from fleetcast.events.state import InstalledVersion, SlotState
from fleetcast.transport.checks import detect_format
from fleetcast.transport.errors import NotInstalled, NotKept, PathRefused, VersionHeld
from fleetcast.transport.hashing import sha256_stream
from fleetcast.transport.metainfo import piece_length
from fleetcast.transport.store import layout
from fleetcast.transport.store.archive import Archive
from fleetcast.transport.store.blobs import Blobs, Mismatch
from fleetcast.transport.store.bundle import PublishedFolder, published_folder
from fleetcast.transport.store.collection import Collected, Sweep
from fleetcast.transport.store.folder import Folder, store_errors
from fleetcast.transport.store.hooknotes import HookNotes
from fleetcast.transport.store.intake import published
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.pointers import Activation, Pointers, loadable
from fleetcast.transport.store.quarantine import Quarantine
from fleetcast.transport.store.readers import Readers
from fleetcast.transport.store.records import AppliedSlot, ArtifactRecord, ArtifactRecords
from fleetcast.transport.store.repair import Repair
from fleetcast.transport.store.retention import Expendable, Judgement, LineView, Pins, expendable, judge
from fleetcast.transport.store.room import Hold, Room, unwritten
from fleetcast.transport.store.versions import Versions, line_of


@dataclass(frozen=True, slots=True)
class Ingested:
    """A published file or folder in the store.

    Attributes:
        content: what it is.
        layers: by path, the nodes of the pieces (BEP 52), 32 bytes each.
        piece_length: bytes of a piece.
        left_out: names of a folder that do not belong to the bundle.
    """

    content: Content
    layers: Mapping[str, bytes]
    piece_length: int
    left_out: tuple[str, ...] = ()


class Store:
    """Content, versions and pointers below one data folder, which belongs to one process at a time.

    Every method may raise `StoreError` (`StoreFull` when there is no space, `PathRefused` when a name in the way is no
    plain file or folder); after any of them, and after a crash in any of them, every name that readers use still
    holds what it held before, or what it should hold now.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._data = settings.data
        self._blobs = Blobs(self._data)
        self._versions = self._make_versions()
        self._pointers = self._make_pointers()
        self._room = Room(self._data, settings.reserve_bytes)
        self._records = ArtifactRecords(self._data)
        self._quarantine = Quarantine(self._data, settings.quarantine_bytes)
        self._readers = Readers(self._data)
        self._repair = Repair(self._blobs, self._versions, self._quarantine, self._records)
        # Held while names change; hashing and copying run outside of it.
        self._changing = threading.RLock()
        self.hooks = HookNotes(self._data)
        self.archive = Archive(self._data, self._blobs, self._changing)
        """Versions that left the nodes for the archive, where this node keeps it."""

    def _make_versions(self) -> Versions:
        return Versions(self._data, self._blobs)

    def _make_pointers(self) -> Pointers:
        return Pointers(self._data, self._versions, self._settings.essential_name)

    # -- where things are

    def blob(self, sha256: str) -> Path:
        """Where the file with this digest lies, if it is in the store."""
        return layout.absolute(self._data, layout.blob(sha256))

    def swarm_folder(self, artifact: str) -> Path:
        """The save path of a torrent; its files lie in a folder named by the short form of the artifact."""
        return layout.absolute(self._data, layout.swarm(artifact))

    @property
    def staging(self) -> Path:
        """Where transports may keep what is of no use after their end; emptied by `reconcile`."""
        return layout.absolute(self._data, layout.STAGING)

    def line_folder(self, kind: Kind, name: str) -> Path:
        return layout.absolute(self._data, layout.line(kind, name))

    def version_folder(self, kind: Kind, name: str, version: str) -> Path:
        return layout.absolute(self._data, layout.version(kind, name, version))

    def find(self, sha256: str) -> Path | None:
        """The blob with this digest; None when it is not in the store."""
        return self.blob(sha256) if self._blobs.stat(sha256) is not None else None

    def content_of(self, artifact: str) -> Content | None:
        """What an artifact on this node is made of; None when there is no record of it."""
        try:
            return self.read_record(artifact).content
        except NotKept:
            return None

    # -- content in

    def ingest(self, path: str | Path, *, kind: Kind, format: Format | None = None) -> Ingested:  # noqa: A002
        """Take a file from a publish root into the store; one read computes both digests of what is kept.

        Args:
            format: how it is proven loadable; None: by suffix and first bytes.

        Raises:
            ContentRefused: it may not be published, cannot be, or changed while it was read.
            StoreFull: there is no space.
        """
        with published(path, self._settings) as opened, store_errors(f"cannot take {opened.path}"):
            name = opened.name
            size = opened.before.st_size
            length = piece_length(size)
            with self._room.hold(f"{opened.path}", lambda: 0 if opened.handover else size):
                digest, replaced = self._blobs.take(opened, length)
            file = ContentFile(path=name, size=digest.size, sha256=digest.sha256, pieces_root=digest.pieces_root)
            known = format or detect_format(self.blob(digest.sha256), name=name)
            content = Content(kind=kind, format=known, files=(file,))
            self._blobs.link_swarm(content.artifact, content)
            if replaced:
                self._mend(content)
        return Ingested(content, {name: digest.layer}, length)

    def ingest_folder(self, path: str | Path, *, judge: Callable[[PublishedFolder], None] = lambda _: None) -> Ingested:
        """Take a folder from a publish root into the store, as a bundle of one moment.

        Args:
            judge: looks at the folder before any of it is copied, and may refuse it.

        Raises:
            ContentRefused: it or a file below it may not be published, or changed while it was read.
            StoreFull: there is no space.
        """
        with published_folder(path, self._settings) as folder, store_errors(f"cannot take {folder.path}"):
            judge(folder)
            length = piece_length(folder.size)
            with self._room.hold(f"{folder.path}", lambda: 0 if folder.handover else folder.size):
                taken = {name: self._take_part(folder, name, length) for name in folder.files}
            folder.check_still_same()
            files = tuple(file for file, _layer, _replaced in taken.values())
            content = Content(kind=Kind.BUNDLE, format=Format.MIXED, files=files)
            self._blobs.link_swarm(content.artifact, content)
            if any(replaced for _file, _layer, replaced in taken.values()):
                self._mend(content)
        layers = {name: layer for name, (_file, layer, _replaced) in taken.items()}
        return Ingested(content, layers, length, folder.left_out)

    def _take_part(self, folder: PublishedFolder, name: str, length: int) -> tuple[ContentFile, bytes, bool]:
        """Take one file of a bundle; returns it, its layer, and whether it took the place of a damaged blob."""
        with folder.file(name, self._settings) as opened:
            digest, replaced = self._blobs.take(opened, length)
        file = ContentFile(path=name, size=digest.size, sha256=digest.sha256, pieces_root=digest.pieces_root)
        return file, digest.layer, replaced

    def digest(self, path: str | Path) -> str:
        """The SHA-256 of a file that may be published, which is left where it is.

        Raises:
            ContentRefused: it may not be published, or changed while it was read.
        """
        with published(path, self._settings) as found, open(found.fd, "rb", buffering=0, closefd=False) as file:
            digest = sha256_stream(file)
            found.check_still_same()
        return digest

    def parts(self, content: Content) -> dict[str, Path]:
        """Where the files of content lie with their own names, beside each other, once `link_swarm` or a transfer has
        put them there: what reads one file and finds another by its name has to look here."""
        home = layout.absolute(self._data, layout.swarm_files(content.artifact))
        return {file.path: home / file.path for file in content.files}

    def has(self, content: Content) -> bool:
        """Whether every file is in the store."""
        return all(self._blobs.holds(f) for f in content.files)

    def reserve(self, content: Content) -> Hold:
        """Promise the content the room that it still needs, until the hold is released.

        Raises:
            StoreFull: it does not fit beside what others were promised, with `reserve_bytes` left free.
        """
        return self._room.hold(f"artifact {content.artifact[:16]}", lambda: self._missing(content))

    def room_for(self, content: Content) -> int:
        """Bytes that have to be free before `reserve` can promise anything to this content."""
        return self._room.needed_bytes(self._missing(content))

    def admit(self, content: Content) -> None:
        """Let the files of the swarm folder, every piece of which was proven, be part of the store.

        Versions that lost one of these files to quarantine get it back.

        Raises:
            VerificationFailed: a file is missing or has another size.
        """
        with self._changing, store_errors(f"cannot admit artifact {content.artifact[:16]}"):
            self._blobs.admit(content.artifact, content)
            self._mend(content)

    def link_swarm(self, content: Content) -> Path:
        """Let the swarm folder hold the files of the store, to be served; returns the save path.

        Raises:
            NotKept: a file is not in the store.
        """
        with self._changing, store_errors(f"cannot offer artifact {content.artifact[:16]}"):
            self._blobs.link_swarm(content.artifact, content)
        return self.swarm_folder(content.artifact)

    # -- records of artifacts

    def write_record(self, content: Content, metainfo: bytes, envelope: ManifestEnvelope) -> None:
        """Keep what a restart needs to seed the artifact again."""
        with store_errors(f"cannot note artifact {content.artifact[:16]}"):
            self._records.write(ArtifactRecord(content, metainfo, envelope))

    def read_record(self, artifact: str) -> ArtifactRecord:
        """Return the record of an artifact.

        Raises:
            NotKept: there is none.
        """
        with store_errors(f"cannot read the record of artifact {artifact[:16]}"):
            return self._records.read(artifact)

    def records(self) -> list[ArtifactRecord]:
        """Every record that can be read."""
        with store_errors("cannot read the records of artifacts"):
            return self._records.all()

    # -- versions and pointers

    def install(
        self,
        content: Content,
        name: str,
        version: str,
        checks: Checks,
        transport: str,
        seconds: float,
        envelope: ManifestEnvelope | None = None,
    ) -> InstalledVersion:
        """Make content of the store visible as a version of a model or lane; may be repeated.

        Raises:
            VersionHeld: the version is installed with other content.
            NotKept: a file is not in the store.
        """
        with self._changing, store_errors(f"cannot install {name}@{version}"):
            line = line_of(content, name)
            return self._versions.install(line, version, content, checks, transport, seconds, envelope)

    def manifest(self, name: str, version: str, kind: Kind = Kind.MODEL) -> ManifestEnvelope:
        """The manifest by which an installed version came; before this was kept, the newest one of its artifact.

        Raises:
            NotInstalled: there is no such version.
            NotKept: it is not known any more.
        """
        with store_errors(f"cannot look at {name}@{version}"):
            record = self._versions.record(_line(kind, name), version)
        if record is None:
            raise NotInstalled(f"{name}@{version} is not installed on this node")
        return record.envelope or self.read_record(record.installed.artifact).envelope

    def confirm(self, content: Content, name: str, version: str) -> InstalledVersion:
        """Note that the flat SHA-256 of an installed version was proven as well.

        Raises:
            NotInstalled: there is no such version.
        """
        with self._changing, store_errors(f"cannot note {name}@{version}"):
            return self._versions.confirm(line_of(content, name), version)

    def lines(self) -> list[tuple[Kind, str]]:
        """The models and lanes that have a folder here."""
        with store_errors("cannot list the models"):
            return [(line.kind, line.name) for line in self._versions.lines()]

    def installed(self, name: str, kind: Kind = Kind.MODEL) -> list[InstalledVersion]:
        """The complete versions of a model or lane."""
        with store_errors(f"cannot list the versions of {name}"):
            return self._versions.installed(_line(kind, name))

    def is_untouched(self, name: str, version: str, kind: Kind = Kind.MODEL) -> bool:
        """Whether the files of an installed version look as they did when their bytes were proven last."""
        with store_errors(f"cannot look at {name}@{version}"):
            return self._versions.is_untouched(_line(kind, name), version)

    def prove(self, name: str, version: str, kind: Kind = Kind.MODEL) -> list[Mismatch]:
        """Read an installed version and compare every SHA-256; what is right is noted as proven now.

        Raises:
            NotInstalled: there is no such version.
        """
        with store_errors(f"cannot prove {name}@{version}"):
            return self._versions.prove(_line(kind, name), version)

    def loadable(self, model: str, version: str) -> Path:
        """What loads of an installed version of a model: its file, or its folder.

        Raises:
            NotInstalled: there is no such version.
        """
        line = _line(Kind.MODEL, model)
        with store_errors(f"cannot look at {model}@{version}"):
            record = self._versions.record(line, version)
        if record is None:
            raise NotInstalled(f"{model}@{version} is not installed on this node")
        return layout.absolute(self._data, line.names) / loadable(record)

    def activate(self, slot: SlotState, *, on_canary: bool = False, drained: bool = False) -> Activation:
        """Move the pointers of a model or lane to what a slot order says; may be repeated, and then shows what has come
        here meanwhile.

        Args:
            on_canary: whether `current` follows the canary here, once it is installed.
            drained: whether this node is out of service.

        Raises:
            StaleGeneration: the order in force is newer, or contradicts this one.
            NotInstalled: what it puts into production is not installed here.
        """
        with self._changing, store_errors(f"cannot activate {slot.model}, generation {slot.generation}"):
            return self._pointers.activate(slot, on_canary=on_canary, drained=drained)

    def applied(self, name: str, kind: Kind = Kind.MODEL) -> SlotState | None:
        """The slot order in force; None before the first one."""
        with store_errors(f"cannot read the slot order of {name}"):
            applied = self._pointers.applied(_line(kind, name))
        return applied.slot if applied else None

    def pointers(self, name: str, kind: Kind = Kind.MODEL) -> AppliedSlot | None:
        """The slot order in force, and how far it could be obeyed; None before the first one."""
        with store_errors(f"cannot read the slot order of {name}"):
            return self._pointers.applied(_line(kind, name))

    def reconcile(self) -> list[Path]:
        """Clean up after a crash: remove what was half made, finish an activation, take away what is not proven.

        Returns:
            Slot orders that could not be read and were set aside, as cases in quarantine; the line takes its order from
            the bus again.
        """
        set_aside = []
        with self._changing, store_errors("cannot clean up the store"):
            with Folder.open(self._data, layout.STAGING, create=True) as staging:
                for name in staging.names():
                    staging.remove_tree(name, point="reconcile.unstage")
            for line in self._versions.lines():
                self._repair.adopt_or_expel(line)
                set_aside += [self._set_aside(line, name) for name in self._pointers.damaged(line)]
                self._pointers.complete(line)
        return set_aside

    # -- proving again, and repair

    def verify(self, content: Content, folder: Path | None = None) -> list[Mismatch]:
        """Read content again and compare its SHA-256.

        Args:
            folder: a version's folder; None: the files of the store.
        """
        with store_errors(f"cannot verify artifact {content.artifact[:16]}"):
            if folder is None:
                return self._blobs.verify(content.files)
            kind, name, version = layout.version_of(self._data, folder)
            return self._versions.verify(Line(kind, name), version, content)

    def withdraw(self, content: Content, paths: Iterable[str], *, source: str | None = None) -> list[Path]:
        """Take damaged files away from every reader; returns where they lie in quarantine.

        A file of the store that is damaged goes to quarantine, and every name that held it disappears until `admit`
        brings the right bytes back. Where only a version's own name was damaged, the file of the store takes its place.
        """
        with self._changing, store_errors(f"cannot withdraw files of artifact {content.artifact[:16]}"):
            return self._repair.withdraw(content, paths, source)

    def quarantine(self, path: Path, reason: str, *, source: str | None = None) -> Path:
        """Move one file of the data folder out of its readers' way; returns the folder of the case.

        Raises:
            PathRefused: the path does not lie below the data folder.
        """
        if not path.is_relative_to(self._data):
            raise PathRefused(f"{path} does not lie below {self._data}")
        *names, name = path.relative_to(self._data).parts
        with store_errors(f"cannot move {path} to quarantine"), Folder.open(self._data, tuple(names)) as folder:
            return self._quarantine.take(folder, name, reason, source=source)

    # -- room

    def free_bytes(self) -> int:
        """Bytes that this process may still write below the data folder."""
        return self._room.free_bytes()

    def expendable(self, pins: Pins = Pins()) -> list[Expendable]:  # noqa: B008 - frozen
        """The versions that `collect` would remove, the oldest first."""
        with store_errors("cannot list what may be removed"):
            views = map(self._view, self._versions.lines())
            return expendable(views, self._settings.keep_versions, self._readers.over(pins))

    def judge(self, pins: Pins = Pins()) -> list[Judgement]:  # noqa: B008 - frozen
        """Every version here, and why it stays."""
        with store_errors("cannot list what is kept"):
            views = map(self._view, self._versions.lines())
            return judge(views, self._settings.keep_versions, self._readers.over(pins))

    def foresee(self, pins: Pins = Pins()) -> Collected:  # noqa: B008 - frozen
        """What `collect` would remove now, and remove nothing."""
        sweep = self._sweep(pins)
        with self._changing, store_errors("cannot look at what may be removed"):
            return sweep.foreseen([(item.line, item.version.version) for item in self.expendable(pins)])

    def collect(self, pins: Pins = Pins(), *, until_free_bytes: int | None = None) -> Collected:  # noqa: B008 - frozen
        """Remove versions that nothing pins, then artifacts and files that nothing names.

        Args:
            pins: what the caller still needs, transfers under way included.
            until_free_bytes: stop as soon as so much is free; None: remove all that may go.
        """
        sweep = self._sweep(pins)
        with self._changing, store_errors("cannot collect"):
            sweep.orphans()
            for item in self.expendable(pins):
                if until_free_bytes is not None and self.free_bytes() >= until_free_bytes:
                    break
                with self._readers.unless_read(item.line, item.version.version) as free:
                    if free:
                        sweep.version(item.line, item.version.version)
        return sweep.collected

    def retire(self, folder: str, pins: Pins = Pins()) -> Collected:  # noqa: B008 - frozen
        """Remove a version whose bytes the archive keeps in *folder*, as `collect` would; may be repeated.

        Raises:
            NotKept: the archive does not list it.
            VersionHeld: something here needs it.
        """
        item = self.archive.item(folder)
        if item is None:
            raise NotKept(f"the archive of this node does not list {folder}")
        line, sweep = Line(Kind.MODEL, item.model), self._sweep(pins)
        with self._changing, store_errors(f"cannot retire {item.model}@{item.version}"):
            judged = judge([self._view(line)], self._settings.keep_versions, self._readers.over(pins))
            held = [j for j in judged if j.version.version == item.version]
            if held and held[0].reasons:
                raise VersionHeld(f"{item.model}@{item.version} stays: {', '.join(held[0].reasons)}")
            if held:
                sweep.version(line, item.version)
            if item.artifact not in pins.artifacts:
                sweep.content(item.content)
        return sweep.collected

    # -- inside

    def _sweep(self, pins: Pins) -> Sweep:
        return Sweep(self._data, self._versions, self._records, self.archive, pins, self._settings.orphan_seconds)

    def _mend(self, content: Content) -> None:
        with self._changing:
            self._versions.mend_all(content.files)

    def _missing(self, content: Content) -> int:
        """Bytes that a transfer of this content will still take from the disk."""
        folder = layout.absolute(self._data, layout.swarm_files(content.artifact))
        return unwritten((folder / f.path, f.size) for f in content.files if not self._blobs.holds(f))

    def _set_aside(self, line: Line, name: str) -> Path:
        with Folder.open(self._data, line.names) as folder:
            return self._quarantine.take(folder, name, f"the slot order of {line.name} cannot be read")

    def _view(self, line: Line) -> LineView:
        applied: AppliedSlot | None = self._pointers.applied(line)
        installed = tuple(r.installed for r in self._versions.records(line))
        if applied is None:
            return LineView(line, installed)
        return LineView(line, installed, applied.slot, applied.served)


def _line(kind: Kind, name: str) -> Line:
    return Line(Kind.DATASET if kind is Kind.DATASET else Kind.MODEL, name)
