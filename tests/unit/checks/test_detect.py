"""Which test fits a file."""

import io
import zipfile
from pathlib import Path

import pytest

from fleetcast.transport.checks import detect_format


def zipped(name: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, b"x")
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("m.pt", zipped("m/data.pkl"), "torch"),
        ("m.pth", b"torn", "torch"),
        ("m.CKPT", zipped("m/data.pkl"), "torch"),
        ("m.pt", b"\x80\x02\x8a\nl\xfc", "pickle"),
        ("m.safetensors", b"torn", "safetensors"),
        ("m.npz", b"torn", "npz"),
        ("m.onnx", b"torn", "onnx"),
        ("m.pkl", b"torn", "pickle"),
        ("m.joblib", b"torn", "pickle"),
        ("weights", zipped("m/data.pkl"), "torch"),
        ("samples", zipped("a.npy"), "npz"),
        ("weights", b"\x10\0\0\0\0\0\0\0" + b'{"a":{}}', "safetensors"),
        ("weights", b"\x80\x04\x95", "pickle"),
        ("code.jar", zipped("META-INF/MANIFEST.MF"), "opaque"),
        ("readme.txt", b"hello", "opaque"),
        ("x", b"x", "opaque"),
    ],
)
def test_format_is_told_by_suffix_then_by_first_bytes(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert detect_format(tmp_path / name) == expected


def test_name_of_a_blob_can_be_given(tmp_path: Path) -> None:
    (tmp_path / ("0" * 64)).write_bytes(b"torn")
    assert detect_format(tmp_path / ("0" * 64), name="m.npz") == "npz"
