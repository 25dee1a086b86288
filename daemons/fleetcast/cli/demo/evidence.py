"""What is on the disks of the demo's nodes, read by the demo itself: nothing a node says is taken for granted."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from fleetcast.cli.demo.material import Material, digest_of
from fleetcast.cli.local.layout import Layout
from fleetcast.cli.problems import Problem


class Disproved(Problem):
    """A check of the demo found something else than it should."""

    def __init__(self, what: str, why: str = "") -> None:
        super().__init__("disproved", what, why=why, next_step="fleetcast demo --keep, and read its logs")


Identity = tuple[int, int, int, int]
_digests: dict[Identity, str] = {}


def sha256_of(path: Path) -> str:
    """SHA-256 of the file at *path*, read from the disk; once per content that was ever written there (device, inode,
    size and time of the last write), because the same file is looked at after every step."""
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if identity not in _digests:
        _digests[identity] = digest_of(path)
    return _digests[identity]


def check(truth: bool, what: str, why: str = "") -> None:
    """Raise `Disproved` unless *truth*."""
    if not truth:
        raise Disproved(what, why)


def installed_file(layout: Layout, node: str, material: Material, folder: str = "models") -> Path:
    """The one file of a version on *node*.

    Raises:
        Disproved: the version's folder is missing or holds something else than one file.
    """
    place = layout.data(node) / folder / material.name / material.version
    files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else []
    check(len(files) == 1, f"{place} holds {len(files)} files, not 1")
    return files[0]


def check_installed(layout: Layout, node: str, material: Material, folder: str = "models") -> Path:
    """The file of a version on *node*, after its size and SHA-256 were compared with what was published."""
    path = installed_file(layout, node, material, folder)
    size, digest = path.stat().st_size, sha256_of(path)
    check(size == material.size, f"{path} has {size} bytes, not {material.size}")
    check(digest == material.sha256, f"{path} differs from what was published", f"SHA-256 {digest}")
    return path


def check_pointer(layout: Layout, node: str, material: Material, pointer: str) -> None:
    """`current` or `previous` of the model on *node* leads to *material*'s version."""
    link = layout.data(node) / "models" / material.name / pointer
    leads_to = link.resolve().name if link.is_symlink() else "nothing"
    check(leads_to == material.version, f"{link} leads to {leads_to}, not {material.version}")


def check_flat_view(layout: Layout, node: str, material: Material, installed: Path) -> None:
    """The flat view shows the *installed* file, or its equal, under the model's name."""
    folder = layout.data(node) / "models_essential"
    shown = sorted(folder.glob(f"{material.name}*"))
    check(len(shown) == 1, f"{folder} shows {len(shown)} files of {material.name}, not 1")
    same = shown[0].samefile(installed) or sha256_of(shown[0]) == material.sha256
    check(same, f"{shown[0]} is not {material.name}@{material.version}")


def check_served(layout: Layout, node: str, material: Material, previous: Material | None = None) -> None:
    """*node* serves *material* under every name, whole; *previous*, also whole, is what it would go back to."""
    installed = check_installed(layout, node, material)
    check_pointer(layout, node, material, "current")
    check_flat_view(layout, node, material, installed)
    if previous is not None:
        check_installed(layout, node, previous)
        check_pointer(layout, node, previous, "previous")


async def check_each(
    nodes: Iterable[str], layout: Layout, material: Material, previous: Material | None = None
) -> None:
    """`check_served` on all *nodes*, at the same time."""
    await asyncio.gather(*(asyncio.to_thread(check_served, layout, node, material, previous) for node in nodes))


def flip_byte(path: Path) -> int:
    """Turn over every bit of the middle byte of *path*, as a failing disk might; returns its position."""
    mode = path.stat().st_mode
    path.chmod(mode | 0o200)
    position = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 0xFF]))
    path.chmod(mode)
    return position
