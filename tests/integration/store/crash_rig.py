"""The crash rig: kills a store in the middle of its work, opens it again, and looks at every name a reader may open.

A program of its own, so that it forks from a process without threads:
`python crash_rig.py matrix SCENARIO all|before|POINT [broken] [ACTION]` kills (or acts otherwise) at every failpoint;
`python crash_rig.py power SCENARIO POINT,POINT [unsynced]` cuts the power there, on a disk of its own;
`python crash_rig.py run SCENARIO FOLDER [broken]` runs a scenario once, to be killed from outside;
`python crash_rig.py judge SCENARIO FOLDER` opens the store again and says what is wrong with it.
Each prints one line of JSON.
"""

import ast
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import fleetcast.transport.store as package
from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import Content, ContentFile, Format, Kind
from fleetcast.events.lifecycle import ArchiveRule, StageName
from fleetcast.events.payloads import Checks
from fleetcast.events.state import CanaryEntry, Cause, InstalledVersion, SlotEntry, SlotState
from fleetcast.transport import failpoints
from fleetcast.transport.errors import TransferFailed, TransportError
from fleetcast.transport.failpoints import failpoint
from fleetcast.transport.hashing import file_root
from fleetcast.transport.manifest import state
from fleetcast.transport.store import Archive, ArchivedItem, ArchivedManifest, Pins, Store
from fleetcast.transport.store.folder import Folder
from fleetcast.transport.store.layout import Line
from fleetcast.transport.store.pointers import Pointers
from fleetcast.transport.store.slotsfile import SlotsFile
from fleetcast.transport.store.versions import Versions

QUICK_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A kill loses nothing that was written, so that the kind of disk does not matter here; power cuts need a real one."""
SOURCE = Path(package.__file__).parent
DURABLE = frozenset(
    {"sync", "rename", "link", "link_open_file", "remove", "remove_tree", "replace_by_link", "flip", "write"}
)
CHECKS = Checks(size="ok", sha256="by pieces root", format="ok")
OLD, NEW = {"model.bin": 1}, {"model.bin": 2}
LANE_OLD, LANE_NEW = {"a.npz": 3, "deep/b.npz": 4}, {"a.npz": 5, "deep/b.npz": 4}
BUNDLE_OLD = {"model.onnx": 11, "model.onnx.data": 12, "words/merges.txt": 13}
BUNDLE_NEW = {"model.onnx": 14, "model.onnx.data": 15, "words/merges.txt": 13, "words/vocab.json": 16}
BUNDLE_LAST = {"model.onnx": 17, "words/merges.txt": 18}
TRIED = {"1": {"model.bin": 19}, "2": {"model.bin": 20}, "3": {"model.bin": 21}}
"""Versions of the model that has canaries."""
ARCHIVED = {"model.onnx": 22, "model.onnx.data": 23, "words/merges.txt": 24}
MONTHS = ("202611", "202612")


# -- failpoints in the source


def points() -> set[str]:
    """The failpoints that the source of the store declares, without `.before` and `.after`."""
    return {point for path in sorted(SOURCE.glob("*.py")) for point in _points_of(ast.parse(path.read_text()))}


def _points_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "point" and isinstance(keyword.value, ast.Constant):
                    yield str(keyword.value.value)


# -- scenarios


def data_of(seed: int) -> bytes:
    return Random(seed).randbytes(40_000 + seed)


def content_of(files: dict[str, int], kind: Kind) -> Content:
    def one(path: str, data: bytes) -> ContentFile:
        digest = hashlib.sha256(data).hexdigest()
        return ContentFile(path=path, size=len(data), sha256=digest, pieces_root=file_root(data).hex())

    format = Format.MIXED if kind is Kind.BUNDLE else Format.OPAQUE  # noqa: A001 - the word of the glossary
    return Content(kind=kind, format=format, files=tuple(one(p, data_of(s)) for p, s in sorted(files.items())))


class CarelessVersions(Versions):
    """The broken variant: writes into the version folder itself, as most download scripts do."""

    def _publish(self, line: Line, version: str, content: Content) -> None:
        home = self._data.joinpath(*line.names, version)
        for file in content.files:
            place = home / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            data = self._data.joinpath("store", "sha256", file.sha256[:2], file.sha256).read_bytes()
            with place.open("wb", buffering=0) as target:
                target.write(data[: len(data) // 2])
                failpoint("careless.middle")
                target.write(data[len(data) // 2 :])
        self.mend(line, version, content)


class CarelessStore(Store):
    def _make_versions(self) -> Versions:
        return CarelessVersions(self._data, self._blobs)


class MixingVersions(Versions):
    """The broken variant of bundles: puts files where the version's name leads, whatever lies there already."""

    def _publish(self, line: Line, version: str, content: Content) -> None:
        self.mend(line, version, content)


class MixingStore(Store):
    def _make_versions(self) -> Versions:
        return MixingVersions(self._data, self._blobs)


class HastyFolder(Folder):
    """Replaces names by removing them first, and writes into files that are being read."""

    def flip(self, name: str, target: str, *, point: str) -> None:
        if self.stat(name) is not None:
            os.unlink(name, dir_fd=self.fd)
            failpoint("hasty.pointer")
        os.symlink(target, name, dir_fd=self.fd)

    def write(self, name: str, data: bytes, *, point: str) -> None:
        with (self.path / name).open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            failpoint("hasty.slots")
            file.write(data[len(data) // 2 :])


class HastyPointers(Pointers):
    """The broken variant of canaries: pointers and `slots.json` as most deployment scripts move them."""

    def _flip(self, folder: Folder, aim: Any) -> None:
        super()._flip(HastyFolder(folder.fd, folder.path, self._data), aim)


class HastyStore(Store):
    def _make_pointers(self) -> Pointers:
        return HastyPointers(self._data, self._versions, self._settings.essential_name)


class MovingArchive(Archive):
    """The broken variant of archives: moves the files of a version there, and lists them afterwards."""

    def keep(self, item: ArchivedItem) -> None:
        place = self._data / "archive" / item.folder
        for file in item.content.files:
            there, here = place / file.path, self._data / "models" / item.model / item.version / file.path
            there.parent.mkdir(parents=True, exist_ok=True)
            if here.exists():
                here.replace(there)
            failpoint("moving.middle")
        super().keep(item)


class MovingStore(Store):
    def __init__(self, settings: StoreSettings) -> None:
        super().__init__(settings)
        self.archive = MovingArchive(self._data, self._blobs, self._changing)


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
        self._order(model, Kind.MODEL, version, content, generation, alone=handover)

    def promote_bundle(self, version: str, files: dict[str, int], generation: int) -> None:
        """The origin's way with a folder."""
        folder = self.published / f"bundle-{version}"
        for path, seed in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data_of(seed))
        content = self.store.ingest_folder(folder).content
        self._install(content, "b", version)
        self._order("b", Kind.MODEL, version, content, generation)

    def receive_bundle(self, version: str, files: dict[str, int], generation: int) -> None:
        """The receiver's way with a bundle."""
        content = content_of(files, Kind.BUNDLE)
        self.bring(content, files)
        self.store.admit(content)
        self._install(content, "b", version)
        self._order("b", Kind.MODEL, version, content, generation)

    def receive(self, version: str, files: dict[str, int], generation: int) -> None:
        """The receiver's way: bytes in the swarm folder, admit, install, activate."""
        content = content_of(files, Kind.DATASET)
        self.bring(content, files)
        self.store.admit(content)
        self._install(content, "lane", version)
        self.store.link_swarm(content)
        self._order("lane", Kind.DATASET, version, content, generation)

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

    def _order(
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


def prepare_promote(site: Site) -> None:
    site.promote("1", OLD, 1)
    site.receive("1", LANE_OLD, 1)


def run_promote(site: Site) -> None:
    """A new version over an old one, both ways, then a third one handed over, then what is not kept any more goes."""
    site.promote("2", NEW, 2)
    site.receive("2", LANE_NEW, 2)
    site.promote("3", {"model.bin": 6}, 3, handover=True)
    site.store.collect()


def prepare_repair(site: Site) -> None:
    site.promote("1", OLD, 1)
    site.receive("1", LANE_OLD, 1)
    damage(site.store.version_folder(Kind.DATASET, "lane", "1") / "deep" / "b.npz")
    site.promote("1", {"model.bin": 10}, 1, model="n")
    damage(site.store.version_folder(Kind.MODEL, "n", "1") / "model.bin")
    for copied in (site.store.version_folder(Kind.MODEL, "m", "1") / "model.bin", swarm_file(site, OLD, Kind.MODEL)):
        copied.unlink()
        copied.write_bytes(b"somebody's own copy")
    (site.data / "models" / "m" / ".installs" / "1.json").unlink()
    stray(site)


def swarm_file(site: Site, files: dict[str, int], kind: Kind) -> Path:
    content = content_of(files, kind)
    return site.store.swarm_folder(content.artifact) / content.artifact[:16] / next(iter(files))


def stray(site: Site) -> None:
    """Old quarantine, and bytes that a crash took the blob away from."""
    for seed in (7, 8, 9):
        place = site.data / f"stray-{seed}"
        place.write_bytes(data_of(seed) * (1 + 9 * (seed == 8)))


def run_repair(site: Site) -> None:
    """Damage in the store, published again and fetched again, and at a version's own name; bytes for quarantine."""
    for seed in (7, 8, 9):
        if (site.data / f"stray-{seed}").exists():
            site.store.quarantine(site.data / f"stray-{seed}", "left over")
    site.promote("1", {"model.bin": 10}, 1, model="n")
    lane, model = content_of(LANE_OLD, Kind.DATASET), content_of(OLD, Kind.MODEL)
    for content, name in ((lane, "lane"), (model, "m")):
        home = site.store.version_folder(content.kind, name, "1")
        site.store.withdraw(content, [m.path for m in site.store.verify(content, home)], source="node-b")
        if not site.store.has(content):
            site.bring(content, LANE_OLD)
            site.store.admit(content)
        site.store.install(content, name, "1", CHECKS, "local", 0.1)
        site.store.link_swarm(content)


def prepare_reopen(site: Site) -> None:
    """What a crash in an activation leaves, with staging full, a blob gone and another version damaged."""
    site.promote("1", OLD, 1)
    site.receive("1", LANE_OLD, 1)
    site.promote("2", NEW, 2)
    line = site.data / "models" / "m"
    (line / ".slot.json").rename(line / ".slot.json.next")
    (line / "current").unlink()
    (line / "current").symlink_to("1")
    other = site.data / "datasets" / "lane"
    intended = json.loads((other / ".slot.json").read_text())
    intended["slot"] |= {"generation": 2, "production": {"version": "2", "artifact": "0" * 64}}
    (other / ".slot.json.next").write_text(json.dumps(intended))
    torn = site.data / "models" / "torn"
    torn.mkdir()
    (torn / ".slot.json").write_text('{"slot":')
    half = site.data / "staging" / "half"
    (half / "made").mkdir(parents=True)
    (half / "made" / "file").write_bytes(b"half")
    site.store.blob(content_of(NEW, Kind.MODEL).files[0].sha256).unlink()
    lost = content_of(LANE_OLD, Kind.DATASET).files[1]
    site.store.blob(lost.sha256).unlink()
    damage(site.data / "datasets" / "lane" / "1" / "deep" / "b.npz")


def run_reopen(site: Site) -> None:
    site.store.reconcile()
    site.store.reconcile()
    site.receive("1", LANE_OLD, 1)


def prepare_bundle(site: Site) -> None:
    """A bundle in production; the next one's name is taken by files that no content has."""
    site.promote_bundle("1", BUNDLE_OLD, 1)
    left = site.data / "models" / "b" / "2"
    (left / "words").mkdir(parents=True)
    for name in ("stale.bin", "words/stale.bin"):
        (left / name).write_bytes(b"left by somebody")


def run_bundle(site: Site) -> None:
    """A bundle over another one, published here, then one that was fetched, then what is not kept any more goes."""
    site.promote_bundle("2", BUNDLE_NEW, 2)
    site.receive_bundle("3", BUNDLE_LAST, 3)
    site.store.collect()


def prepare_canary(site: Site) -> None:
    site.hold("1")
    site.order(1, "1")


def run_canary(site: Site) -> None:
    """A canary elsewhere, then here, then in production; then one that is ordered before it comes, and is given up."""
    site.hold("2")
    site.order(2, "1", "2")
    site.order(3, "1", "2", here=True)
    site.order(4, "2")
    site.order(5, "2", "3", here=True)
    site.hold("3")
    site.order(5, "2", "3", here=True)
    site.order(6, "2")


def prepare_archive(site: Site) -> None:
    """Two versions, one in production; something was left where the other one is to be archived."""
    content = site.have("2", {"model.onnx": 25})
    site._order("a", Kind.MODEL, "2", content, 1)
    site.have("1", ARCHIVED)
    left = site.data / "archive" / MONTHS[0] / "low_elo" / "a" / "1"
    left.mkdir(parents=True)
    (left / "half.bin").write_bytes(b"left by a crash")


def run_archive(site: Site) -> None:
    """A version leaves for the archive, comes back, and leaves again."""
    for month in MONTHS:
        site.from_archive()
        site.to_archive(month)


def damage(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)


@dataclass(frozen=True)
class Scenario:
    prepare: Callable[[Site], None]
    run: Callable[[Site], None]
    current: dict[str, set[str]]
    final: dict[str, str]
    archived: bool = False
    """Whether version 1 of the model with an archive must be installed or archived at any time."""
    damaged: frozenset[str] = frozenset()
    """Names that hold wrong bytes when the scenario begins."""


SCENARIOS = {
    "promote": Scenario(
        prepare_promote,
        run_promote,
        {"models/m": {"1", "2", "3"}, "datasets/lane": {"1", "2"}},
        {"models/m": "3", "datasets/lane": "2"},
    ),
    "repair": Scenario(
        prepare_repair,
        run_repair,
        {"models/m": {"1"}, "datasets/lane": {"1"}},
        {"models/m": "1", "datasets/lane": "1"},
        damaged=frozenset({"datasets/lane/1/deep/b.npz", "models/m/1/model.bin", "models/n/1/model.bin"}),
    ),
    "bundle": Scenario(
        prepare_bundle,
        run_bundle,
        {"models/b": {"1", "2", "3"}},
        {"models/b": "3"},
        damaged=frozenset({"models/b/2/stale.bin", "models/b/2/words/stale.bin"}),
    ),
    "archive": Scenario(prepare_archive, run_archive, {"models/a": {"2"}}, {"models/a": "2"}, archived=True),
    "canary": Scenario(prepare_canary, run_canary, {"models/c": {"1", "2", "3"}}, {"models/c": "2"}),
    "reopen": Scenario(
        prepare_reopen,
        run_reopen,
        {"models/m": {"1", "2"}, "datasets/lane": {"1"}},
        {"models/m": "2", "datasets/lane": "1"},
        damaged=frozenset({"datasets/lane/1/deep/b.npz"}),
    ),
}
RIGHT = {
    "models/m/1": OLD,
    "models/m/2": NEW,
    "models/m/3": {"model.bin": 6},
    "models/n/1": {"model.bin": 10},
    "datasets/lane/1": LANE_OLD,
    "datasets/lane/2": LANE_NEW,
    "models/b/1": BUNDLE_OLD,
    "models/b/2": BUNDLE_NEW,
    "models/b/3": BUNDLE_LAST,
    "models/a/1": ARCHIVED,
    "models/a/2": {"model.onnx": 25},
    **{f"models/c/{version}": files for version, files in TRIED.items()},
}


# -- the judge


def judge(scenario: Scenario, root: Path, kind: type[Store] = Store) -> list[str]:
    """What is wrong: now, after the store was opened again, and after the scenario was run a second time."""
    wrong = [f"after the kill: {w}" for w in looks(scenario, root, scenario.damaged)]
    site = Site(root, kind)
    try:
        site.store.reconcile()
        wrong += [f"after reopening: {w}" for w in looks(scenario, root, scenario.damaged)]
        scenario.run(site)
    except TransportError as fault:
        return [*wrong, f"cannot go on: {type(fault).__name__}: {fault}"]
    wrong += [f"after the second run: {w}" for w in looks(scenario, root, frozenset())]
    for line, version in scenario.final.items():
        if (found := target(root / "data" / line / "current")) != version:
            wrong.append(f"after the second run: {line}/current is {found}")
        wrong += [f"after the second run: {w}" for w in _leftovers(root / "data" / line, version)]
        if not any(v.version == version for v in _installed(site, line)):
            wrong.append(f"after the second run: {line}@{version} does not count as installed")
    if any((root / "data" / "staging").iterdir()):
        site.store.reconcile()
        wrong += ["staging is never cleared"] if any((root / "data" / "staging").iterdir()) else []
    return wrong


def _leftovers(home: Path, version: str) -> Iterator[str]:
    """What still speaks of a canary after its end, or of another version than *version*."""
    if (home / "canary").is_symlink():
        yield f"{home.name}/canary is {target(home / 'canary')} after the end of the canary"
    if home.parent.name == "models":
        told = json.loads((home / "slots.json").read_bytes())
        serving = [s["version"] for s in told["slots"] if s["slot"] == told["current"]]
        if serving != [version] or told["canary_form"] is not None:
            yield f"{home.name}/slots.json says {told}"


def _installed(site: Site, line: str) -> list[InstalledVersion]:
    shelf, name = line.split("/")
    return site.store.installed(name, Kind.DATASET if shelf == "datasets" else Kind.MODEL)


def looks(scenario: Scenario, root: Path, forgiven: frozenset[str]) -> list[str]:
    """Open every name that a reader may open."""
    data = root / "data"
    wrong = [w for home, files in RIGHT.items() for w in _look_at_version(data, home, files, forgiven)]
    for line, versions in scenario.current.items():
        pointer = data / line / "current"
        if target(pointer) not in versions or not pointer.is_dir():
            wrong.append(f"{line}/current is {target(pointer)}")
        wrong += _look_beside(data / line, versions)
    if scenario.archived:
        wrong += _look_at_archive(data)
    for shown in (data / "models_essential").iterdir():
        right = {_digest(data_of(seed)) for files in RIGHT.values() for seed in files.values()}
        if shown.is_file() and _digest(shown.read_bytes()) not in right and not forgiven:
            wrong.append(f"{shown.name} in the flat view is not a version")
    return wrong


def target(pointer: Path) -> str:
    return str(pointer.readlink()) if pointer.is_symlink() else "nothing"


def _look_beside(home: Path, versions: set[str]) -> Iterator[str]:
    """`canary`, where there is one, and what `slots.json` says."""
    if (home / "canary").is_symlink() and (target(home / "canary") not in versions or not (home / "canary").is_dir()):
        yield f"{home.name}/canary is {target(home / 'canary')}"
    if not (home / "slots.json").exists():
        return
    try:
        told = SlotsFile.model_validate_json((home / "slots.json").read_bytes())
    except ValueError:
        yield f"{home.name}/slots.json cannot be read"
        return
    for slot in told.slots:
        if slot.path is not None and (slot.version not in versions or not (home / slot.path).exists()):
            yield f"{home.name}/slots.json leads to {slot.path}, where there is nothing"


def _look_at_version(data: Path, home: str, files: dict[str, int], forgiven: frozenset[str]) -> Iterator[str]:
    found = {str(p.relative_to(data / home)) for p in (data / home).rglob("*") if not p.is_dir()}
    for extra in found - set(files):
        if f"{home}/{extra}" not in forgiven:
            yield f"{home}/{extra} is there and should not be"
    if found - set(files) and found & set(files):
        yield f"{home} mixes two contents: {sorted(found)}"
    for path in found & set(files):
        if f"{home}/{path}" not in forgiven and _digest((data / home / path).read_bytes()) != _digest(
            data_of(files[path])
        ):
            yield f"{home}/{path} holds other bytes"
    if found and found < set(files) and not any(f.startswith(home) for f in forgiven):
        yield f"{home} is incomplete: {sorted(found)}"


def _look_at_archive(data: Path) -> Iterator[str]:
    """Every byte of the version is installed, or listed and in the archive."""
    places = [data / "models" / "a" / "1"]
    for path in (data / "archive").glob("*/archived_manifest.json"):
        try:
            manifest = ArchivedManifest.model_validate_json(path.read_bytes())
        except ValueError:
            yield f"{path.relative_to(data)} cannot be read"
            continue
        places += [data / "archive" / item.folder for item in manifest.archived]
    if not any(all(_is_right(place / path, seed) for path, seed in ARCHIVED.items()) for place in places):
        yield "models/a/1 is neither installed nor in the archive"


def _is_right(path: Path, seed: int) -> bool:
    return path.is_file() and path.read_bytes() == data_of(seed)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- the kills


def crossed(scenario: Scenario, template: Path, kind: type[Store]) -> Counter[str]:
    """How often a run passes each failpoint."""
    passed: Counter[str] = Counter()

    def count(name: str) -> None:
        passed[name] += 1

    with copied(template) as root, failpoints.watched(count):
        scenario.run(Site(root, kind))
    return passed


class copied:  # noqa: N801 - reads as a verb
    """A copy of a folder in which hard links stay hard links."""

    def __init__(self, template: Path) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="case-", dir=template.parent))
        os.spawnlp(os.P_WAIT, "cp", "cp", "-a", f"{template}/.", str(self._root))

    def __enter__(self) -> Path:
        return self._root

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._root)


def kill_at(scenario: Scenario, root: Path, point: str, kind: type[Store]) -> str:
    """Run in a child that dies at *point*; returns how it ended."""
    child = os.fork()
    if child == 0:
        try:
            failpoints.arm(point)
            scenario.run(Site(root, kind))
        except TransportError as fault:
            print(type(fault).__name__, fault, file=sys.stderr)
            os._exit(3)
        except BaseException as fault:
            print(repr(fault), file=sys.stderr)
            os._exit(4)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else str(os.WEXITSTATUS(status))


def matrix(name: str, which: str, kind: type[Store], action: str = "kill") -> dict[str, object]:
    """Act at every failpoint that the scenario passes; says which cases went wrong."""
    scenario, failures, cases = SCENARIOS[name], {}, 0
    with tempfile.TemporaryDirectory(prefix="crash-", dir=QUICK_DISK) as top:
        template = Path(top) / "template"
        scenario.prepare(Site(template, kind))
        passed = crossed(scenario, template, kind)
        for point, count in sorted(passed.items()):
            if not _is_wanted(point, which):
                continue
            for passage in range(1, (count if which == "all" else 1) + 1):
                cases += 1
                with copied(template) as root:
                    ended = kill_at(scenario, root, f"{point}={action}@{passage}", kind)
                    # Some steps have another way to their end, for example a copy where a link is not possible.
                    expected = {"SIGKILL"} if action == "kill" else {"0", "3"}
                    wrong = [] if ended in expected else [f"it ended with {ended}"]
                    if wrong := wrong + judge(scenario, root, kind):
                        failures[f"{point}@{passage}"] = wrong
    return {"cases": cases, "passed": sorted(passed), "failures": failures}


# -- power cuts


class disk:  # noqa: N801 - reads as a noun
    """An ext4 file system in an image file, mounted; what the machine has not written to it is lost by copying it."""

    def __init__(self, image: Path) -> None:
        self._image, self._place = image, image.with_suffix(".mnt")

    def __enter__(self) -> Path:
        self._place.mkdir(exist_ok=True)
        # No commit of the journal by the clock: only what was synced counts.
        subprocess.run(["mount", "-o", "loop,commit=600", self._image, self._place], check=True)
        return self._place

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self._place], check=True)


def power(name: str, points: list[str], *, synced: bool = True) -> dict[str, list[str]]:
    """Cut the power at each of *points* (`end`: after everything returned); says which cases went wrong."""
    failures = {}
    with tempfile.TemporaryDirectory(prefix="power-") as top:
        template = Path(top) / "template.img"
        with template.open("wb") as image:
            image.truncate(40 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", template], check=True)
        with disk(template) as root:
            SCENARIOS[name].prepare(Site(root / "site"))
        for point in points:
            if wrong := _cut(SCENARIOS[name], template, point, synced=synced):
                failures[point] = wrong
    return failures


def _cut(scenario: Scenario, template: Path, point: str, *, synced: bool) -> list[str]:
    running, cut = template.with_name("running.img"), template.with_name("cut.img")
    shutil.copyfile(template, running)
    with disk(running) as root:
        child = _run_and_stop(scenario, root / "site", point, synced=synced)
        shutil.copyfile(running, cut)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with disk(cut) as root:
        wrong = _not_final(scenario, root / "site") if point == "end" else []
        return wrong + judge(scenario, root / "site")


def _run_and_stop(scenario: Scenario, root: Path, point: str, *, synced: bool) -> int:
    child = os.fork()
    if child == 0:
        if not synced:
            os.fsync = _no_sync
        failpoints.arm(f"{point}=stop;end=stop")
        scenario.run(Site(root))
        failpoint("end")
        os._exit(0)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    return child


def _no_sync(fd: object) -> None:
    """What a disk that lies, or a store that forgets to sync, does."""


def _not_final(scenario: Scenario, root: Path) -> list[str]:
    found = {line: target(root / "data" / line / "current") for line in scenario.final}
    return [] if found == scenario.final else [f"everything had returned, and the pointers are {found}"]


def _is_wanted(point: str, which: str) -> bool:
    """What lies between the end of one step and the beginning of the next is not durable: `before` leaves it out."""
    return which in {"all", point} or (which == "before" and not point.endswith(".after"))


def main(arguments: list[str]) -> int:
    command, name, where, *more = arguments
    variants = {"mixing": MixingStore, "broken": CarelessStore, "hasty": HastyStore, "moving": MovingStore}
    kind = next((variants[word] for word in more if word in variants), Store)
    if command == "matrix":
        print(json.dumps(matrix(name, where, kind, *[m for m in more if m not in variants])))
    elif command == "power":
        print(json.dumps(power(name, where.split(","), synced="unsynced" not in more)))
    elif command == "prepare":
        SCENARIOS[name].prepare(Site(Path(where), kind))
    elif command == "judge":
        print(json.dumps(judge(SCENARIOS[name], Path(where), kind)))
    elif command == "run":
        try:
            SCENARIOS[name].run(Site(Path(where), kind))
        except TransportError as fault:
            print(json.dumps([type(fault).__name__, str(fault)]))
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
