"""Safetensors headers that lie are refused; those of the reference writer are not."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.report import RefusedFile
from fleetcast.transport.checks.safetensors_file import BITS
from fleetcast.transport.checks.safetensors_file import test as check

Make = Callable[..., Task]
GOOD = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_real_file_is_read(task: Make) -> None:
    arrays: dict[str, np.ndarray] = {
        "a": np.zeros((3, 4), np.float16),
        "empty": np.zeros((0, 4), np.float32),
        "n": np.ones(5, np.int8),
    }
    real = task(save(arrays, {"by": "test"}))
    assert check(real) == ""
    assert real.facts["tensors"] == 3
    assert real.facts["parameters"] == 17
    assert real.facts["dtypes"] == {"F16": 1, "F32": 1, "I8": 1}
    assert real.facts["metadata"] == {"by": "test"}


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_every_type_has_its_size(task: Make, dtype: str) -> None:
    size = 8 * BITS[dtype] // 8
    check(task(file_of({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}}, bytes(size))))


def change(**fields: Any) -> dict[str, Any]:
    return {"a": GOOD["a"] | fields}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "cut off", id="no byte"),
        pytest.param(b"\x05\0\0", "cut off", id="half a length"),
        pytest.param(struct.pack("<Q", 2**63) + b"{}", "cut off", id="a length of 8 EiB"),
        pytest.param(struct.pack("<Q", 200_000_000) + b"{}", "cut off", id="a header of 200 MB"),
        pytest.param(file_of(b'{"a":'), "damaged", id="half a header"),
        pytest.param(file_of(b"\xff\xfe{}"), "damaged", id="no text"),
        pytest.param(file_of([]), "not a map", id="a list"),
        pytest.param(file_of({"a": 7}), "no valid type", id="a number for a tensor"),
        pytest.param(file_of(change(dtype="F99"), bytes(24)), "no valid type", id="unknown type"),
        pytest.param(file_of(change(shape=[2, -3]), bytes(24)), "cannot lie", id="negative shape"),
        pytest.param(file_of(change(shape=[2.0, 3]), bytes(24)), "cannot lie", id="shape of fractions"),
        pytest.param(file_of(change(shape=[True, 6]), bytes(24)), "cannot lie", id="shape of truths"),
        pytest.param(file_of(change(shape="23"), bytes(24)), "cannot lie", id="shape of text"),
        pytest.param(file_of(change(shape=[2**40, 2**40]), bytes(24)), "cannot lie", id="shape beyond 64 bits"),
        pytest.param(file_of(change(data_offsets=[0, 20]), bytes(20)), "cannot lie", id="too few bytes"),
        pytest.param(file_of(change(data_offsets=[24, 0]), bytes(24)), "cannot lie", id="backwards"),
        pytest.param(file_of(change(data_offsets=[0, 24, 30]), bytes(24)), "no valid type", id="three offsets"),
        pytest.param(file_of(GOOD, bytes(23)), "cut off", id="truncated"),
        pytest.param(file_of(GOOD, bytes(25)), "25 are there", id="bytes of nobody at the end"),
        pytest.param(file_of(change(data_offsets=[8, 32]), bytes(32)), "no tensors", id="bytes of nobody in front"),
        pytest.param(file_of({**GOOD, "b": GOOD["a"]}, bytes(24)), "two tensors", id="two tensors in one place"),
        pytest.param(
            file_of(
                b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
                b"x",
            ),
            "twice",
            id="a name twice",
        ),
        pytest.param(file_of({**GOOD, "__metadata__": {"n": 1}}, bytes(24)), "metadata", id="metadata of numbers"),
        pytest.param(file_of({**GOOD, "__metadata__": []}, bytes(24)), "metadata", id="metadata of lists"),
    ],
)
def test_header_that_lies_is_refused(task: Make, data: bytes, why: str) -> None:
    with pytest.raises(RefusedFile, match=why):
        check(task(data))


@given(cut=st.integers(1, 500))
def test_file_that_is_cut_anywhere_is_refused(cut: int) -> None:
    import io

    data = save({"a": np.zeros((10, 10), np.float32), "b": np.zeros(7, np.int8)})
    short = data[: max(0, len(data) - cut)]
    with pytest.raises(RefusedFile):
        check(Task(io.BytesIO(short), len(short), "/", 200.0, False, {}))


@given(at=st.integers(0, 90), bit=st.integers(0, 7))
def test_flipped_bit_in_the_header_never_passes_with_other_sizes(at: int, bit: int) -> None:
    import io

    data = bytearray(save({"a": np.zeros((10, 10), np.float32)}))
    data[at] ^= 1 << bit
    looked_at = Task(io.BytesIO(bytes(data)), len(data), "/", 200.0, False, {})
    try:
        check(looked_at)
    except RefusedFile:
        return
    assert len(data) >= 400
    assert looked_at.facts["tensors"] == 1
