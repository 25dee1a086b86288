"""Runs in a process of its own and says whether each GPU computes. Standard library only; torch where there is one.

    python -I probe_child.py

Prints one JSON object: `{"with", "torch", "arch_list", "gpus": [{"index", "name", "arch", "ok", "error", "seconds"}],
"error"}`. A GPU that aborts the process takes nobody along; whoever started it sees the signal, and what was printed on
standard error before.

With torch each GPU multiplies two matrices of small integers, whose product is exact in any precision, and the result
is compared with the CPU's. Without torch the driver (libcuda, libamdhip64) fills some memory and it is read back: that
shows a GPU that is gone or hangs, and not one that computes wrongly.
"""

import ctypes
import importlib
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

SIDE = 512
WORDS = 1 << 20
PATTERN = 0xA5C3F00D


def main() -> int:
    """Probe every GPU; the exit status is 0 when something could be said."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        torch = None
    found = by_torch(torch) if torch is not None and torch.cuda.is_available() else by_driver()
    if torch is not None:
        found |= {"torch": str(torch.__version__), "arch_list": list(torch.cuda.get_arch_list())}
    print(json.dumps(found))
    return 0


def by_torch(torch: Any) -> dict[str, Any]:
    """Each GPU that torch sees multiplies matrices."""
    return {"with": "torch", "gpus": [_timed(index, _torch_gpu, torch) for index in range(torch.cuda.device_count())]}


def _torch_gpu(index: int, torch: Any) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    arch = getattr(properties, "gcnArchName", "") or f"sm_{properties.major}{properties.minor}"
    generator = torch.Generator().manual_seed(7)
    one, other = (torch.randint(-2, 3, (SIDE, SIDE), generator=generator).float() for _ in range(2))
    device = torch.device("cuda", index)
    product = (one.to(device) @ other.to(device)).cpu()
    ok = bool(torch.equal(product, one @ other))
    return {"name": properties.name, "arch": arch, "ok": ok, "error": "" if ok else "a product came out wrong"}


# -- without torch


class Refused(Exception):
    """The driver answered with an error."""


class Driver(ABC):
    """The few calls of a driver that fill memory and read it back; CUDA's driver API and HIP share their shape."""

    name = ""
    library = ""
    functions: dict[str, str] = {}

    def __init__(self) -> None:
        self._library = ctypes.CDLL(self.library)
        self.call("init", ctypes.c_uint(0))

    def call(self, what: str, *arguments: Any) -> None:
        """One call.

        Raises:
            Refused: it failed.
        """
        status = getattr(self._library, self.functions[what])(*arguments)
        if status != 0:
            raise Refused(f"{self.functions[what]} answered {status}")

    def count(self) -> int:
        """How many GPUs it shows."""
        found = ctypes.c_int()
        self.call("count", ctypes.byref(found))
        return found.value

    @abstractmethod
    def enter(self, index: int) -> Callable[[], None]:
        """Use one GPU; returns what ends that."""

    def fill_and_read(self, index: int) -> dict[str, Any]:
        """Fill memory of one GPU and read it back."""
        leave = self.enter(index)
        try:
            pointer, back = ctypes.c_void_p(), (ctypes.c_uint32 * WORDS)()
            self.call("alloc", ctypes.byref(pointer), ctypes.c_size_t(4 * WORDS))
            try:
                self.call("fill", pointer, ctypes.c_uint(PATTERN), ctypes.c_size_t(WORDS))
                self.call("wait")
                self.call("read", *self.reading(back, pointer))
            finally:
                self.call("free", pointer)
        finally:
            leave()
        ok = bytes(back) == PATTERN.to_bytes(4, sys.byteorder) * WORDS
        return {"name": "", "arch": "", "ok": ok, "error": "" if ok else "memory came back different"}

    def reading(self, back: Any, pointer: Any) -> tuple[Any, ...]:
        """Arguments of the call that copies from the GPU."""
        return back, pointer, ctypes.c_size_t(4 * WORDS)


class Cuda(Driver):
    """CUDA Driver API, docs.nvidia.com/cuda/cuda-driver-api."""

    name = "cuda driver"
    library = "libcuda.so.1"
    functions = {
        "init": "cuInit",
        "count": "cuDeviceGetCount",
        "device": "cuDeviceGet",
        "create": "cuCtxCreate_v2",
        "destroy": "cuCtxDestroy_v2",
        "alloc": "cuMemAlloc_v2",
        "fill": "cuMemsetD32_v2",
        "wait": "cuCtxSynchronize",
        "read": "cuMemcpyDtoH_v2",
        "free": "cuMemFree_v2",
    }

    def enter(self, index: int) -> Callable[[], None]:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("device", ctypes.byref(device), ctypes.c_int(index))
        self.call("create", ctypes.byref(context), ctypes.c_uint(0), device)
        return lambda: self.call("destroy", context)


class Hip(Driver):
    """HIP Runtime API, rocm.docs.amd.com/projects/HIP."""

    name = "hip runtime"
    library = "libamdhip64.so"
    functions = {
        "init": "hipInit",
        "count": "hipGetDeviceCount",
        "device": "hipSetDevice",
        "alloc": "hipMalloc",
        "fill": "hipMemsetD32",
        "wait": "hipDeviceSynchronize",
        "read": "hipMemcpy",
        "free": "hipFree",
    }
    DEVICE_TO_HOST = 2

    def enter(self, index: int) -> Callable[[], None]:
        self.call("device", ctypes.c_int(index))
        return lambda: None

    def reading(self, back: Any, pointer: Any) -> tuple[Any, ...]:
        return back, pointer, ctypes.c_size_t(4 * WORDS), ctypes.c_int(self.DEVICE_TO_HOST)


def by_driver(kinds: tuple[type[Driver], ...] = (Cuda, Hip)) -> dict[str, Any]:
    """Each GPU that a driver shows fills memory."""
    refused = []
    for kind in kinds:
        try:
            driver = kind()
            gpus = [_timed(index, _driver_gpu, driver) for index in range(driver.count())]
        except OSError:
            continue  # this driver is not installed
        except Refused as e:
            refused.append(str(e))
            continue
        return {"with": kind.name, "gpus": gpus}
    return {"with": "", "gpus": [], "error": "; ".join(refused) or "neither torch nor a driver shows a GPU"}


def _driver_gpu(index: int, driver: Driver) -> dict[str, Any]:
    return driver.fill_and_read(index)


def _timed(index: int, probe: Callable[[int, Any], dict[str, Any]], around: Any) -> dict[str, Any]:
    begun = time.monotonic()
    try:
        found = probe(index, around)
    except Exception as e:  # whatever it is, it is what is to be found out
        found = {"name": "", "arch": "", "ok": False, "error": f"{type(e).__name__}: {e}"[:300]}
    return {"index": index, "seconds": round(time.monotonic() - begun, 3), **found}


if __name__ == "__main__":
    sys.exit(main())
