"""What is done to a store while it is killed, and what is right afterwards."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.integration.store.crashes.site import ARCHIVED, CHECKS, TRIED, Site, content_of, data_of

from fleetcast.events.content import Kind

OLD, NEW = {"model.bin": 1}, {"model.bin": 2}
LANE_OLD, LANE_NEW = {"a.npz": 3, "deep/b.npz": 4}, {"a.npz": 5, "deep/b.npz": 4}
BUNDLE_OLD = {"model.onnx": 11, "model.onnx.data": 12, "words/merges.txt": 13}
BUNDLE_NEW = {"model.onnx": 14, "model.onnx.data": 15, "words/merges.txt": 13, "words/vocab.json": 16}
BUNDLE_LAST = {"model.onnx": 17, "words/merges.txt": 18}
MONTHS = ("202611", "202612")


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
    """A canary elsewhere, a hook, a canary here, then in production; then one that is ordered before it comes, and is
    given up."""
    site.hold("2")
    site.order(2, "1", "2")
    site.store.hooks.write("c", b"{}")
    site.order(3, "1", "2", here=True)
    site.order(4, "2")
    site.order(5, "2", "3", here=True)
    site.hold("3")
    site.order(5, "2", "3", here=True)
    site.order(6, "2")


def prepare_archive(site: Site) -> None:
    """Two versions, one in production; something was left where the other one is to be archived."""
    content = site.have("2", {"model.onnx": 25})
    site.order_version("a", Kind.MODEL, "2", content, 1)
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
