"""Files of torch: what loads as weights passes, everything else is refused, and nothing in them ever runs."""

import io
import os
import pickle
import pkgutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetcast.events.content import Format
from fleetcast.transport.checks import FormatReport, Verdict

torch = pytest.importorskip("torch", reason="torch is not installed")
Check = Callable[..., FormatReport]


def saved(value: Any, **more: Any) -> bytes:
    made = io.BytesIO()
    torch.save(value, made, **more)
    return made.getvalue()


@pytest.fixture(scope="module")
def weights() -> bytes:
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64))
    return saved({"model": model.state_dict(), "epoch": 7})


def with_pickle(weights: bytes, replaced: bytes) -> bytes:
    """The archive with another program in its data.pkl."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(weights)) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            data = replaced if member.filename.endswith("/data.pkl") else old.read(member)
            new.writestr(member.filename, data)
    return made.getvalue()


def test_checkpoint_of_weights_passes_and_is_described(check: Check, weights: bytes) -> None:
    report = check(weights, Format.TORCH, whole=True)
    assert report.verdict is Verdict.OK, report.detail
    assert report.detail == ""
    assert report.facts["tensors"] == 7
    assert report.facts["parameters"] == 64 * 64 + 64 + 4 * 64 + 1
    assert "network" not in report.facts


def test_weights_of_all_kinds_pass_in_one_file(check: Check) -> None:
    layer = torch.nn.Linear(8, 8)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    base = torch.arange(100.0)
    many = {
        "optimizer": optimizer.state_dict(),
        "views": [base[10:20], base.view(10, 10).t()],
        "types": [torch.zeros(3, dtype=d) for d in (torch.bfloat16, torch.bool, torch.int8, torch.complex64)],
        "sparse": torch.eye(3).to_sparse(),
        "nothing": torch.zeros(0, 4),
        "parameter": layer.weight,
        "plain": {"size": torch.Size([1, 2]), "dtype": torch.float16, "set": {1, 2}, "none": None},
    }
    report = check(saved(many), Format.TORCH)
    assert report.verdict is Verdict.OK, report.detail


def test_weights_saved_from_a_gpu_are_tested_without_one(check: Check, weights: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(weights)) as old:
        program = old.read("archive/data.pkl")
    assert b"cpuq" in program
    moved = program.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert check(with_pickle(weights, moved), Format.TORCH).verdict is Verdict.OK


def test_truncated_file_is_refused(check: Check, weights: bytes) -> None:
    report = check(weights[: len(weights) // 2], Format.TORCH)
    assert report.verdict is Verdict.REFUSED
    assert "cut off" in report.detail


def test_flipped_byte_that_torch_loads_without_a_word_is_found_at_the_origin(check: Check, weights: bytes) -> None:
    damaged = bytearray(weights)
    damaged[weights.index(b"archive/data/0") + 4000] ^= 1
    torch.load(io.BytesIO(bytes(damaged)), weights_only=True)
    assert check(bytes(damaged), Format.TORCH).verdict is Verdict.OK
    report = check(bytes(damaged), Format.TORCH, whole=True)
    assert report.verdict is Verdict.REFUSED
    assert "CRC" in report.detail


def test_compressed_member_is_refused(check: Check, weights: bytes) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(weights)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    torch.load(io.BytesIO(made.getvalue()), weights_only=True)
    report = check(made.getvalue(), Format.TORCH)
    assert report.verdict is Verdict.REFUSED
    assert "compressed" in report.detail


def test_tensor_that_claims_more_than_its_bytes_is_refused(check: Check, weights: bytes) -> None:
    bomb = saved({"w": torch.zeros(1).expand(10**9)})
    assert len(bomb) < 3000
    report = check(bomb, Format.TORCH)
    assert report.verdict is Verdict.REFUSED
    assert "claim 4000000000 bytes" in report.detail


def test_storage_that_reaches_into_others_is_refused(check: Check) -> None:
    good = saved({"w": torch.zeros(100)}, _disable_byteorder_record=False)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        program = archive.read("archive/data.pkl")
    assert program.count(b"Kd") >= 1
    longer = with_pickle(good, program.replace(b"Kd", b"K\xc8"))
    report = check(longer, Format.TORCH)
    assert report.verdict is Verdict.REFUSED


def test_whole_module_is_refused_with_what_to_save_instead(check: Check) -> None:
    report = check(saved(torch.nn.Linear(2, 2)), Format.TORCH)
    assert report.verdict is Verdict.REFUSED
    assert "model.state_dict()" in report.detail


def test_torchscript_is_a_program_and_not_tested(check: Check, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "m.pt")
    report = check(tmp_path / "m.pt")
    assert (report.verdict, report.detail) == (Verdict.NOT_TESTED, "torchscript")


def test_file_of_old_torch_is_a_pickle_and_not_tested(check: Check, tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    report = check(tmp_path / "m.pt")
    assert (report.verdict, report.detail) == (Verdict.NOT_TESTED, "pickle")
    assert "torch._utils _rebuild_tensor_v2" in report.facts["imports"]  # type: ignore[operator]
    declared = check(tmp_path / "m.pt", Format.TORCH)
    assert (declared.verdict, declared.detail) == (Verdict.NOT_TESTED, "pickle")


class Attack:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self._reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


def attacks(sentinel: Path) -> dict[str, bytes]:
    """Programs that make the sentinel appear when they are run."""
    touch = f"touch {sentinel}"
    call = bytes([len(touch)]) + touch.encode() + b"\x85R."
    return {
        "os.system": pickle.dumps(Attack(os.system, touch), 2),
        "os.popen": pickle.dumps(Attack(os.popen, touch), 2),
        "eval": pickle.dumps(Attack(eval, f"open({str(sentinel)!r}, 'w')"), 2),
        "os.system by resolve_name": pickle.dumps(Attack(pkgutil.resolve_name, "os:system"), 2)[:-1] + b"U" + call,
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + call,
        "STACK_GLOBAL through the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93\x8c" + call,
        "STACK_GLOBAL with a decoy": b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x05torch\x8c\x04Size00\x93\x8c" + call,
        "dotted name in torch": b"\x80\x04\x8c\x0ctorch._utils\x8c\x09os.system\x93\x8c" + call,
        "module that torch imports": b"\x80\x02ctorch.hub\nos\n.",
        "INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
    }


@pytest.mark.parametrize("forced", [False, True], ids=["", "unsafe loading forced by the environment"])
@pytest.mark.parametrize("attack", sorted(attacks(Path("/nowhere"))))
def test_program_in_a_torch_file_never_runs(
    check: Check, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, forced: bool
) -> None:
    sentinel = tmp_path / "sentinel"
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    report = check(with_pickle(weights, attacks(sentinel)[attack]), Format.TORCH)
    assert report.verdict is Verdict.REFUSED
    assert not sentinel.exists()


def test_the_sentinel_does_appear_when_such_a_file_is_loaded_carelessly(weights: bytes, tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    torch.load(io.BytesIO(with_pickle(weights, attacks(sentinel)["os.system"])), weights_only=False)
    assert sentinel.exists()


@pytest.mark.parametrize("attack", sorted(attacks(Path("/nowhere"))))
def test_program_in_a_pickle_never_runs_and_its_imports_are_reported(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    sentinel = tmp_path / "sentinel"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    report = check(attacks(sentinel)[attack], Format.PICKLE)
    assert (report.verdict, report.detail) == (Verdict.NOT_TESTED, "pickle")
    assert report.facts["imports"]
    assert not sentinel.exists()
