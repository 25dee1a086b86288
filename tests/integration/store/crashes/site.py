"""A node's store as the scenarios of the crash rig use it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import ArchiveRule, StageName
from fleetcast.events.payloads import Checks
from fleetcast.events.state import CanaryEntry, Cause, SlotEntry, SlotState
from fleetcast.transport.errors import TransferFailed
from fleetcast.transport.hashing import file_root
from fleetcast.transport.manifest import state
from fleetcast.transport.store import ArchivedItem, Pins, Store
from fleetcast.transport.store.layout import Line

CHECKS = Checks(size="ok", sha256="by pieces root", format="ok")
TRIED = {"1": {"model.bin": 19}, "2": {"model.bin": 20}, "3": {"model.bin": 21}}
"""Versions of the model that has canaries."""
ARCHIVED = {"model.onnx": 22, "model.onnx.data": 23, "words/merges.txt": 24}
"""What is archived and comes back."""


def data_of(seed: int) -> bytes:
    return Random(seed).randbytes(40_000 + seed)


def content_of(files: dict[str, int], kind: Kind) -> Content:
    def one(path: str, data: bytes) -> ContentFile:
        digest = hashlib.sha256(data).hexdigest()
        return ContentFile(path=path, size=len(data), sha256=digest, pieces_root=file_root(data).hex())

    format = Format.MIXED if kind is Kind.BUNDLE else Format.OPAQUE  # noqa: A001 - the word of the glossary
    return Content(kind=kind, format=format, files=tuple(one(p, data_of(s)) for p, s in sorted(files.items())))


@dataclass
class Site:
    """A data folder, the publish root beside it, and a store over it."""

    root: Path
    kind: type[Store] = Store

    def __post_init__(self) -> None:
        self.data = self.root / "data"
        self.published = self.root / "publish"
        self.published.mkdir(parents=True, exist_ok=True)
        handover = self.root / "handover"
        handover.mkdir(exist_ok=True)
        settings = StoreSettings(
            data=self.data,
            publish_roots=(self.published,),
            handover_roots=(handover,),
            reserve_bytes=0,
            quarantine_bytes=90_000,
            keep_versions=2,
            essential_name="{model}-{version}{suffix}",
            orphan_seconds=0,
        )
        self.store = self.kind(settings)

    def promote(
        self, version: str, files: dict[str, int], generation: int, *, handover: bool = False, model: str = "m"
    ) -> None:
        """The origin's way: publish, install, activate."""
        ((name, seed),) = files.items()
        path = (self.root / "handover" if handover else self.published) / name
        if not path.exists() or path.read_bytes() != data_of(seed):
            path.unlink(missing_ok=True)
            path.write_bytes(data_of(seed))
        content = self.store.ingest(path, kind=Kind.MODEL).content
        self._install(content, model, version)
        self.order_version(model, Kind.MODEL, version, content, generation, alone=handover)

    def promote_bundle(self, version: str, files: dict[str, int], generation: int) -> None:
        """The origin's way with a folder."""
        folder = self.published / f"bundle-{version}"
        for path, seed in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data_of(seed))
        content = self.store.ingest_folder(folder).content
        self._install(content, "b", version)
        self.order_version("b", Kind.MODEL, version, content, generation)

    def receive_bundle(self, version: str, files: dict[str, int], generation: int) -> None:
        """The receiver's way with a bundle."""
        content = content_of(files, Kind.BUNDLE)
        self.bring(content, files)
        self.store.admit(content)
        self._install(content, "b", version)
        self.order_version("b", Kind.MODEL, version, content, generation)

    def receive(self, version: str, files: dict[str, int], generation: int) -> None:
        """The receiver's way: bytes in the swarm folder, admit, install, activate."""
        content = content_of(files, Kind.DATASET)
        self.bring(content, files)
        self.store.admit(content)
        self._install(content, "lane", version)
        self.store.link_swarm(content)
        self.order_version("lane", Kind.DATASET, version, content, generation)

    def bring(self, content: Content, files: dict[str, int]) -> None:
        """What a transport does: it writes what is missing."""
        for path, seed in files.items():
            place = self.store.swarm_folder(content.artifact) / content.artifact[:16] / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists() or place.read_bytes() != data_of(seed):
                place.unlink(missing_ok=True)
                try:
                    place.write_bytes(data_of(seed))
                except OSError as fault:
                    raise TransferFailed(str(fault)) from fault

    def hold(self, version: str) -> None:
        """Have a version of the model with canaries here."""
        path = self.published / "model.bin"
        path.unlink(missing_ok=True)
        path.write_bytes(data_of(TRIED[version]["model.bin"]))
        content = self.store.ingest(path, kind=Kind.MODEL).content
        self._install(content, "c", version)

    def order(self, generation: int, production: str, canary: str | None = None, *, here: bool = False) -> None:
        """Obey a slot order of the model with canaries, unless a later one is in force."""
        applied = self.store.applied("c")
        entries = {v: SlotEntry(version=v, artifact=content_of(f, Kind.MODEL).artifact) for v, f in TRIED.items()}
        slot = SlotState(
            model="c",
            generation=generation,
            production=entries[production],
            canary=CanaryEntry(**entries[canary].model_dump(), percent=50, nodes=("n",) if here else ("other",))
            if canary
            else None,
            cause=Cause(event="e", sequence=generation, by="/rig", correlation="e"),
            at="now",
        )
        if applied is None or applied.generation < generation or applied == slot:
            self.store.activate(slot, on_canary=here)

    def have(self, version: str, files: dict[str, int]) -> Content:
        """Have a version of the model with an archive here, the receiver's way."""
        content = content_of(files, Kind.BUNDLE)
        self.bring(content, files)
        self.store.admit(content)
        self._install(content, "a", version)
        return content

    def to_archive(self, month: str) -> None:
        """As an archivist does it: the archive has it, then nothing else."""
        content, folder = content_of(ARCHIVED, Kind.BUNDLE), f"{month}/low_elo/a/1"
        item = ArchivedItem(
            model="a",
            version="1",
            artifact=content.artifact,
            content=content,
            folder=folder,
            stage=StageName.DEVELOPMENT,
            rule=ArchiveRule.LOW_ELO,
            reason="too weak",
            by="/rig",
            at="2026-11-21T10:00:00Z",
            n=1,
        )
        self.store.archive.keep(item)
        self.store.retire(folder, Pins(archived=frozenset({(Line(Kind.MODEL, "a"), "1")})))

    def from_archive(self) -> None:
        """Whatever the archive lists is installed again, and leaves it."""
        for item in self.store.archive.items():
            if not any(v.version == item.version for v in self.store.installed(item.model)):
                if wrong := self.store.archive.prove(item):
                    raise TransferFailed(f"the archive is damaged: {wrong}")
                self.store.archive.give_back(item)
                self._install(item.content, item.model, item.version)
            self.store.archive.forget(item.folder)

    def _install(self, content: Content, name: str, version: str) -> None:
        self.store.write_record(content, b"metainfo", state(content, name, version))
        self.store.install(content, name, version, CHECKS, "local", 0.1)
        self.store.confirm(content, name, version)

    def order_version(
        self, name: str, kind: Kind, version: str, content: Content, generation: int, *, alone: bool = False
    ) -> None:
        applied = self.store.applied(name, kind)
        if applied is None or applied.generation < generation:
            self.store.activate(_slot(name, kind, version, content, generation, None if alone else applied))


def _slot(
    name: str, kind: Kind, version: str, content: Content, generation: int, before: SlotState | None
) -> SlotState:
    return SlotState(
        model=name,
        kind=kind,
        generation=generation,
        production=SlotEntry(version=version, artifact=content.artifact),
        previous=before.production if before else None,
        cause=Cause(event="e", sequence=generation, by="/rig", correlation="e"),
        at="now",
    )
