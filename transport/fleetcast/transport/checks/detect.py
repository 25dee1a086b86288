"""Which test fits a file: by suffix where the suffix decides, by the first bytes otherwise."""

from pathlib import Path

from fleetcast.events.content import Format

ZIP = b"PK\x03\x04"
_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".ckpt"})
_BY_SUFFIX = {
    ".safetensors": Format.SAFETENSORS,
    ".npz": Format.NPZ,
    ".onnx": Format.ONNX,
    ".pkl": Format.PICKLE,
    ".pickle": Format.PICKLE,
    ".joblib": Format.PICKLE,
}
_LOCAL_HEADER = 30
"""Bytes of a local file header before the name of the first member (APPNOTE 4.3.7)."""


def detect(path: Path, name: str) -> Format:
    """Return the format; a file of a telling suffix keeps it even when it is damaged, so that its test refuses it."""
    suffix = Path(name).suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    with path.open("rb") as file:
        head = file.read(512)
    found = _by_magic(head)
    if suffix in _TORCH_SUFFIXES:
        # Files of torch before 1.6 are plain pickles: nobody can prove them loadable without running them.
        return found if found is Format.PICKLE else Format.TORCH
    return found


def is_telling(name: str) -> bool:
    """Whether a file of this name has a format test of its own, whatever its first bytes are."""
    return Path(name).suffix.lower() in _BY_SUFFIX.keys() | _TORCH_SUFFIXES


def _by_magic(head: bytes) -> Format:
    if head.startswith(ZIP):
        return _by_first_member(head)
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return Format.PICKLE
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**27:
        return Format.SAFETENSORS
    return Format.OPAQUE


def _by_first_member(head: bytes) -> Format:
    length = int.from_bytes(head[26:28], "little")
    member = head[_LOCAL_HEADER : _LOCAL_HEADER + length]
    if member.endswith(b".npy"):
        return Format.NPZ
    return Format.TORCH if member.endswith(b"/data.pkl") else Format.OPAQUE
