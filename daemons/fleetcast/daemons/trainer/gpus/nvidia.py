"""GPUs of NVIDIA: by the management library (NVML, extra `nvidia`), or by the files of the driver.

NVML: docs.nvidia.com/deploy/nvml-api. Field by field, because an older driver or a consumer card lacks some of them.
"""

import importlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

from fleetcast.daemons.trainer.gpus.sysfs import NVIDIA, Machine, text
from fleetcast.events.gpus import Gpu

_T = TypeVar("_T")


def by_library(_machine: Machine) -> list[Gpu] | None:
    """As NVML says; None: the library or the driver is not there."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        driver = _plain(nvml.nvmlSystemGetDriverVersion())
        return [_gpu(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, driver: str) -> Gpu:
    def asked(question: Callable[[], _T]) -> _T | None:
        try:
            return question()
        except nvml.NVMLError:
            return None

    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as e:
        # A GPU that fell off the bus is counted, and cannot be opened.
        return Gpu(index=index, vendor="nvidia", driver=driver, fault=f"NVML: {e}")
    memory = asked(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    capability = asked(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    errors = asked(
        lambda: nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
    )
    address = asked(lambda: _plain(nvml.nvmlDeviceGetPciInfo(handle).busId))
    return Gpu(
        index=index,
        uuid=_plain(asked(lambda: nvml.nvmlDeviceGetUUID(handle)) or ""),
        pci=(address or "").lower(),
        vendor="nvidia",
        model=_plain(asked(lambda: nvml.nvmlDeviceGetName(handle)) or ""),
        arch="sm_{}{}".format(*capability) if capability else "",
        memory_total=memory.total if memory else None,
        memory_free=memory.free if memory else None,
        driver=driver,
        temperature=asked(lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        ecc=errors,
        fault=f"{errors} uncorrected ECC errors since the driver was loaded" if errors else "",
    )


def _plain(words: str | bytes) -> str:
    return words.decode(errors="replace") if isinstance(words, bytes) else str(words)


def by_files(machine: Machine) -> list[Gpu] | None:
    """As the files of the driver say: which there are, and nothing about their memory; None: there are none."""
    driver = machine.module_version("nvidia")
    found = []
    for index, device in enumerate(machine.devices(NVIDIA)):
        said = _information(text(machine.root / "proc/driver/nvidia/gpus" / device.address / "information"))
        has_driver = bool(said) or device.driver == "nvidia"
        found.append(
            Gpu(
                index=index,
                uuid=said.get("GPU UUID", ""),
                pci=device.address,
                vendor="nvidia",
                model=said.get("Model", ""),
                driver=driver,
                fault="" if has_driver else f"its driver is {device.driver or 'not loaded'}, not nvidia",
            )
        )
    return found or None


def _information(words: str) -> dict[str, str]:
    """`Model: \t NVIDIA H200` and so on."""
    return dict(re.findall(r"^(\S[^:\n]*):\s*(\S.*)$", words, re.MULTILINE))
