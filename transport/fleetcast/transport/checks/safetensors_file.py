"""Safetensors files, by their header: every byte belongs to exactly one tensor of the claimed size.

Format: 8 bytes of header length, little endian; JSON of name -> dtype, shape, data_offsets; the tensors
(github.com/huggingface/safetensors, README "Format").
"""

import json
import math
from collections import Counter
from typing import Any

from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.report import RefusedFile

MAX_HEADER_BYTES = 100_000_000
"""The limit of the reference implementation."""
MAX_MARKS = 2_000_000
"""Commas and colons in a header: 200,000 tensors have fewer, and parsing so many takes about a second."""
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def test(task: Task) -> str:
    """Test a safetensors file; the facts are `tensors`, `parameters`, `dtypes` and `metadata`.

    Raises:
        RefusedFile: see the package.
    """
    header, start = _header(task)
    metadata = header.pop("__metadata__", {})
    if not _is_text_map(metadata):
        raise RefusedFile("its metadata is not a map of texts")
    spans = sorted(_span(name, entry) for name, entry in header.items())
    _check_cover(spans, task.size - start)
    task.facts["tensors"] = len(header)
    task.facts["parameters"] = sum(math.prod(entry["shape"]) for entry in header.values())
    task.facts["dtypes"] = dict(Counter(entry["dtype"] for entry in header.values()))
    task.facts["metadata"] = {k[:100]: v[:200] for k, v in list(metadata.items())[:16]}
    return ""


def _header(task: Task) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(task.file.read(8), "little")
    if task.size < 8 or length > min(MAX_HEADER_BYTES, task.size - 8):
        raise RefusedFile(f"its header claims {length} bytes of a file of {task.size}: it is cut off or damaged")
    text = task.file.read(length)
    if text.count(b",") + text.count(b":") > MAX_MARKS:
        raise RefusedFile("its header names more tensors than any model has")
    try:
        header = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, UnicodeDecodeError) as damaged:
        raise RefusedFile(f"its header is damaged: {str(damaged)[:200]}") from damaged
    if not isinstance(header, dict):
        raise RefusedFile("its header is not a map")
    return header, 8 + length


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _span(name: str, entry: Any) -> tuple[int, int]:
    """The bytes of one tensor, held against its type and shape."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        valid = all(_is_size(n) for n in (*shape, begin, end))
        bits = math.prod(shape) * BITS[dtype] if valid else -1
    except (KeyError, TypeError, ValueError) as damaged:
        raise RefusedFile(f"tensor {name[:200]!r} has no valid type, shape and place") from damaged
    if not valid or bits % 8 or end - begin != bits // 8:
        raise RefusedFile(f"tensor {name[:200]!r} of type {dtype} and shape {shape} cannot lie at {begin}..{end}")
    return begin, end


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _check_cover(spans: list[tuple[int, int]], size: int) -> None:
    at = 0
    for begin, end in spans:
        if begin != at:
            raise RefusedFile(
                f"bytes {min(at, begin)}..{max(at, begin)} belong to {'no' if begin > at else 'two'} tensors"
            )
        at = end
    if at != size:
        raise RefusedFile(f"its tensors take {at} bytes, and {size} are there: it is cut off or damaged")
