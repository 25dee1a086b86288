"""JSON from strangers."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.events.errors import Fault
from fleetcast.events.jsondoc import MAX_DEPTH, MAX_EVENT_BYTES, read_object

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_every_object_that_json_can_hold_is_read_back(value: dict[str, object]) -> None:
    assert read_object(json.dumps(value).encode()) == value
    assert read_object(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b"version=43", "not JSON"),
        (b"[1]", "a list, not a JSON object"),
        (b'"text"', "text, not a JSON object"),
        (b"43", "a number, not a JSON object"),
        (b"null", "null, not a JSON object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": "\xff"}', "not UTF-8: byte 8 is 0xff"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": 1}{"a": 1}', "not JSON"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' occurs twice"),
    ],
)
def test_what_readers_would_understand_differently_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(Fault, match=reason):
        read_object(body)


@pytest.mark.parametrize(
    ("body", "field"),
    [(b'{"metrics": {"loss": NaN}}', "metrics.loss"), (b'{"a": 1, "b": [0, {"c": -Infinity}], "d": NaN}', "b.1.c")],
)
def test_a_number_that_is_none_is_named(body: bytes, field: str) -> None:
    with pytest.raises(Fault, match=rf"{field}: -?\w+ is not a JSON number") as caught:
        read_object(body)
    assert caught.value.field == field


def test_duplicate_key_is_named() -> None:
    with pytest.raises(Fault) as refused:
        read_object(b'{"version": "43", "version": "44"}')
    assert refused.value.field == "version"


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' * 40 + b"1" + b"}" * 40])
def test_deep_nesting_is_refused_and_not_a_recursion_error(body: bytes) -> None:
    with pytest.raises(Fault, match=f"deeper than {MAX_DEPTH} levels"):
        read_object(body)


def test_nesting_up_to_the_bound_is_read() -> None:
    body = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    assert read_object(body)


def test_many_objects_side_by_side_are_not_deep() -> None:
    assert len(read_object(json.dumps({"a": [{}] * 1000}).encode())["a"]) == 1000


def test_body_beyond_the_bound_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Fault, match="at most 1000000"):
        read_object(b'{"a": "' + b"x" * MAX_EVENT_BYTES + b'"}')


def test_paired_surrogates_are_one_character() -> None:
    assert read_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Fault):
        assert isinstance(read_object(data), dict)
