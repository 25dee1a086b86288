"""What an epoch costs: time, time spent waiting for data, and memory."""

import sys
import time
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False  # as in typing, whose import a training job need not pay
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


class Meter:
    """Counts the steps of a run and measures its epochs, on the clock that nobody sets.

    Attributes:
        step: steps since the run began.
    """

    def __init__(self) -> None:
        self.step = 0
        self._began: float | None = None
        # What lies between two epochs is evaluation, not waiting for data.
        self._ended: float | None = None
        self._begin_epoch()

    def go_on(self, step: int) -> None:
        """The run had *step* steps before this process; they are no steps of its first epoch."""
        self.step = self._first = step

    def steps(self, batches: "Iterable[T]") -> "Iterator[T]":
        """*batches*, each counted as a step: the time until it is there is waiting for data, the time until the next
        one is asked for is the step."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - asked
            self.step_began(waited=False)
            try:
                yield batch
            finally:
                self.step_ended()

    def step_began(self, *, waited: bool = True) -> None:
        """A step begins; the time since the last one ended was spent waiting for data, if *waited*."""
        now = time.perf_counter()
        if waited and self._ended is not None:
            self._waited += now - self._ended
        self._began = now

    def step_ended(self) -> None:
        """A step ends; one that nobody began is counted and takes no time."""
        self._ended = time.perf_counter()
        if self._began is not None:
            self._busy += self._ended - self._began
            self._timed += 1
        self._began = None
        self.step += 1

    def epoch(self) -> dict[str, object]:
        """What the epoch cost that ends now, as fields of its event; the next one begins."""
        found: dict[str, object] = {"seconds": round(time.perf_counter() - self._since, 6), **memory()}
        if self.step > self._first:
            found |= {"step": self.step, "steps": self.step - self._first}
        if self._timed:
            found |= {
                "step_seconds": round(self._busy / self._timed, 9),
                "data_wait_seconds": round(self._waited, 6),
            }
        self._begin_epoch()
        return found

    def _begin_epoch(self) -> None:
        self._since = time.perf_counter()
        self._first = self.step
        self._timed = 0
        self._busy = self._waited = 0.0
        self._began = self._ended = None


def memory() -> dict[str, object]:
    """The most memory that this process had at once since it began, on the host and, where torch has used one, on a
    GPU. torch is asked only where the job has loaded it, and never made to look for GPUs."""
    found: dict[str, object] = {}
    host = _host_peak()
    if host:
        found["host_peak_bytes"] = host
    gpu = _gpu_peak()
    if gpu is not None:
        found["gpu_peak_bytes"] = gpu
    return found


def _host_peak() -> int:
    # Not getrusage: a process inherits that from whoever started it, however large that was.
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file if line.startswith("VmHWM:")]
        return int(lines[0][1]) * 1024
    except (OSError, IndexError, ValueError):
        return 0


def _gpu_peak() -> int | None:
    torch = sys.modules.get("torch")
    try:
        cuda = torch.cuda  # type: ignore[union-attr]
        if not cuda.is_initialized():
            return None
        return max(int(cuda.max_memory_allocated(each)) for each in range(cuda.device_count()))
    except Exception:  # torch is not loaded, half loaded, or of a kind that has no GPUs
        return None
