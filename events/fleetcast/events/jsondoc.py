"""JSON objects from strangers: RFC 8259 with the doors closed that Python's reader leaves open."""

import json
import math
from typing import Any, Final

from fleetcast.events.errors import Fault, clip

MAX_EVENT_BYTES: Final = 1_000_000
"""Largest event: below the 1 MiB that NATS takes at most by default, headers included."""
MAX_DEPTH: Final = 32
"""Deepest nesting: the catalogue needs 6; metrics and metadata have the rest."""
_MAX_INTEGER: Final = 2**63
_NO_NUMBER: Final = object()
"""Stands for NaN and Infinity until it is known where they are."""


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object in *data*.

    Refused, because readers of other languages would see something else or nothing: duplicate keys, NaN and Infinity,
    numbers beyond 64 bits, lone surrogates, nesting over 32 levels, everything over 1,000,000 bytes.

    Raises:
        Fault: it is not such an object; the reason says where.
    """
    if not data.strip():
        raise Fault("the body is empty")
    if len(data) > MAX_EVENT_BYTES:
        raise Fault(f"the body has {len(data)} bytes; an event has at most {MAX_EVENT_BYTES}")
    document = _load(_text(data))
    if not isinstance(document, dict):
        raise Fault(f"the body is {_KINDS.get(type(document), 'a number')}, not a JSON object")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(document)
    if b"\\u" in data:
        _check_surrogates(document)
    return document


_KINDS: Final[dict[type, str]] = {list: "a list", str: "text", bool: "a truth value", type(None): "null"}


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Fault(f"the body is not UTF-8: byte {error.start + 1} is 0x{data[error.start]:02x}") from error


def _load(text: str) -> object:
    words: list[str] = []

    def no_number(word: str) -> object:
        words.append(word)
        return _NO_NUMBER

    try:
        document: object = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=no_number,
            parse_float=_finite,
            parse_int=_bounded,
        )
        if words:
            place = clip(_place(document), 200)
            raise Fault(f"{place}: {words[0]} is not a JSON number".removeprefix(": "), place or None)
        return document
    except json.JSONDecodeError as error:
        raise Fault(f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise Fault(f"the body is nested deeper than {MAX_DEPTH} levels") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Fault(f"the key {clip(twice, 80)!r} occurs twice in one object", clip(twice, 80))
    return result


def _place(document: object) -> str:
    """Where the first NaN or Infinity stands, dotted."""
    if not isinstance(document, dict | list):
        return ""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        if value is _NO_NUMBER:
            return str(key)
        if inside := _place(value):
            return f"{key}.{inside}"
    return ""


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Fault(f"{clip(digits, 40)} is too large for a number")
    return number


def _bounded(digits: str) -> int:
    if len(digits) > 20 or not -_MAX_INTEGER <= int(digits) < _MAX_INTEGER:
        raise Fault(f"{clip(digits, 40)} does not fit in 64 bits")
    return int(digits)


def _check_depth(document: object) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise Fault(f"the body is nested deeper than {MAX_DEPTH} levels")


def _children(value: object) -> list[object]:
    """The objects and lists directly inside *value*."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in inside if isinstance(child, dict | list)]


def _check_surrogates(document: object) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Fault("the body contains half of a surrogate pair, which is no character") from error
