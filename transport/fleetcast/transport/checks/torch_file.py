"""Files of torch.save: an archive of one pickle and raw storages, loaded without materialising a tensor.

Three walls: the archive's rules (stored members only, so that nothing inflates); an allow-list over the opcodes of the
pickle; then `torch.load(weights_only=True, mmap=True)` where torch is installed, which maps storages and reads none.
torch itself compares no CRC: it loads a flipped byte without a word (measured), so loading is no proof of integrity.
"""

import io
import pickle
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib import metadata, util

from fleetcast.transport.checks import opcodes
from fleetcast.transport.checks.archive import BOMB_FLOOR_BYTES, check_crc, open_archive
from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.pickle_file import note
from fleetcast.transport.checks.report import RefusedFile, UntestedFile

SAFE_TORCH = (2, 10)
"""Older versions ran code in spite of weights_only=True (CVE-2025-32434, CVE-2026-24747)."""
MAX_PICKLE_BYTES = 256 * 2**20
MAX_VALUES = 2_000_000
"""Values of a state dict that are looked at."""
_ALLOWED_MODULES = ("torch", "collections", "numpy", "_codecs")
_ALLOWED_BUILTINS = frozenset(
    {"set", "frozenset", "complex", "bytearray", "slice", "range", "int", "float", "bool", "str"}
)


def test(task: Task) -> str:
    """Test a torch file; the facts are `imports`, `tensors`, `parameters`, `bytes` and `dtypes`.

    Raises:
        RefusedFile: see the package.
        UntestedFile: it is a plain pickle (torch before 1.6) or TorchScript, which is a program.
    """
    if task.file.read(1) == b"\x80":
        _test_legacy(task)
    archive = open_archive(task.file, task.size, task.ratio)
    root = _root(archive)
    if _is_script(archive, root):
        raise UntestedFile("torchscript")
    _check_stored(archive)
    _check_opcodes(archive, f"{root}/data.pkl", task.facts)
    if task.whole:
        check_crc(archive)
    return _load(task, _storages(archive, root))


def _test_legacy(task: Task) -> None:
    task.file.seek(0)
    note(opcodes.scan_all(task.file), task.facts)
    raise UntestedFile("pickle")


def _check_stored(archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise RefusedFile(f"member {member.filename!r} is compressed; torch writes none, and it could inflate")


def _root(archive: zipfile.ZipFile) -> str:
    """The folder of the archive that everything lies in."""
    names = archive.namelist()
    pickles = [n for n in names if n.count("/") == 1 and n.endswith("/data.pkl")]
    roots = {n.partition("/")[0] for n in names}
    if len(pickles) != 1 or len(roots) != 1:
        raise RefusedFile("it has not one data.pkl in one folder, as files of torch.save do")
    return roots.pop()


def _is_script(archive: zipfile.ZipFile, root: str) -> bool:
    return any(n == f"{root}/constants.pkl" or n.startswith(f"{root}/code/") for n in archive.namelist())


def _check_opcodes(archive: zipfile.ZipFile, name: str, facts: dict[str, object]) -> None:
    member = archive.getinfo(name)
    if member.file_size > MAX_PICKLE_BYTES:
        raise RefusedFile(f"its data.pkl has {member.file_size} bytes")
    try:
        found = opcodes.scan(io.BytesIO(archive.read(member)))
    except zipfile.BadZipFile as damaged:
        raise RefusedFile(f"its data.pkl is damaged: {damaged}") from damaged
    note(found, facts)
    if found.damage:
        raise RefusedFile(f"its data.pkl is damaged: {found.damage}")
    foreign = [n for n in found.names if not _is_allowed(n)]
    if foreign:
        raise RefusedFile(
            f"it would import {', '.join(foreign[:5])}, which no weights need; save model.state_dict() instead"
        )


def _is_allowed(name: str) -> bool:
    """Whether an import can belong to weights; torch's own, narrower list is held against it afterwards."""
    module, _, attribute = name.partition(" ")
    if module in {"builtins", "__builtin__"}:
        return attribute in _ALLOWED_BUILTINS
    return "." not in attribute and module.partition(".")[0] in _ALLOWED_MODULES


def _storages(archive: zipfile.ZipFile, root: str) -> Counter[int]:
    """Sizes of the raw storages, bytes."""
    return Counter(m.file_size for m in archive.infolist() if m.filename.startswith(f"{root}/data/"))


def _load(task: Task, storages: Counter[int]) -> str:
    """Load with torch, where it is there and safe."""
    if util.find_spec("torch") is None:
        return "without torch"
    installed = metadata.version("torch")
    if _numbers(installed) < SAFE_TORCH:
        return f"without torch: {installed} is not safe to load with"
    _load_mapped(task, storages)
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _load_mapped(task: Task, storages: Counter[int]) -> None:
    import torch

    try:
        loaded = torch.load(task.path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as unsafe:
        raise RefusedFile(f"it holds more than weights; save model.state_dict() instead: {_reason(unsafe)}") from unsafe
    tensors = [v for v in _values(loaded) if isinstance(v, torch.Tensor)]
    dense = [t for t in tensors if t.layout is torch.strided and not t.is_quantized]
    _check_storages({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in dense)}, storages)
    _check_expansion(sum(t.numel() * t.element_size() for t in dense), task)
    task.facts["tensors"] = len(tensors)
    task.facts["parameters"] = sum(t.numel() for t in tensors)
    task.facts["dtypes"] = dict(Counter(str(t.dtype).removeprefix("torch.") for t in tensors))
    task.facts["bytes"] = sum(storages.elements())


def _check_storages(claimed: dict[int, int], storages: Counter[int]) -> None:
    """Hold the storages that tensors claim, by address, against those that the archive holds."""
    beyond = Counter(n for n in claimed.values() if n) - storages
    if beyond:
        raise RefusedFile(f"tensors claim storages of {sorted(beyond)[:5]} bytes that the archive does not hold")


def _check_expansion(unpacked: int, task: Task) -> None:
    """A tensor with stride 0 shows few bytes a million times; whoever copies it needs memory for all of them."""
    if unpacked > max(BOMB_FLOOR_BYTES, task.ratio * task.size):
        raise RefusedFile(f"its tensors claim {unpacked} bytes, {unpacked / task.size:.0f} times its size")


def _reason(fault: Exception) -> str:
    """The sentence that matters, out of a page of advice on how to load it all the same."""
    text = str(fault)
    return (text.partition("WeightsUnpickler error: ")[2] or text).strip().partition("\n")[0][:300]


def _values(root: object) -> Iterator[object]:
    """Every value in nested containers, each container once."""
    waiting, seen = [root], set[int]()
    while waiting and len(seen) < MAX_VALUES:
        value = waiting.pop()
        yield value
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
        if inner and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(inner)
