"""What an epoch costs."""

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fleetcast.client.meter import Meter, memory


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("fleetcast.client.meter.time.perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_time_of_steps_and_time_spent_waiting_for_data_are_told_apart(clock: Clock) -> None:
    meter = Meter()

    def loader() -> Any:
        for number in range(4):
            clock.now += 3.0
            yield number

    for _ in meter.steps(loader()):
        clock.now += 0.5
    clock.now += 1.0
    found = meter.epoch()
    assert (found["seconds"], found["steps"], found["step"]) == (15.0, 4, 4)
    assert (found["step_seconds"], found["data_wait_seconds"]) == (0.5, 12.0)


def test_every_epoch_is_measured_anew_and_steps_go_on(clock: Clock) -> None:
    meter = Meter()
    for _ in range(2):
        for _ in meter.steps(range(3)):
            clock.now += 1.0
        found = meter.epoch()
    assert (found["seconds"], found["steps"], found["step"], found["step_seconds"]) == (3.0, 3, 6, 1.0)


def test_loop_that_is_left_early_counts_the_step_that_it_left_in(clock: Clock) -> None:
    meter = Meter()
    for batch in meter.steps(range(10)):
        clock.now += 1.0
        if batch == 2:
            break
    assert meter.epoch()["steps"] == 3


def test_error_of_the_jobs_own_loader_is_the_jobs(clock: Clock) -> None:
    def broken() -> Any:
        yield 1
        raise OSError("a shard is gone")

    with pytest.raises(OSError, match="a shard is gone"):
        list(Meter().steps(broken()))


def test_callbacks_of_a_trainer_measure_the_same_and_evaluation_is_no_wait(clock: Clock) -> None:
    meter = Meter()
    for _ in range(2):
        for _ in range(3):
            clock.now += 2.0  # the trainer fetches
            meter.step_began()
            clock.now += 1.0
            meter.step_ended()
        clock.now += 50.0  # the trainer evaluates
        found = meter.epoch()
    # What lies before the first step of an epoch cannot be told from evaluation.
    assert (found["step_seconds"], found["data_wait_seconds"]) == (1.0, 4.0)


def test_epoch_without_steps_says_only_how_long_it_took(clock: Clock) -> None:
    meter = Meter()
    clock.now += 2.0
    found = meter.epoch()
    assert found["seconds"] == 2.0
    assert not {"steps", "step", "step_seconds", "data_wait_seconds"} & set(found)


def test_wall_clock_that_jumps_changes_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: -1e9)
    found = Meter().epoch()
    assert 0 <= found["seconds"] < 60  # type: ignore[operator]


def test_peak_of_the_host_is_that_of_this_process_and_not_of_its_parent() -> None:
    script = "from fleetcast.client.meter import memory; print(memory()['host_peak_bytes'])"
    fat = f"b = bytearray(400_000_000); import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    out = subprocess.run([sys.executable, "-c", fat], capture_output=True, text=True, check=True).stdout
    assert 2**20 < int(out) < 200_000_000


def torch(*, used: bool, peaks: tuple[int, ...] = (), broken: bool = False) -> types.ModuleType:
    """As much of torch as is asked."""
    module = types.ModuleType("torch")

    def peak(device: int) -> int:
        if broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return peaks[device]

    module.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        is_initialized=lambda: used, device_count=lambda: len(peaks), max_memory_allocated=peak
    )
    return module


@pytest.mark.parametrize(
    ("module", "peak"),
    [
        (torch(used=True, peaks=(5, 7)), 7),
        (torch(used=False, peaks=(5, 7)), None),
        (torch(used=True, peaks=(5,), broken=True), None),
        (types.ModuleType("torch"), None),
        (None, None),
    ],
)
def test_peak_of_a_gpu_is_asked_only_where_the_job_uses_one(
    monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None, peak: int | None
) -> None:
    monkeypatch.setitem(sys.modules, "torch", module)
    assert memory().get("gpu_peak_bytes") == peak


def test_torch_is_never_loaded_for_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('imported')")
    script = "import sys\nfrom fleetcast.client.meter import memory\nmemory()\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
