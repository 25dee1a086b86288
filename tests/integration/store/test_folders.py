"""No name leads out of the data folder, and a node without space keeps what it has."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetcast.config.settings import StoreSettings
from fleetcast.events.content import Kind
from fleetcast.transport.errors import ContentRefused, PathRefused, StoreError, StoreFull, VerificationFailed
from fleetcast.transport.store import Store
from fleetcast.transport.store.room import Room

Workplace = Any


def canary(workplace: Workplace) -> Path:
    """A folder outside, with a file that must stay as it is and alone."""
    outside = workplace.root / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "canary").write_bytes(b"untouched")
    return Path(outside)


def untouched(outside: Path) -> bool:
    found = sorted(str(p.relative_to(outside)) for p in outside.rglob("*"))
    return found == ["canary", "sub"] and (outside / "canary").read_bytes() == b"untouched"


def promote_and_activate(workplace: Workplace) -> None:
    content = workplace.promote("hex8", "1", b"weights")
    workplace.store.activate(workplace.order("hex8", 1, "1", content))


@pytest.mark.parametrize(
    "place", ["staging", "store", "store/sha256", "artifacts", "swarm", "models", "models/hex8", "models_essential"]
)
def test_symbolic_link_in_the_data_folder_is_never_followed(workplace: Workplace, place: str) -> None:
    outside = canary(workplace)
    link = workplace.data / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(PathRefused):
        promote_and_activate(workplace)
    assert untouched(outside)


def test_link_planted_in_a_download_is_not_admitted(workplace: Workplace) -> None:
    outside = canary(workplace)
    content = workplace.bring({"m.bin": b"untouched"})
    place = workplace.store.swarm_folder(content.artifact) / content.artifact[:16] / "m.bin"
    place.unlink()
    place.symlink_to(outside / "canary")
    with pytest.raises(StoreError):
        workplace.store.admit(content)
    assert untouched(outside)
    assert os.access(outside / "canary", os.W_OK)


def test_link_planted_for_a_folder_of_a_download_is_not_followed(workplace: Workplace) -> None:
    outside = canary(workplace)
    content = workplace.bring({"deep/canary": b"untouched"})
    place = workplace.store.swarm_folder(content.artifact) / content.artifact[:16] / "deep"
    shutil.rmtree(place)
    place.symlink_to(outside, target_is_directory=True)
    with pytest.raises(PathRefused):
        workplace.store.admit(content)
    with pytest.raises((PathRefused, VerificationFailed)):
        workplace.store.link_swarm(content)
    assert untouched(outside)


def test_version_folder_that_is_a_link_is_replaced_not_entered(workplace: Workplace) -> None:
    outside = canary(workplace)
    line = workplace.data / "models/hex8"
    line.mkdir(parents=True)
    (line / "1").symlink_to(outside, target_is_directory=True)
    with pytest.raises(StoreError):
        workplace.promote("hex8", "1", b"weights")
    assert untouched(outside)


def test_collecting_does_not_remove_through_a_link(workplace: Workplace) -> None:
    outside = canary(workplace)
    workplace.again(orphan_seconds=0)
    (workplace.data / "swarm").mkdir(parents=True)
    (workplace.data / "swarm" / ("0" * 64)).symlink_to(outside, target_is_directory=True)
    workplace.store.collect()
    assert untouched(outside)
    assert not (workplace.data / "swarm" / ("0" * 64)).is_symlink()


def test_clearing_staging_does_not_remove_through_a_link(workplace: Workplace) -> None:
    outside = canary(workplace)
    (workplace.data / "staging").mkdir(parents=True)
    (workplace.data / "staging" / "half").symlink_to(outside, target_is_directory=True)
    workplace.store.reconcile()
    assert untouched(outside)


def test_data_folder_itself_may_be_reached_by_a_link(workplace: Workplace) -> None:
    real = workplace.root / "disk"
    real.mkdir()
    workplace.data.symlink_to(real, target_is_directory=True)
    content = workplace.promote("hex8", "1", b"weights")
    workplace.store.activate(workplace.order("hex8", 1, "1", content))
    assert (real / "models/hex8/current/model.bin").read_bytes() == b"weights"


# -- no space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("a tmpfs can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_full_disk_fails_one_file_keeps_the_old_version_and_heals_when_there_is_space(
    tmp_path: Path, small_disk: Path, random_bytes: Any
) -> None:
    source = tmp_path / "publish"
    source.mkdir()
    store = Store(StoreSettings(data=small_disk / "data", publish_roots=(source,), reserve_bytes=0))
    (source / "old.bin").write_bytes(random_bytes(3 * 2**20, 1))
    old = store.ingest(source / "old.bin", kind=Kind.MODEL).content
    (source / "new.bin").write_bytes(random_bytes(6 * 2**20, 2))
    with pytest.raises(StoreFull) as full:
        store.ingest(source / "new.bin", kind=Kind.MODEL)
    assert "free space" in full.value.next_step
    assert store.has(old)
    assert store.verify(old) == []
    subprocess.run(["mount", "-o", "remount,size=32m", small_disk], check=True)
    assert store.has(store.ingest(source / "new.bin", kind=Kind.MODEL).content)


def test_disk_that_fills_while_a_file_is_copied_leaves_nothing_behind(
    tmp_path: Path, small_disk: Path, random_bytes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "publish"
    source.mkdir()
    store = Store(StoreSettings(data=small_disk / "data", publish_roots=(source,), reserve_bytes=0))
    monkeypatch.setattr(Room, "free_bytes", lambda _: 2**40)
    (source / "new.bin").write_bytes(random_bytes(12 * 2**20, 2))
    with pytest.raises(StoreFull, match="No space left"):
        store.ingest(source / "new.bin", kind=Kind.MODEL)
    assert list((small_disk / "data" / "staging").iterdir()) == []
    monkeypatch.undo()
    assert store.free_bytes() > 7 * 2**20


def test_reserving_counts_what_is_there_already(workplace: Workplace) -> None:
    content = workplace.bring({"m.bin": b"x" * 1_000_000})
    free = workplace.store.free_bytes()
    with pytest.raises(StoreFull):
        workplace.again(reserve_bytes=free * 2).reserve(content)
    workplace.again(reserve_bytes=0).reserve(content)


def test_folder_in_the_place_of_a_published_file_is_content_refused_not_a_crash(workplace: Workplace) -> None:
    with pytest.raises(ContentRefused):
        workplace.store.ingest(workplace.published, kind=Kind.MODEL)
