"""PCI display devices as the kernel shows them, and small files of drivers."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086
_DISPLAY: Final = 0x03
_ACCELERATOR: Final = 0x12
"""PCI base classes: display controller, and processing accelerator (data-centre GPUs of AMD say so)."""


@dataclass(frozen=True, slots=True)
class Device:
    """One PCI device; `folder` is its folder in sysfs, `address` its place."""

    address: str
    vendor: int
    folder: Path

    @property
    def driver(self) -> str:
        """Name of the kernel driver that has it; empty: none."""
        with suppress(OSError):
            return (self.folder / "driver").resolve(strict=True).name
        return ""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine by its `/sys` and `/proc`."""

    root: Path = Path("/")

    def devices(self, vendor: int) -> list[Device]:
        """GPUs of *vendor*, by address."""
        found = []
        with suppress(OSError):
            for folder in sorted((self.root / "sys/bus/pci/devices").iterdir()):
                kind, of = number(folder / "class"), number(folder / "vendor")
                if of == vendor and kind is not None and kind >> 16 in (_DISPLAY, _ACCELERATOR):
                    found.append(Device(folder.name, vendor, folder))
        return found

    def module_version(self, name: str) -> str:
        """Version of a kernel module; empty: it has none of its own."""
        return text(self.root / "sys/module" / name / "version")


def text(path: Path) -> str:
    """A small file, stripped; empty: it cannot be read."""
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def number(path: Path) -> int | None:
    """A number in a file, decimal or `0x…`; None: there is none."""
    with suppress(ValueError):
        return int(text(path), 0)
    return None
