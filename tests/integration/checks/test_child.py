"""The child process: bounded in memory, time, files and network, and gone when nobody waits for it."""

import asyncio
import contextlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from fleetcast.config.settings import VerifySettings
from fleetcast.events.content import Format
from fleetcast.transport.checks import FormatReport, Verdict, check_format
from fleetcast.transport.checks import parent as parent_module
from fleetcast.transport.errors import StoreError

Check = Callable[..., FormatReport]
MIB = 2**20


def npz(compressed: bool, **arrays: np.ndarray) -> bytes:
    made = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(made, **arrays)  # type: ignore[arg-type]
    return made.getvalue()


def zipped(name: str, data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, data)
    return made.getvalue()


# -- files of the other formats


def test_data_set_passes_and_is_described(check: Check) -> None:
    data = npz(True, features=np.zeros((1000, 8), np.float32), values=np.zeros(1000, np.float32))
    report = check(data, Format.NPZ, whole=True)
    assert report.verdict is Verdict.OK, report.detail
    assert report.facts["samples"] == 1000


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_and_flipped_data_sets_are_refused(check: Check, compressed: bool) -> None:
    data = npz(compressed, features=np.random.default_rng(1).random((500, 8)))
    assert check(data[:-30], Format.NPZ).verdict is Verdict.REFUSED
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    report = check(bytes(damaged), Format.NPZ, whole=True)
    assert report.verdict is Verdict.REFUSED


def test_safetensors_pass_and_truncated_or_flipped_ones_do_not(check: Check) -> None:
    from safetensors.numpy import save

    data = save({"w": np.random.default_rng(1).random((100, 100))})
    assert check(data, Format.SAFETENSORS).verdict is Verdict.OK
    assert check(data[:-1], Format.SAFETENSORS).verdict is Verdict.REFUSED
    at = data.index(b"[100")
    assert check(data[:at] + b"[900" + data[at + 4 :], Format.SAFETENSORS).verdict is Verdict.REFUSED


def test_onnx_model_passes_and_a_damaged_one_does_not(check: Check) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model = _add(onnx).SerializeToString()
    report = check(model, Format.ONNX)
    assert report.verdict is Verdict.OK, report.detail
    assert (report.facts["nodes"], report.facts["inputs"], report.facts["outputs"]) == (1, ["x"], ["y"])
    assert check(model[:-7], Format.ONNX).verdict is Verdict.REFUSED
    assert check(model.replace(b"Add", b"Bad"), Format.ONNX).verdict is Verdict.REFUSED
    assert check(b"hello world", Format.ONNX).verdict is Verdict.REFUSED


def test_onnx_model_needs_its_data_beside_it(check: Check, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    onnx.save(_add(onnx), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    report = check(tmp_path / "m.onnx")
    assert report.verdict is Verdict.OK, report.detail
    assert report.facts["external"] == ["m.data"]
    os.link(tmp_path / "m.data", tmp_path / "as-in-the-store")
    assert check(tmp_path / "m.onnx").verdict is Verdict.OK
    os.truncate(tmp_path / "m.data", 5)
    assert "too short" in check(tmp_path / "m.onnx").detail
    (tmp_path / "m.data").unlink()
    assert "not beside it" in check(tmp_path / "m.onnx").detail


def test_onnx_model_that_is_not_valid_is_refused_although_its_data_has_several_names(
    check: Check, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model = _add(onnx)
    model.graph.node[0].input[1] = "nobody"
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    os.link(tmp_path / "m.data", tmp_path / "as-in-the-store")
    assert "the model is not valid" in check(tmp_path / "m.onnx").detail


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"length": "8"}, "claims 8 bytes"),
        ({"length": "-7"}, "claims -7 bytes"),
        ({"offset": "-1"}, "from -1"),
        ({"offset": "many"}, "no number"),
        ({"offset": "1"}, "too short"),
    ],
)
def test_onnx_data_that_is_not_of_its_tensor_is_refused(
    check: Check, tmp_path: Path, entry: dict[str, str], said: str
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    (tmp_path / "m.data").write_bytes(bytes(4096 * 4))
    (tmp_path / "m.onnx").write_bytes(_external(onnx, location="m.data", **entry))
    assert said in check(tmp_path / "m.onnx").detail


def test_onnx_data_behind_a_linked_folder_is_refused(check: Check, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.data").write_bytes(bytes(4096 * 4))
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "m.onnx").write_bytes(_external(onnx, location="way/m.data"))
    assert "symbolic link" in check(tmp_path / "m.onnx").detail


def _external(onnx: Any, **entry: str) -> bytes:
    model = _add(onnx)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entry.items():
        tensor.external_data.add(key=key, value=value)
    written: bytes = model.SerializeToString()
    return written


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_onnx_data_outside_its_folder_is_refused(check: Check, tmp_path: Path, location: str) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    (tmp_path / "secret").write_bytes(b"x" * 10_000)
    model = _add(onnx)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.onnx").write_bytes(model.SerializeToString())
    assert "outside its folder" in check(tmp_path / "sub" / "m.onnx").detail


def _add(onnx: Any) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4096]) for n in "xy")
    weight = numpy_helper.from_array(np.ones(4096, np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]))


def test_pickle_is_accepted_untested_or_refused_by_policy(check: Check) -> None:
    data = pickle.dumps({"a": 1})
    accepted = check(data, Format.PICKLE)
    assert (accepted.verdict, accepted.detail) == (Verdict.NOT_TESTED, "pickle")
    refused = check(data, Format.PICKLE, pickle_policy="refuse")
    assert refused.verdict is Verdict.REFUSED
    assert "verify.pickle_policy" in refused.detail


def test_pickle_that_is_cut_off_is_refused(check: Check) -> None:
    assert check(pickle.dumps({"a": "b" * 100})[:-20], Format.PICKLE).verdict is Verdict.REFUSED


def test_opaque_file_is_not_tested_and_starts_nothing(check: Check) -> None:
    report = check(b"anything", Format.OPAQUE)
    assert (report.verdict, report.detail) == (Verdict.NOT_TESTED, "opaque")


# -- bombs: typed, quick, and small


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[Format, bytes]]:
    zeros = bytes(80 * MIB)
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    lying = header + b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }".ljust(117) + b"\n"
    deep = b"[" * 5_000_000
    return {
        "npz of zeros": (Format.NPZ, zipped("a.npy", zeros)),
        "npz that claims terabytes": (Format.NPZ, zipped("a.npy", lying)),
        "npz header of 256 MiB": (Format.NPZ, zipped("a.npy", b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b" " * (40 * MIB))),
        "torch file of zeros": (Format.TORCH, zipped("m/data.pkl", zeros)),
        "safetensors nested deeply": (Format.SAFETENSORS, struct.pack("<Q", len(deep)) + deep),
        "safetensors of a million names": (
            Format.SAFETENSORS,
            struct.pack("<Q", 30 * MIB) + b"{" + b'"a":{},' * (30 * MIB // 7) + b" " * 8,
        ),
        "pickle that claims exabytes": (Format.PICKLE, b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x."),
        "onnx that claims exabytes": (Format.ONNX, b"\x3a" + b"\xff" * 8 + b"\x7f" + b"x"),
    }


BOMBS = [
    "npz of zeros",
    "npz that claims terabytes",
    "npz header of 256 MiB",
    "torch file of zeros",
    "safetensors nested deeply",
    "safetensors of a million names",
    "pickle that claims exabytes",
    "onnx that claims exabytes",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb_is_refused_with_a_reason_and_little_memory(
    check: Check, bombs: dict[str, tuple[Format, bytes]], bomb: str
) -> None:
    format_, data = bombs[bomb]
    began = time.process_time() + _children_seconds()
    report = check(data, format_)
    used = time.process_time() + _children_seconds() - began
    assert report.verdict is Verdict.REFUSED
    assert report.detail
    assert used < 2.0, f"{used:.2f} s of processor time"


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def test_memory_limit_is_a_refusal_not_a_crash(check: Check) -> None:
    # A text of 200 MB in a header of the allowed size needs more than the least limit.
    text = b'{"a":"' + b"x" * 90_000_000 + b'"}'
    report = check(struct.pack("<Q", len(text)) + text, Format.SAFETENSORS, memory_bytes=256 * MIB)
    assert report.verdict is Verdict.REFUSED


def test_light_formats_are_tested_in_little_memory(check: Check, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.zeros((4096, 4096), np.float32)}, tmp_path / "m.safetensors")
    peak = _peak_kib(tmp_path / "m.safetensors", "safetensors")
    assert peak < 40 * 1024
    np.savez(tmp_path / "m.npz", features=np.zeros((4096, 4096), np.float32))
    assert _peak_kib(tmp_path / "m.npz", "npz") < 80 * 1024


def _peak_kib(path: Path, format_: str) -> int:
    """Largest resident size of a child, from the child's own accounts."""
    code = (
        "import json, os, resource, subprocess, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "request = dict(fd=fd, format=sys.argv[2], folder='/', memory_bytes=2**30, cpu_seconds=60)\n"
        "request |= dict(ratio=200, whole=False, nice=0)\n"
        "args = [sys.executable, '-I', '-B', '-m', 'fleetcast.transport.checks.child', json.dumps(request)]\n"
        "out = subprocess.run(args, pass_fds=[fd], check=True, capture_output=True).stdout\n"
        "assert json.loads(out)['verdict'] == 'ok', out\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    return int(subprocess.run([sys.executable, "-c", code, path, format_], check=True, capture_output=True).stdout)


# -- the confinement itself


def _probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, timeout_seconds: float = 20) -> FormatReport:
    """Run *body* in place of a test, in a child that is confined as always."""
    (tmp_path / "probe.py").write_text(
        "import json, os, sys\nfrom fleetcast.transport.checks import confine\n"
        "request = json.loads(sys.argv[1])\n"
        "facts = confine.confine(request['memory_bytes'], request['cpu_seconds'])\n"
        f"{body}\n"
        "print(json.dumps({'verdict': 'ok', 'detail': '', 'facts': facts}))\n"
    )
    real = asyncio.create_subprocess_exec

    def instead(*command: object, **more: object) -> object:
        assert command[3:5] == ("-m", "fleetcast.transport.checks.child")
        return real(command[0], *command[1:3], str(tmp_path / "probe.py"), command[5], **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", instead)
    (tmp_path / "file").write_bytes(b"x")
    return asyncio.run(
        check_format(tmp_path / "file", Format.SAFETENSORS, VerifySettings(timeout_seconds=timeout_seconds))
    )


def test_child_reaches_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        body = (
            "import socket\n"
            "try:\n"
            f"    socket.create_connection(('127.0.0.1', {port}), 2); facts['reached'] = True\n"
            "except OSError as e:\n"
            "    facts['reached'] = False\n"
        )
        report = _probe(monkeypatch, tmp_path, body)
    if "network" in report.facts:
        pytest.skip("this machine allows neither network nor user namespaces")
    assert report.facts["reached"] is False


def test_child_has_nothing_of_our_environment_and_writes_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    body = (
        "facts['environment'] = sorted(os.environ)\n"
        f"fd = os.open({str(tmp_path / 'written')!r}, os.O_CREAT | os.O_WRONLY)\n"
        "try:\n"
        "    os.write(fd, b'x')\n"
        "except OSError as e:\n"
        "    facts['error'] = e.strerror\n"
        "facts['stdin'] = sys.stdin.read()\n"
    )
    report = _probe(monkeypatch, tmp_path, body)
    assert report.facts["error"] == "File too large"
    assert report.facts["stdin"] == ""
    assert not {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "NATS_PASSWORD"} & set(report.facts["environment"])  # type: ignore[call-overload]


def test_child_may_not_gain_privileges_and_dies_with_its_parent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "facts['no_new_privs'] = libc.prctl(39, 0, 0, 0, 0)\n"
        "signal = ctypes.c_int()\nlibc.prctl(2, ctypes.byref(signal), 0, 0, 0)\nfacts['death'] = signal.value\n"
    )
    report = _probe(monkeypatch, tmp_path, body)
    assert (report.facts["no_new_privs"], report.facts["death"]) == (1, 9)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("print('nonsense'); sys.exit(0)", "ended with status 0"),
        ("sys.exit(3)", "ended with status 3"),
        ('print(\'{"verdict": "ok"}\'); sys.exit(0)', "ended with status 0"),
        ('print(\'{"verdict": "splendid", "detail": "", "facts": {}}\'); sys.exit(0)', "ended with status 0"),
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("sys.stderr.write('\\x1b[31mboom'); sys.exit(1)", "[31mboom"),
        ("raise SystemError('deep inside')", "deep inside"),
    ],
)
def test_child_that_says_anything_else_than_its_line_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, why: str
) -> None:
    report = _probe(monkeypatch, tmp_path, body)
    assert report.verdict is Verdict.REFUSED
    assert why in report.detail
    assert report.detail.isprintable()


def test_child_that_never_ends_is_killed_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began = time.monotonic()
    report = _probe(monkeypatch, tmp_path, "import time\ntime.sleep(100)", timeout_seconds=1)
    assert report.verdict is Verdict.REFUSED
    assert "took longer than" in report.detail
    assert time.monotonic() - began < 30


def test_child_that_burns_its_processor_time_is_killed_and_said_so() -> None:
    assert parent_module._ending(-24) == "used more processor time than it may"


@pytest.mark.asyncio
async def test_cancelling_the_caller_kills_the_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    (tmp_path / "file").write_bytes(struct.pack("<Q", 2) + b"{}")
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(100)\n")
    real = asyncio.create_subprocess_exec
    started: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()

    async def instead(*command: object, **more: object) -> asyncio.subprocess.Process:
        child = await real(str(command[0]), str(slow), **more)  # type: ignore[arg-type]
        started.set_result(child)
        return child

    monkeypatch.setattr(asyncio, "create_subprocess_exec", instead)
    task = asyncio.create_task(check_format(tmp_path / "file", Format.SAFETENSORS, VerifySettings()))
    child = await started
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(child.pid)


@pytest.mark.asyncio
async def test_descriptor_is_not_left_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(struct.pack("<Q", 2) + b"{}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        await check_format(tmp_path / "file", Format.SAFETENSORS, VerifySettings())
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "make", [lambda p: p.symlink_to("/etc/passwd"), os.mkfifo, lambda p: p.mkdir(), lambda p: None]
)
async def test_what_is_no_plain_file_is_not_opened(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "file")
    with pytest.raises(StoreError):
        await check_format(tmp_path / "file", Format.SAFETENSORS, VerifySettings())


@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_node_without_the_library_tests_the_structure_and_says_so(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    from fleetcast.transport.checks import onnx_file, torch_file
    from fleetcast.transport.checks.child import Task

    path = tmp_path / "m"
    if library == "torch":
        pytest.importorskip("torch").save({"w": [1, 2]}, path)
        run = torch_file.test
    else:
        path.write_bytes(_add(pytest.importorskip("onnx")).SerializeToString())
        run = onnx_file.test
    monkeypatch.setattr(util, "find_spec", lambda _name: None)
    with path.open("rb") as file:
        assert run(Task(file, path.stat().st_size, str(tmp_path), 200.0, True, {})) == f"without {library}"
