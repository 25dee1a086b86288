"""Values of a job as JSON text. Whatever they are, there is a text."""

import math
import os

TYPE_CHECKING = False  # as in typing, whose import a training job need not pay
if TYPE_CHECKING:
    import json
    from collections.abc import Callable


def plain(value: object) -> object:
    """What JSON has no word for: numbers of numpy and torch become Python's, sets lists, everything else text."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        return item()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)[:1000]


def _slow_encoder() -> "json.JSONEncoder":
    import json

    # A cycle ends in RecursionError as surely as in the check for it, which costs every event 0.3 us.
    return json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":"), default=plain)


def _fast() -> "tuple[Callable[[object], str], Callable[[str], str]]":
    """What writes JSON, and what writes text as JSON: the parts that `json` is made of, without what it is not needed
    for. Importing it takes 10 ms, and its encoder makes a worker anew for every text, which takes 1 us of the 10 that a
    training job may lose to an event.

    Raises:
        ImportError, TypeError: this interpreter has no such parts.
    """
    from _json import encode_basestring_ascii, make_encoder

    chunks = make_encoder(None, plain, encode_basestring_ascii, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0)), encode_basestring_ascii


def _slow() -> "tuple[Callable[[object], str], Callable[[str], str]]":
    encode = _slow_encoder().encode
    return encode, encode


try:
    _encode, quoted = _fast()
    if _encode({"a": [1, None, 0.5]}) != '{"a":[1,null,0.5]}':
        _encode, quoted = _slow()
except (ImportError, TypeError):
    _encode, quoted = _slow()


def encoded(fields: dict[str, object]) -> str:
    """*fields* as JSON; numbers that JSON cannot hold become text."""
    try:
        return _encode(fields)
    except (TypeError, ValueError, RecursionError):
        return _slow_encoder().encode(_cleaned(fields, 30))


def _cleaned(value: object, depth: int) -> object:
    """*value* with text for NaN and the infinities, whose loss would hide a diverged run, and for keys."""
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(key): _cleaned(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each, depth - 1) for each in value]
    if isinstance(value, str | int | None):
        return value
    found = value if isinstance(value, float) else plain(value)
    return str(found) if isinstance(found, float) and not math.isfinite(found) else found
