"""The place of every key of a TOML file."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.config.errors import ConfigError
from fleetcast.config.template import literal
from fleetcast.config.toml import locate, read

TEXT = '''\
# head = "comment"
top = 1

[bus] # a table
url = "nats://a#b" # not part of the value
  replicas=3
"quoted key" = 'x]y'
list = [
  1, # one
  2,
]
text = """
[not a table]
key = 1
"""
raw = \'\'\'it's "fine" # here\'\'\'
inline = { a = [1], "b" = "}" }

[ store . sub ]
dotted . name = true
[[many]]
a = 1979-05-27T07:32:00Z
'''


def test_every_key_is_found_where_it_stands() -> None:
    places = locate(TEXT)

    lines = TEXT.splitlines()
    at = {".".join(path): lines[place.key.line - 1][place.key.column - 1 :] for path, place in places.items()}
    assert at == {
        "top": "top = 1",
        "bus": "[bus] # a table",
        "bus.url": 'url = "nats://a#b" # not part of the value',
        "bus.replicas": "replicas=3",
        "bus.quoted key": "\"quoted key\" = 'x]y'",
        "bus.list": "list = [",
        "bus.text": 'text = """',
        "bus.raw": "raw = '''it's \"fine\" # here'''",
        "bus.inline": 'inline = { a = [1], "b" = "}" }',
        "store.sub": "[ store . sub ]",
        "store.sub.dotted.name": "dotted . name = true",
        "many": "[[many]]",
        "many.0": "[[many]]",
        "many.0.a": "a = 1979-05-27T07:32:00Z",
    }


def test_value_ends_before_space_and_comment() -> None:
    places = locate(TEXT)

    def value(*path: str) -> str:
        span = places[path].value
        start = sum(len(line) + 1 for line in TEXT.split("\n")[: span.line - 1]) + span.column - 1
        return TEXT[start : start + span.length]

    assert value("bus", "url") == '"nats://a#b"'
    assert value("bus", "replicas") == "3"
    assert value("bus", "list") == "[\n  1, # one\n  2,\n]"
    assert value("bus", "inline") == '{ a = [1], "b" = "}" }'


names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20)
values = st.recursive(
    st.one_of(st.integers(-(2**60), 2**60), st.booleans(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(names, st.dictionaries(names, values, max_size=4), max_size=4))
def test_whatever_is_written_is_found_at_its_line(tables: dict[str, dict[str, object]]) -> None:
    lines = []
    expected: dict[tuple[str, ...], int] = {}
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        expected[table,] = len(lines)
        for key, value in keys.items():
            lines.append(f"{key} = {literal(value)} # = [x]")
            expected[table, key] = len(lines)
    text = "\n".join(lines)

    assert tomllib.loads(text) == tables
    assert {path: place.key.line for path, place in locate(text).items()} == expected


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[bus]\nurl = \n", ":2:7: invalid value"),
        ("[bus\n", ":1:5: expected ']'"),
        ("a = 1\na = 2\n", ":2:6: cannot overwrite a value"),
        ('a = "x', ":1:7: unterminated string"),
        ("a = [1,\n", ":1:8: invalid value"),
    ],
)
def test_text_that_is_no_toml_is_refused_at_its_place(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "fleetcast.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        read(path)

    assert str(caught.value).startswith(f"{path}{where}")
    assert "^" in str(caught.value)


def test_text_that_is_no_utf8_is_refused_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "fleetcast.toml"
    path.write_bytes('[bus]\nurl = "é\xff"'.encode("latin-1"))

    with pytest.raises(ConfigError) as caught:
        read(path)

    assert str(caught.value).startswith(f"{path}:2:8: is not UTF-8 text")


def test_byte_order_mark_of_an_editor_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "fleetcast.toml"
    path.write_bytes(b"\xef\xbb\xbf[bus]\n")

    assert read(path).values == {"bus": {}}
