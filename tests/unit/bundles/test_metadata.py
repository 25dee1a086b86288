"""The metadata of a bundle: what breaks the schema, the promotion or the model is refused with the field's name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events.bundle import (
    EXAMPLE,
    MAX_METADATA_BYTES,
    BundleMetadata,
    MetadataRefused,
    check_metadata,
    check_model_facts,
    metadata_schema,
    read_metadata,
)

PATHS = {"model.onnx", "tokenizer.json", "vocab/merges.txt", "bundle.json"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(**changes: Any) -> BundleMetadata:
    document = {k: v for k, v in (EXAMPLE | changes).items() if v is not ...}
    return read_metadata("bundle.json", json.dumps(document).encode())


def refusal(**changes: Any) -> MetadataRefused:
    with pytest.raises(MetadataRefused) as refused:
        read(**changes)
    assert refused.value.next_step
    return refused.value


def test_the_example_is_right() -> None:
    check_metadata("bundle.json", read(), "fraud_detector", "12", PATHS)
    assert set(metadata_schema()["properties"]) == set(BundleMetadata.model_fields)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": ...}, "model"),
        ({"opsett": 18}, "opsett"),
        ({"model": "No Name"}, "model"),
        ({"version": "current"}, "version"),
        ({"entry": "../model.onnx"}, "entry"),
        ({"precision": "float"}, "precision"),
        ({"inputs": [{"name": "x", "dtype": "float", "shape": [1]}]}, "inputs.0.dtype"),
        ({"inputs": [{"name": "x", "dtype": "int8", "shape": ["n", 0]}]}, "inputs.0.shape.1"),
        ({"outputs": [{"name": "x", "dtype": "int8", "shape": []}] * 2}, "outputs"),
        ({"tokenizer": {"kind": "bpe", "files": []}}, "tokenizer.files"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"cutpoints": [1.0, 1.0]}, "cutpoints"),
        ({"metrics": {"mae": "low"}}, "metrics.mae"),
        ({"git": "main"}, "git"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"parity": {"samples": 500, "atol": 1e-5, "rtol": 0, "max_abs_difference": 0.1}}, "parity"),
        ({"schema_version": 2}, "schema_version"),
    ],
)
def test_what_breaks_the_schema_is_refused_with_its_field(changes: dict[str, Any], field: str) -> None:
    refused = refusal(**changes)
    assert refused.field == field
    assert field.split(".")[0] in str(refused)


def test_a_field_that_is_nearly_right_is_told_its_name() -> None:
    assert "did you mean opset?" in str(refusal(opsett=18))


def test_an_integer_is_a_version_too() -> None:
    assert read(version=12).version == "12"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b" " * (MAX_METADATA_BYTES + 1)]
)
def test_what_is_no_document_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(MetadataRefused, match=r"bundle\.json"):
        read_metadata("bundle.json", data)


@given(st.dictionaries(st.sampled_from(sorted(BundleMetadata.model_fields)) | st.text(max_size=8), JSON, max_size=6))
def test_any_document_is_taken_or_refused_in_words(document: dict[str, Any]) -> None:
    try:
        read_metadata("bundle.json", json.dumps(document).encode())
    except MetadataRefused as refused:
        said = refused
    else:
        return
    assert str(said).startswith("bundle.json: ")
    assert said.next_step


@pytest.mark.parametrize(
    ("model", "version", "paths", "field"),
    [
        ("other", "12", PATHS, "model"),
        ("fraud_detector", "13", PATHS, "version"),
        ("fraud_detector", "12", PATHS - {"model.onnx"}, "entry"),
        ("fraud_detector", "12", PATHS - {"vocab/merges.txt"}, "tokenizer.files.1"),
    ],
)
def test_what_contradicts_the_promotion_is_refused_with_its_field(
    model: str, version: str, paths: set[str], field: str
) -> None:
    with pytest.raises(MetadataRefused) as refused:
        check_metadata("bundle.json", read(), model, version, paths)
    assert refused.value.field == field


def test_what_the_model_denies_is_refused_and_what_was_not_seen_is_not() -> None:
    seen = {"opset": 18, "inputs": ["input_ids"], "outputs": ["logits"]}
    check_model_facts("bundle.json", read(), {"model.onnx": seen})
    check_model_facts("bundle.json", read(), {})
    for field, value in (("opset", 17), ("inputs", ["ids"]), ("outputs", [])):
        with pytest.raises(MetadataRefused) as refused:
            check_model_facts("bundle.json", read(), {"model.onnx": seen | {field: value}})
        assert refused.value.field == field
