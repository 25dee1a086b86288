"""What kind of fault an end is: by the words, the signal and the kernel, each with its evidence."""

import signal

import pytest
from tests.unit.trainer.faults.builders import ABORTED, APERTURE, ended

from fleetcast.daemons.trainer.faults.classify import classify
from fleetcast.daemons.trainer.faults.signatures import parse, signatures
from fleetcast.events.runs import FaultClass
from fleetcast.events.training import Remedy

C, R = FaultClass, Remedy

SAID = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.", C.OOM, "GPU out of memory", True),
    ("RuntimeError: HIP out of memory. Tried to allocate 2 GiB", C.OOM, "GPU out of memory", True),
    ("Memory access fault by GPU node-1 (Agent handle: 0x55) on address 0x7f. Reason: Page not present", C.HARDWARE,
     "ROCm memory access fault", True),
    ("RuntimeError: HIP error: invalid device function", C.HARDWARE, "no code for this GPU", True),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device", C.HARDWARE,
     "no code for this GPU", True),
    ("HSA_STATUS_ERROR_OUT_OF_RESOURCES: The runtime failed to allocate", C.OOM, "HSA_STATUS_ERROR_OUT_OF_RESOURCES",
     True),
    ("HSA_STATUS_ERROR_EXCEPTION: An HSAIL operation resulted in a hardware exception. code: 0x1016", C.HARDWARE,
     "HSA_STATUS_ERROR_EXCEPTION", True),
    ("RuntimeError: CUDA error: uncorrectable ECC error encountered", C.HARDWARE, "uncorrectable ECC error", True),
    ("RuntimeError: No CUDA GPUs are available", C.HARDWARE, "GPU is not there", True),
    ("RuntimeError: CUDA error: device-side assert triggered", C.CODE, "CUDA error: device-side assert triggered",
     False),
    ("OSError: [Errno 28] No space left on device: '/c/x.pt'", C.HARDWARE, "disk full", False),
    ("OSError: [Errno 30] Read-only file system: '/c'", C.HARDWARE, "disk error", False),
    ("MemoryError", C.OOM, "host out of memory", False),
    ("zipfile.BadZipFile: Bad CRC-32 for file 'x.npy'", C.DATA, "BadZipFile", False),
    ("json.decoder.JSONDecodeError: Expecting value: line 1", C.DATA, "JSONDecodeError", False),
    ("RuntimeError: size mismatch for head.weight: copying a param", C.DATA, "samples of the wrong shape", False),
    ("ModuleNotFoundError: No module named 'hex'", C.CODE, "ModuleNotFoundError", False),
    ("mypkg.errors.TrainingError: loss is nan", C.CODE, "TrainingError", False),
    ("AssertionError", C.CODE, "AssertionError", False),
    ("train.py: error: unrecognized arguments: --epochs", C.CODE, "command fails", False),
]  # fmt: skip


@pytest.mark.parametrize(("words", "fault_class", "signature", "gpu"), SAID, ids=[each[0][:40] for each in SAID])
def test_last_words_name_the_fault(words: str, fault_class: FaultClass, signature: str, gpu: bool) -> None:
    fault = classify(ended("Traceback (most recent call last):", '  File "train.py", line 3', words))

    assert (fault.fault_class, fault.signature, fault.gpu) == (fault_class, signature, gpu)
    assert fault.evidence["line"] == words
    assert fault.guidance


def test_an_aperture_violation_is_the_gpus_fault_and_keeps_the_node_from_runs() -> None:
    fault = classify(ended(*ABORTED, signal=signal.SIGABRT))

    assert (fault.fault_class, fault.signature, fault.remedy, fault.gpu) == (C.HARDWARE, APERTURE, R.ELSEWHERE, True)
    assert fault.quarantine.total_seconds() == 3600
    assert fault.evidence["signal"] == "SIGABRT"
    assert "code: 0x29" in fault.evidence["line"]
    assert "HSA_OVERRIDE_GFX_VERSION" in fault.guidance


def test_an_abort_alone_is_not_taken_for_an_aperture_violation() -> None:
    # The variant that would go by the signal: a failed assertion in any library aborts just so.
    fault = classify(
        ended("terminate called after throwing an instance of 'std::runtime_error'", signal=signal.SIGABRT)
    )

    assert (fault.fault_class, fault.signature, fault.gpu) == (C.UNKNOWN, "SIGABRT", False)
    assert not fault.quarantine


XIDS = [
    (79, C.HARDWARE, 720), (48, C.HARDWARE, 720), (74, C.HARDWARE, 720), (95, C.HARDWARE, 120), (119, C.HARDWARE, 120),
    (13, C.CODE, 0), (31, C.CODE, 0), (94, C.CODE, 0),
]  # fmt: skip


@pytest.mark.parametrize(("number", "fault_class", "minutes"), XIDS)
def test_xids_of_the_kernel_are_told_apart(number: int, fault_class: FaultClass, minutes: int) -> None:
    line = f"NVRM: Xid (PCI:0000:65:00): {number}, pid=4711, name=python, Ch 00000008"
    fault = classify(ended("RuntimeError: something", code=1), [line])

    assert fault.fault_class is fault_class
    assert fault.quarantine.total_seconds() == 60 * minutes


@pytest.mark.parametrize("number", [43, 63, 92, 121, 790, 9])
def test_xids_that_mean_nothing_are_no_fault(number: int) -> None:
    line = f"NVRM: Xid (PCI:0000:65:00): {number}, pid=4711"

    assert classify(ended("ValueError: x"), [line]).signature == "ValueError"


def test_a_gpu_that_fell_off_the_bus_explains_what_the_job_said_then() -> None:
    lines = ["NVRM: GPU at PCI:0000:65:00: GPU-abc", "NVRM: Xid (PCI:0000:65:00): 79, GPU has fallen off the bus."]
    fault = classify(ended("RuntimeError: CUDA error: unspecified launch failure"), lines)

    assert fault.signature == "Xid 79"


def test_running_out_of_gpu_memory_is_not_an_error_of_the_code() -> None:
    # Both patterns find it; the table's order makes the one that names the cause count.
    words = "torch.OutOfMemoryError: CUDA out of memory."
    assert classify(ended(words)).fault_class is C.OOM
    turned = list(reversed(signatures()))
    assert classify(ended(words), table=turned).fault_class is C.CODE


def test_the_kernel_killing_the_job_is_want_of_memory_and_a_kill_alone_is_not_known() -> None:
    killed = ended("epoch 1", signal=signal.SIGKILL)
    lines = ["Out of memory: Killed process 4711 (python) total-vm:1kB"]

    assert classify(killed, lines).fault_class is C.OOM
    assert classify(killed).fault_class is C.UNKNOWN
    assert classify(killed).remedy is R.ELSEWHERE


@pytest.mark.parametrize(
    ("reason", "fault_class", "remedy"),
    [
        ("stopped", C.PREEMPTED, R.ELSEWHERE),
        ("time_limit", C.CODE, R.NEVER),
        ("lost", C.CONTROL_PLANE, R.HERE),
        ("could_not_start", C.UNKNOWN, R.ELSEWHERE),
    ],
)
def test_what_the_supervisor_knows_counts_before_what_was_printed(
    reason: str, fault_class: FaultClass, remedy: Remedy
) -> None:
    fault = classify(ended("ValueError: said long ago", code=None, reason=reason, detail="why"))

    assert (fault.fault_class, fault.remedy) == (fault_class, remedy)
    assert fault.evidence["detail"] == "why"


def test_a_shell_in_between_does_not_hide_the_signal() -> None:
    assert classify(ended("x", code=134)).signature == "SIGABRT"
    assert classify(ended("x", code=137)).signature == "SIGKILL"
    assert classify(ended("x", code=3)).signature == "exit 3"


def test_a_job_that_says_nothing_or_rubbish_is_a_fault_all_the_same() -> None:
    assert classify(ended(code=1)).reason == "exit 1: nothing on its stderr"
    noise = classify(ended(*["\ufffd" * 5000] * 40, code=1))
    assert noise.fault_class is C.UNKNOWN
    assert len(str(noise.evidence)) < 5000


def test_a_success_is_no_fault() -> None:
    with pytest.raises(ValueError, match="no fault"):
        classify(ended(code=0))


def test_every_signature_says_what_it_means_and_where_that_is_from() -> None:
    assert len(signatures()) > 20
    for each in signatures():
        assert each.guidance, each.name
        assert "\n" not in each.guidance, each.name
        assert each.source, each.name
        assert each.remedy is not R.CPU


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("(79)", "(79"), "unterminated"),
        (('where = "kernel"', 'where = "dmesg"'), "neither stderr nor kernel"),
        (('class = "hardware"', 'class = "bad luck"'), "bad luck"),
        (('remedy = "elsewhere"', 'remedy = "cpu"'), "gpu = true"),
    ],
)
def test_a_mistake_in_the_table_is_named(change: tuple[str, str], said: str) -> None:
    good = """[[signature]]
name = "Xid {1}"
pattern = 'Xid: (79)'
where = "kernel"
class = "hardware"
remedy = "elsewhere"
gpu = true
quarantine_minutes = 1
guidance = "g"
source = "s"
"""
    assert parse(good)[0].name == "Xid {1}"
    with pytest.raises(ValueError, match=rf"signature 1 .*: .*{said}"):
        parse(good.replace(*change, 1))
