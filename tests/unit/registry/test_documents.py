"""YAML and JSON that people edit: what is written reads back, and every part knows its line."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.registry.documents import DocumentUnreadable, Form, form_of, read, write

FORMS: tuple[Form, ...] = ("yaml", "json")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "no",
        "1.10",
        "1e5",
        "0x1f",
        "2026-11-21",
        "~",
        "null",
        "true",
        "yes",
        "=",
        "<<",
        "",
        "- a",
        "a: b",
        "#x",
        ".inf",
        "0o7",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("form", FORMS)
@given(value=st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_written_reads_back_as_it_was(form: Form, value: dict[str, Any]) -> None:
    assert read(write(value, form), form).value == value


@given(value=st.dictionaries(TEXT, VALUES, max_size=4))
def test_other_readers_of_yaml_see_the_same_texts(value: dict[str, Any]) -> None:
    assert yaml.safe_load(write(value, "yaml")) == value


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("yaml", "entries:\n  - model: a\n    facts:\n      owner: x\n  - model: b\n"),
        ("json", '{"entries":\n  [{"model": "a",\n "facts":\n {"owner": "x"}},\n\t{"model": "b"}]}'),
    ],
)
def test_every_part_knows_its_line(form: Form, text: str) -> None:
    document = read(text, form)
    assert document.value == {"entries": [{"model": "a", "facts": {"owner": "x"}}, {"model": "b"}]}
    assert document.lines[("entries", 0, "facts", "owner")] == 4
    assert document.lines[("entries", 1, "model")] == 5
    assert document.line_of(("entries", 1, "version")) == 5


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: &x [1]\nb: *x\n", 1, "anchors and aliases"),
        ("a: !!python/object/apply:os.system [id]\n", 1, "the tag 'python/object/apply:os.system' is not read"),
        ("a: 1\nb: .nan\n", 2, ".nan is not a number"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' occurs twice"),
        ("a: 1\n  b: 2\n", 2, "not YAML"),
        ("a: [1, 2\n", 2, "not YAML"),
        ("? [a]\n: 1\n", 1, "a key is not text"),
        ("", None, "empty"),
        ("[" * 40 + "]" * 40, 1, "deeper than 32"),
        ("a: \x07\n", None, "not YAML"),
    ],
)
def test_what_only_yaml_has_is_refused_with_its_line(text: str, line: int | None, reason: str) -> None:
    with pytest.raises(DocumentUnreadable, match=re.escape(reason)) as caught:
        read(text, "yaml")
    assert caught.value.line == line


def test_a_document_that_grows_when_it_is_read_is_refused() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{k}: &{k} [*{p}, *{p}]\n" for p, k in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(DocumentUnreadable, match="anchors and aliases are not read"):
        read(bomb, "yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('{\n"a": }', "line 2: not JSON"),
    ],
)
def test_json_that_readers_would_understand_differently_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DocumentUnreadable, match=reason):
        read(text, "json")


def test_words_are_words() -> None:
    assert read("a: no\nb: 2026-11-21\nc: 1:30\nd: 0x1f\ne: 1.5\nf: 007", "yaml").value == {
        "a": "no",
        "b": "2026-11-21",
        "c": "1:30",
        "d": "0x1f",
        "e": 1.5,
        "f": 7,
    }


def test_the_name_of_a_file_tells_its_form() -> None:
    assert [form_of(name) for name in ("a.json", "A.JSON", "a.yaml", "a.yml", "a")] == ["json", "json"] + ["yaml"] * 3
