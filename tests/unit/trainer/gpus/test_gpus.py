"""What the files of drivers and NVIDIA's library say of GPUs."""

import asyncio
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fleetcast.daemons.trainer.gpus import GpuReader, reading
from fleetcast.daemons.trainer.gpus.amd import _gfx
from fleetcast.daemons.trainer.gpus.reading import read
from fleetcast.daemons.trainer.gpus.sysfs import Machine
from fleetcast.events.gpus import Gpu

GIB = 2**30


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def card(root: Path, address: str, vendor: str, *, kind: str = "0x030000", driver: str = "") -> Path:
    folder = root / "sys/bus/pci/devices" / address
    write(folder / "vendor", vendor)
    write(folder / "class", kind)
    if driver:
        (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(root / "drivers" / driver)
    return folder


def amd_card(root: Path, address: str = "0000:03:00.0") -> Path:
    folder = card(root, address, "0x1002", driver="amdgpu")
    write(folder / "mem_info_vram_total", str(64 * GIB))
    write(folder / "mem_info_vram_used", str(4 * GIB))
    write(folder / "unique_id", "abcdef0123456789")
    write(folder / "product_name", "Instinct MI210")
    write(folder / "hwmon/hwmon3/temp1_input", "41000")
    write(folder / "ras/umc_err_count", "ue: 0\nce: 7\n")
    node = root / "sys/class/kfd/kfd/topology/nodes/1/properties"
    write(node, "simd_count 416\ngfx_target_version 90010\nlocation_id 768\ndomain 0\n")
    write(root / "sys/module/amdgpu/version", "6.8.5\n")
    return folder


def test_an_amd_gpu_is_known_by_the_kernels_files_alone(tmp_path: Path) -> None:
    amd_card(tmp_path)

    (gpu,) = read(Machine(tmp_path))
    assert (gpu.vendor, gpu.arch, gpu.model, gpu.driver) == ("amd", "gfx90a", "Instinct MI210", "6.8.5")
    assert (gpu.memory_total, gpu.memory_free) == (64 * GIB, 60 * GIB)
    assert (gpu.temperature, gpu.ecc, gpu.fault) == (41.0, 0, "")
    assert (gpu.uuid, gpu.pci) == ("GPU-abcdef0123456789", "0000:03:00.0")


def test_amds_library_gives_a_card_the_name_that_its_files_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (amd_card(tmp_path) / "product_name").write_text("")
    assert read(Machine(tmp_path))[0].model == ""
    module = ModuleType("amdsmi")
    parts: dict[str, Any] = {
        "amdsmi_init": lambda: None,
        "amdsmi_shut_down": lambda: None,
        "amdsmi_get_processor_handles": lambda: [7],
        "amdsmi_get_gpu_device_bdf": lambda _: "0000:03:00.0",
        "amdsmi_get_gpu_asic_info": lambda _: {"market_name": "Radeon RX 7900 XTX"},
    }
    for name, part in parts.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, "amdsmi", module)
    assert read(Machine(tmp_path))[0].model == "Radeon RX 7900 XTX"

    def broken() -> None:
        raise KeyError("libamd_smi.so")

    module.amdsmi_init = broken  # type: ignore[attr-defined]
    assert read(Machine(tmp_path))[0].memory_total == 64 * GIB


def test_damaged_memory_and_a_driver_that_gave_up_speak_against_a_gpu(tmp_path: Path) -> None:
    write(amd_card(tmp_path) / "ras/gfx_err_count", "ue: 2\nce: 0\n")
    card(tmp_path, "0000:04:00.0", "0x1002", driver="amdgpu")

    damaged, silent = read(Machine(tmp_path))
    assert damaged.ecc == 2
    assert "2 uncorrected" in damaged.fault
    assert "shows no memory" in silent.fault
    assert silent.index == 1


def test_other_devices_are_no_gpus(tmp_path: Path) -> None:
    card(tmp_path, "0000:00:01.0", "0x1002", kind="0x040300")
    card(tmp_path, "0000:00:02.0", "0x8086")

    assert read(Machine(tmp_path)) == ()
    assert asyncio.run(GpuReader(root=tmp_path).read()) == ()


@pytest.mark.parametrize(
    ("version", "name"),
    [(90010, "gfx90a"), (90402, "gfx942"), (100300, "gfx1030"), (110000, "gfx1100"), (90000, "gfx900")],
)
def test_versions_of_the_compute_driver_are_read_as_people_write_them(version: int, name: str) -> None:
    assert _gfx(version) == name


def test_an_nvidia_gpu_is_known_without_the_library(tmp_path: Path) -> None:
    card(tmp_path, "0000:65:00.0", "0x10de", kind="0x030200", driver="nvidia")
    said = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 120\nGPU UUID: \t GPU-1234-5678\n"
    write(tmp_path / "proc/driver/nvidia/gpus/0000:65:00.0/information", said)
    write(tmp_path / "sys/module/nvidia/version", "570.86.10\n")
    card(tmp_path, "0000:66:00.0", "0x10de", driver="nouveau")

    first, second = read(Machine(tmp_path))
    assert (first.model, first.uuid, first.driver, first.fault) == ("NVIDIA H200", "GPU-1234-5678", "570.86.10", "")
    assert first.memory_free is None
    assert "nouveau" in second.fault


class NvmlError(Exception):
    """As the library's."""


def library(**changes: Any) -> ModuleType:
    """The functions of the library that are used, for one good GPU and one that fell off the bus."""

    def handle(index: int) -> int:
        if index == 1:
            raise NvmlError("GPU is lost")
        return index

    def refused(*_: Any) -> Any:
        raise NvmlError("Not Supported")

    module = ModuleType("pynvml")
    parts: dict[str, Any] = {
        "NVMLError": NvmlError,
        "NVML_MEMORY_ERROR_TYPE_UNCORRECTED": 1,
        "NVML_VOLATILE_ECC": 0,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "570.86.10",
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=140 * GIB, free=139 * GIB),
        "nvmlDeviceGetCudaComputeCapability": lambda _: (9, 0),
        "nvmlDeviceGetTotalEccErrors": refused,
        "nvmlDeviceGetPciInfo": lambda _: SimpleNamespace(busId=b"00000000:65:00.0"),
        "nvmlDeviceGetUUID": lambda _: "GPU-1",
        "nvmlDeviceGetName": lambda _: b"NVIDIA H200",
        "nvmlDeviceGetTemperature": lambda *_: 33,
    }
    for name, part in (parts | changes).items():
        setattr(module, name, part)
    return module


def test_nvidias_library_says_more_and_what_it_does_not_support_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library())

    good, lost = read(Machine(tmp_path))
    assert (good.model, good.arch, good.memory_free, good.ecc) == ("NVIDIA H200", "sm_90", 139 * GIB, None)
    assert (good.pci, good.temperature, good.fault) == ("00000000:65:00.0", 33.0, "")
    assert "GPU is lost" in lost.fault


def test_uncorrected_errors_speak_against_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = library(nvmlDeviceGetTotalEccErrors=lambda *_: 3, nvmlDeviceGetCount=lambda: 1)
    monkeypatch.setitem(sys.modules, "pynvml", changed)

    (gpu,) = read(Machine(tmp_path))
    assert gpu.ecc == 3
    assert "3 uncorrected" in gpu.fault


def test_a_library_that_fails_in_its_own_way_leaves_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("libnvidia-ml.so.1: version mismatch")

    card(tmp_path, "0000:65:00.0", "0x10de", driver="nvidia")
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=broken))

    (gpu,) = read(Machine(tmp_path))
    assert (gpu.vendor, gpu.pci) == ("nvidia", "0000:65:00.0")


def test_a_node_may_play_one_that_has_a_gpu(tmp_path: Path) -> None:
    (gpu,) = asyncio.run(GpuReader({"gpu": "simulated"}, root=tmp_path).read())
    assert gpu.vendor == "simulated"
    amd_card(tmp_path)
    assert asyncio.run(GpuReader({"gpu": "simulated"}, root=tmp_path).read())[0].vendor == "amd"


def test_a_driver_that_hangs_takes_one_thread_and_none_of_those_that_read_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, goes_on = [], threading.Event()

    def hangs(_machine: Machine) -> tuple[Gpu, ...]:
        asked.append(threading.current_thread())
        goes_on.wait(60)
        return ()

    monkeypatch.setattr(reading, "read", hangs)
    reader = GpuReader({"gpu": "simulated"}, root=tmp_path, seconds=0.01)

    async def look_often() -> tuple[Gpu, ...]:
        for _ in range(50):
            with pytest.raises(TimeoutError):
                await reader.read()
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "a file"), 30) == "a file"
        goes_on.set()
        await asyncio.to_thread(asked[0].join, 30)
        monkeypatch.setattr(reading, "read", lambda _machine: ())
        return await GpuReader({"gpu": "simulated"}, root=tmp_path).read()

    assert asyncio.run(look_often())[0].vendor == "simulated"
    assert len(asked) == 1
    assert asked[0].daemon
