"""GPUs of AMD, by the files of amdgpu and of its compute driver: nothing has to be installed for that. Only what people
call a card is not in them; AMD's library (amdsmi, extra `amd`) knows it.

Linux, Documentation/gpu/amdgpu (driver-misc, ras, thermal) and the topology of /sys/class/kfd;
rocm.docs.amd.com/projects/amdsmi.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from fleetcast.daemons.trainer.gpus.sysfs import AMD, Device, Machine, number, text
from fleetcast.events.gpus import Gpu

_RAS_BLOCKS = ("umc", "gfx", "sdma", "mmhub", "hdp")


def by_files(machine: Machine) -> list[Gpu] | None:
    """As the kernel's files say; None: there are none."""
    architectures = _architectures(machine)
    driver = machine.module_version("amdgpu") or text(machine.root / "proc/sys/kernel/osrelease")
    devices = [each for each in machine.devices(AMD) if _is_gpu(each)]
    return [_gpu(index, each, architectures, driver) for index, each in enumerate(devices)] or None


def by_library(machine: Machine) -> list[Gpu] | None:
    """As the kernel's files say, with the names that AMD's library has; None: there are none, or no library."""
    gpus = by_files(machine)
    if gpus is None or all(gpu.model for gpu in gpus):
        return gpus
    try:
        smi: Any = importlib.import_module("amdsmi")
    except ImportError:
        return None
    smi.amdsmi_init()
    try:
        names = {
            str(smi.amdsmi_get_gpu_device_bdf(handle)).lower(): str(smi.amdsmi_get_gpu_asic_info(handle)["market_name"])
            for handle in smi.amdsmi_get_processor_handles()
        }
    finally:
        smi.amdsmi_shut_down()
    return [gpu.model_copy(update={"model": gpu.model or names.get(gpu.pci, "")}) for gpu in gpus]


def _is_gpu(device: Device) -> bool:
    # A device that the driver gave up on has no memory files any more, and is still a GPU.
    return device.driver == "amdgpu" or (device.folder / "mem_info_vram_total").exists()


def _gpu(index: int, device: Device, architectures: dict[str, str], driver: str) -> Gpu:
    total, used = (number(device.folder / f"mem_info_vram_{which}") for which in ("total", "used"))
    unique = text(device.folder / "unique_id")
    errors = _uncorrected(device.folder)
    return Gpu(
        index=index,
        uuid=f"GPU-{unique}" if unique else "",
        pci=device.address,
        vendor="amd",
        model=text(device.folder / "product_name"),
        arch=architectures.get(device.address, ""),
        memory_total=total,
        memory_free=max(total - used, 0) if total is not None and used is not None else None,
        driver=driver,
        temperature=_temperature(device.folder),
        ecc=errors,
        fault=_fault(total, errors),
    )


def _fault(total: int | None, errors: int | None) -> str:
    if total is None:
        return "its driver shows no memory: it did not start, or was reset in vain"
    return f"{errors} uncorrected memory errors since the driver was loaded" if errors else ""


def _temperature(folder: Path) -> float | None:
    """The edge of the chip, in degrees Celsius."""
    for sensor in sorted(folder.glob("hwmon/hwmon*/temp1_input")):
        found = number(sensor)
        if found is not None:
            return found / 1000
    return None


def _uncorrected(folder: Path) -> int | None:
    """`ue: 0` and `ce: 0` for each block that has RAS; None: it has none."""
    counts = [re.search(r"^ue: (\d+)", text(folder / "ras" / f"{b}_err_count"), re.MULTILINE) for b in _RAS_BLOCKS]
    found = [int(each[1]) for each in counts if each]
    return sum(found) if found else None


def _architectures(machine: Machine) -> dict[str, str]:
    """`gfx90a` by PCI address, from the compute driver's topology."""
    found = {}
    for node in (machine.root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties"):
        facts = dict(re.findall(r"^(\w+) (\d+)$", text(node), re.MULTILINE))
        version, place = int(facts.get("gfx_target_version", 0)), int(facts.get("location_id", 0))
        if version:
            domain = int(facts.get("domain", 0))
            address = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
            found[address] = _gfx(version)
    return found


def _gfx(version: int) -> str:
    """`gfx90a` of 90010: major, minor and stepping, two digits each; minor and stepping are written in hexadecimal."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
