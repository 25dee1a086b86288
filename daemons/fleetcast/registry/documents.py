"""Documents that people edit, as YAML or JSON: values with the line that each of them stands on.

Of YAML only the part that JSON has as well, by the core schema of YAML 1.2: no anchors, no tags, no dates, and `no` is
a word. The only module that imports `yaml`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

from fleetcast.registry.errors import RegistryError

if TYPE_CHECKING:
    from yaml import BaseLoader, SafeDumper
else:
    # libyaml's, ten times as quick, where PyYAML was built with it.
    BaseLoader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Form = Literal["yaml", "json"]
Path = tuple[str | int, ...]
"""Keys and indices from the top."""

MAX_DEPTH: Final = 32
_NULL: Final = re.compile(r"(~|null|Null|NULL|)\Z")
_TRUTH: Final = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
_INTEGER: Final = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NO_NUMBER: Final = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_ODD_BREAK: Final = re.compile("[\x85\u2028\u2029]")
_CORE_TAGS: Final = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_BLANK: Final = " \t\r\n"


class DocumentUnreadable(RegistryError):
    """A document cannot be read.

    Attributes:
        line: counts from 1; None: nowhere in particular.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        self.reason = reason
        self.line = line
        super().__init__(reason if line is None else f"line {line}: {reason}")


@dataclass(frozen=True, slots=True)
class Document:
    """A value, and where its parts stand."""

    value: Any
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int:
        """The line of a part; of one that is missing, the line of what should have it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def form_of(name: str) -> Form:
    """The form that a file's name tells: JSON for `.json`, else YAML."""
    return "json" if name.lower().endswith(".json") else "yaml"


def write(value: Mapping[str, Any], form: Form) -> str:
    """*value*, which JSON can hold, as text; the same value gives the same text."""
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)


def read(text: str, form: Form) -> Document:
    """The document in *text*.

    Raises:
        DocumentUnreadable: it is none, says a key twice, or uses what only YAML has.
    """
    return _read_json(text) if form == "json" else _read_yaml(text)


# -- YAML


class _Dumper(SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""

    def ignore_aliases(self, _data: object) -> bool:
        """Never writes anchors: what occurs twice is written twice."""
        return True


def _text(dumper: SafeDumper, text: str) -> yaml.ScalarNode:
    # Breaks of lines that only YAML 1.1 knows are lost in any other style.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if _ODD_BREAK.search(text) else None)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""])
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", _TRUTH, list("tTfF"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _read_yaml(text: str) -> Document:
    try:
        # The base loader resolves nothing: a tag that is not one of its three was written by hand.
        node = yaml.compose(text, Loader=BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DocumentUnreadable(f"not YAML: {error.problem or error}", line) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise DocumentUnreadable(f"not YAML: {str(error).splitlines()[0]}") from error
    if node is None:
        raise DocumentUnreadable("the document is empty")
    lines: dict[Path, int] = {}
    return Document(_value(node, (), lines, set()), lines)


def _value(node: yaml.Node, path: Path, lines: dict[Path, int], seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if id(node) in seen:
        raise DocumentUnreadable("anchors and aliases are not read; write it out", line)
    if node.tag not in _CORE_TAGS:
        raise DocumentUnreadable(f"the tag {node.tag.removeprefix('tag:yaml.org,2002:')!r} is not read", line)
    if len(path) > MAX_DEPTH:
        raise DocumentUnreadable(f"nested deeper than {MAX_DEPTH} levels", line)
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        return dict(_members(node, path, lines, seen))
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*path, place), lines, seen) for place, each in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return node.value if node.style else _plain(str(node.value), line)


def _members(node: yaml.MappingNode, path: Path, lines: dict[Path, int], seen: set[int]) -> Iterator[tuple[str, Any]]:
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise DocumentUnreadable("a key is not text", line)
        here = (*path, str(key.value))
        if here in lines:
            raise DocumentUnreadable(f"the key {key.value!r} occurs twice", line)
        lines[here] = line
        yield str(key.value), _value(value, here, lines, seen)


def _plain(text: str, line: int) -> Any:
    """What a word without quotes means."""
    if _NULL.match(text):
        return None
    if _TRUTH.match(text):
        return text.lower() == "true"
    if _INTEGER.match(text) and len(text) <= 20:
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    if _NO_NUMBER.match(text):
        raise DocumentUnreadable(f"{text} is not a number", line)
    return text


# -- JSON


def _read_json(text: str) -> Document:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise DocumentUnreadable(f"not JSON: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise DocumentUnreadable("nested too deeply") from error
    lines: dict[Path, int] = {}
    _Places(text, lines).value(0, ())
    return Document(value, lines)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DocumentUnreadable(f"the key {key!r} occurs twice in one object")
            seen.add(key)
    return made


def _no_constant(word: str) -> None:
    raise DocumentUnreadable(f"{word} is not a number")


class _Places:
    """Walks over JSON that is known to be right, and notes the line of every part."""

    def __init__(self, text: str, lines: dict[Path, int]) -> None:
        self._text = text
        self._lines = lines
        self._decoder = json.JSONDecoder()
        self._counted, self._line = 0, 1

    def value(self, place: int, path: Path) -> int:
        """Note the value at *place*; returns where it ends."""
        place = self._after_blank(place)
        self._lines.setdefault(path, self._line_at(place))
        if self._text[place] == "{":
            return self._members(place + 1, path, keyed=True)
        if self._text[place] == "[":
            return self._members(place + 1, path, keyed=False)
        return self._decoder.raw_decode(self._text, place)[1]

    def _members(self, place: int, path: Path, *, keyed: bool) -> int:
        index = 0
        place = self._after_blank(place)
        while self._text[place] not in "]}":
            key: str | int = index
            if keyed:
                key, end = self._decoder.raw_decode(self._text, place)
                self._lines.setdefault((*path, key), self._line_at(place))
                place = self._after_blank(end) + 1
            place = self._after_blank(self.value(place, (*path, key)))
            index += 1
            if self._text[place] == ",":
                place = self._after_blank(place + 1)
        return place + 1

    def _after_blank(self, place: int) -> int:
        while place < len(self._text) and self._text[place] in _BLANK:
            place += 1
        return place

    def _line_at(self, place: int) -> int:
        self._line += self._text.count("\n", self._counted, place)
        self._counted = place
        return self._line
