"""NPZ files, by their headers: shapes, types and sizes are true, and no array is materialised.

An NPZ is a ZIP archive of `.npy` members (numpy/lib/format.py). `np.load` believes a header that claims 7 TiB; here the
claimed size has to be the real one, in integers that cannot overflow.
"""

import io
import math
import zipfile
import zlib
from collections import Counter

from numpy.lib import format as npy

from fleetcast.transport.checks.archive import check_crc, open_archive
from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.report import RefusedFile

MAX_HEADER_BYTES = 64 * 1024
"""numpy reads at most 10,000 characters unless it is told to trust the file."""
MAX_LISTED = 64
"""Arrays whose shapes are reported."""
SAMPLE_NAMES = frozenset(
    {"x", "y", "features", "inputs", "states", "observations", "labels", "targets", "values", "policies"}
)
"""Arrays of these names have one entry per sample; when they differ in length, samples are missing somewhere."""


class Array:
    """One array by its header: `shape`, `dtype` as text."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = dtype


def test(task: Task) -> str:
    """Test an NPZ file; the facts are `arrays`, `samples`, `named`, `lengths` and `unequal`: the number of samples,
    whether arrays said so by their names, the lengths that occur, and the arrays that have another one.

    Raises:
        RefusedFile: see the package.
    """
    archive = open_archive(task.file, task.size, task.ratio)
    arrays = {m.filename.removesuffix(".npy"): _array(archive, m) for m in archive.infolist() if _is_array(m)}
    if not arrays:
        raise RefusedFile("it holds no array")
    listed = list(arrays.items())[:MAX_LISTED]
    task.facts["arrays"] = {name[:200]: {"shape": list(a.shape), "dtype": a.dtype} for name, a in listed}
    task.facts["members"] = len(arrays)
    _count_samples(arrays, task.facts)
    if task.whole:
        check_crc(archive)
    return ""


def _is_array(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith(".npy")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Read one header and hold it against the size in the directory."""
    try:
        with archive.open(member) as opened:
            head = io.BytesIO(opened.read(MAX_HEADER_BYTES))
        version = npy.read_magic(head)
        # Version 3 differs from 2 in the encoding of field names only, which matters to no size.
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _fortran, dtype = read(head)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as damaged:
        raise RefusedFile(f"array {member.filename!r} cannot be read: {str(damaged)[:200]}") from damaged
    if dtype.hasobject:
        raise RefusedFile(f"array {member.filename!r} holds Python objects: loading them would run code")
    _check_size(member, shape, head.tell() + math.prod(map(int, shape)) * dtype.itemsize)
    return Array(tuple(map(int, shape)), str(dtype))


def _check_size(member: zipfile.ZipInfo, shape: tuple[int, ...], expected: int) -> None:
    if any(n < 0 for n in shape) or expected != member.file_size:
        raise RefusedFile(
            f"array {member.filename!r} claims shape {shape}, {expected} bytes, and has {member.file_size}"
        )


def _count_samples(arrays: dict[str, Array], facts: dict[str, object]) -> None:
    """Note the number of samples: what most arrays with an axis agree on.

    Files also hold scalars, tables and metadata of other lengths, so that a difference is reported and refused only
    between arrays that by their names have one entry per sample.
    """
    lengths = {name: a.shape[0] for name, a in arrays.items() if a.shape}
    by_name = {name: n for name, n in lengths.items() if name.lower() in SAMPLE_NAMES}
    if len(set(by_name.values())) > 1:
        said = ", ".join(f"{name} has {n}" for name, n in sorted(by_name.items()))
        raise RefusedFile(f"its arrays disagree on the number of samples: {said}")
    if lengths:
        facts["samples"] = next(iter(by_name.values()), Counter(lengths.values()).most_common(1)[0][0])
        facts["named"] = bool(by_name)
        facts["lengths"] = sorted(set(lengths.values()))[:MAX_LISTED]
        facts["unequal"] = sorted(n for n, length in lengths.items() if length != facts["samples"])[:MAX_LISTED]
