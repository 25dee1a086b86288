"""JSON of a job's values: the fast way and the slow one say the same."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fleetcast.client import wording

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_what_is_written_is_what_json_writes(fields: dict[str, Any]) -> None:
    assert wording.encoded(fields) == json.dumps(fields, separators=(",", ":"))
    fast, slow = wording._fast()[0], wording._slow()[0]
    assert fast(fields) == slow(fields)


@given(st.text())
def test_text_is_written_as_json_writes_it(text: str) -> None:
    assert wording.quoted(text) == json.dumps(text) == wording._slow()[1](text)
