"""What is read of the kernel's messages."""

import time
from pathlib import Path

from fleetcast.daemons.trainer.faults import kernel

XID = "NVRM: Xid (PCI:0000:65:00): 79, pid=1, GPU has fallen off the bus."
AMD = "amdgpu 0000:03:00.0: amdgpu: GPU reset begin!"


def record(seconds_ago: float, text: str) -> str:
    at = int((time.clock_gettime(time.CLOCK_MONOTONIC) - seconds_ago) * 1e6)
    return f"3,1234,{at},-;{text}\n SUBSYSTEM=pci\n"


def test_only_what_is_about_gpus_or_memory_and_from_then_on_is_read(tmp_path: Path) -> None:
    place = tmp_path / "kmsg"
    place.write_text(
        record(500, "NVRM: Xid old") + record(5, XID) + record(4, "usb 1-1: new device") + "rubbish;\n;;\n"
    )

    assert kernel.read(60, path=place) == (XID,)


def test_where_the_kernel_may_not_be_read_there_is_nothing(tmp_path: Path) -> None:
    assert kernel.read(60, path=tmp_path / "none") == ()


def test_the_fault_of_another_gpu_is_not_this_runs() -> None:
    lines = (XID, AMD, "Out of memory: Killed process 12 (python)")

    assert kernel.of_gpus(lines, ["00000000:65:00.0"]) == (XID, lines[2])
    assert kernel.of_gpus(lines, ["0000:03:00.0"]) == (AMD, lines[2])
    assert kernel.of_gpus(lines, ["0000:41:00.0"]) == (lines[2],)
    assert kernel.of_gpus(lines, []) == lines
