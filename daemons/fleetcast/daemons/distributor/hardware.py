"""What GPUs this machine has, by what its kernel says; and whether a node is a GPU node, by its labels. The first reads
files below a root and is given another one in tests; the second is pure."""

from collections.abc import Mapping
from pathlib import Path

GPU, VENDOR, ROLE = "gpu", "gpu_vendor", "role"
"""Labels."""
NONE = frozenset({"", "no", "none", "false", "off", "0"})
"""Values of the label `gpu` by which a node says that it has none, whatever is plugged in."""
_NVIDIA, _AMD = "0x10de", "0x1002"
"""PCI vendor ids (pci.ids)."""


def detect_vendor(root: Path = Path("/")) -> str | None:
    """The vendor of a GPU that can train here: `nvidia`, `amd`, or None.

    A display adapter is not enough: NVIDIA's own driver has to be loaded (nouveau computes nothing), and AMD's compute
    interface has to be there, which integrated graphics lack. In containers, which often see no /sys/class/drm, these
    two are what is left to see. Intel's are told apart from integrated graphics by nothing that is stable: label them.
    """
    if _has_entries(root / "proc/driver/nvidia/gpus") or _runs(root, _NVIDIA, "nvidia"):
        return "nvidia"
    cards = _vendors(root)
    if (root / "dev/kfd").exists() and (_AMD in cards.values() or not cards):
        return "amd"
    return None


def labels_of(configured: Mapping[str, str], vendor: str | None) -> dict[str, str]:
    """The labels of a node: what was configured, which wins, and what was detected."""
    labels = dict(configured)
    if vendor is not None:
        labels.setdefault(GPU, vendor)
    if is_gpu_node(labels) and labels.get(GPU, "").lower() in {"nvidia", "amd", "intel"}:
        labels.setdefault(VENDOR, labels[GPU].lower())
    elif is_gpu_node(labels) and vendor is not None:
        labels.setdefault(VENDOR, vendor)
    return labels


def is_gpu_node(labels: Mapping[str, str]) -> bool:
    """Whether labels say that a node has a GPU: `gpu` is anything but a no, or `role` is `gpu`."""
    said = labels.get(GPU)
    return said.lower() not in NONE if said is not None else labels.get(ROLE, "").lower() == "gpu"


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _vendors(root: Path) -> dict[Path, str]:
    """PCI vendor of every graphics card, by its device."""
    found = {}
    for card in sorted((root / "sys/class/drm").glob("card[0-9]*")):
        try:
            found[card / "device"] = (card / "device/vendor").read_text().strip().lower()
        except OSError:
            continue  # an output of a card, or a card without PCI
    return found


def _runs(root: Path, vendor: str, driver: str) -> bool:
    """Whether a card of *vendor* is run by *driver*."""
    devices = [device for device, found in _vendors(root).items() if found == vendor]
    return any(_driver(device) == driver for device in devices)


def _driver(device: Path) -> str | None:
    try:
        return (device / "driver").readlink().name
    except OSError:
        return None
