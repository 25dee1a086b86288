"""The demo's own eyes: what it must not let pass when a disk shows something else than it should."""

import shutil
from pathlib import Path

import pytest

from fleetcast.cli.demo import evidence
from fleetcast.cli.demo.evidence import Disproved
from fleetcast.cli.demo.material import Material, digest_of
from fleetcast.cli.local.layout import Layout

NODE = "node-1"


def material(layout: Layout, version: str) -> Material:
    path = layout.publish / f"hex8-{version}.bin"
    path.write_bytes(version.encode() * 1000)
    return Material("hex8", version, path, path.stat().st_size, digest_of(path))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.create((NODE,))
    return made


@pytest.fixture
def versions(layout: Layout) -> tuple[Material, Material]:
    """Versions 1 and 2, installed and pointed to as they should be."""
    one, two = material(layout, "1"), material(layout, "2")
    data = layout.data(NODE)
    for each in (one, two):
        folder = data / "models" / "hex8" / each.version
        folder.mkdir(parents=True)
        shutil.copy(each.path, folder / "hex8.bin")
    (data / "models" / "hex8" / "current").symlink_to("2")
    (data / "models" / "hex8" / "previous").symlink_to("1")
    (data / "models_essential").mkdir()
    (data / "models_essential" / "hex8.bin").hardlink_to(data / "models" / "hex8" / "2" / "hex8.bin")
    return one, two


def test_a_node_that_serves_what_was_published_passes(layout: Layout, versions: tuple[Material, Material]) -> None:
    one, two = versions
    evidence.check_served(layout, NODE, two, one)


def test_a_flipped_byte_is_seen(layout: Layout, versions: tuple[Material, Material]) -> None:
    one, two = versions
    evidence.check_served(layout, NODE, two, one)
    evidence.flip_byte(evidence.installed_file(layout, NODE, two))
    with pytest.raises(Disproved, match="differs from what was published"):
        evidence.check_served(layout, NODE, two, one)


def test_a_damaged_previous_version_is_seen(layout: Layout, versions: tuple[Material, Material]) -> None:
    one, two = versions
    evidence.flip_byte(evidence.installed_file(layout, NODE, one))
    with pytest.raises(Disproved, match="hex8/1"):
        evidence.check_served(layout, NODE, two, one)


def test_a_pointer_that_was_not_moved_is_seen(layout: Layout, versions: tuple[Material, Material]) -> None:
    one, two = versions
    current = layout.data(NODE) / "models" / "hex8" / "current"
    current.unlink()
    current.symlink_to("1")
    with pytest.raises(Disproved, match="leads to 1, not 2"):
        evidence.check_served(layout, NODE, two, one)


def test_a_flat_view_of_the_old_version_is_seen(layout: Layout, versions: tuple[Material, Material]) -> None:
    one, two = versions
    flat = layout.data(NODE) / "models_essential" / "hex8.bin"
    flat.unlink()
    shutil.copy(one.path, flat)
    with pytest.raises(Disproved, match="is not hex8@2"):
        evidence.check_served(layout, NODE, two, one)


def test_a_version_without_its_file_is_seen(layout: Layout, versions: tuple[Material, Material]) -> None:
    evidence.installed_file(layout, NODE, versions[1]).unlink()
    with pytest.raises(Disproved, match="holds 0 files"):
        evidence.check_installed(layout, NODE, versions[1])
