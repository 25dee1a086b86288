"""Reading a TOML file with the place of every key and value, which the standard library's parser does not tell.

`tomllib` decides what is valid and what it means; the scanner here only runs over text that it accepted.
"""

import re
import tomllib
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetcast.config.errors import ConfigError, Mistake, Span, in_text

_AT = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
# What a value is made of: strings of the four kinds, comments, brackets, line ends, and anything else.
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[{]|[\]}]|\n|[^\s"\'#\[\]{}]+|\s',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key stands, and where its value does."""

    key: Span
    value: Span


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file: its text, its values, and the place of every key, by path."""

    path: Path
    text: str
    values: dict[str, Any]
    places: dict[tuple[str, ...], Place]

    def at_key(self, path: tuple[str, ...], message: str, next_step: str) -> Mistake:
        """A mistake in the name of a key."""
        return in_text(self.path, self.text, self._place(path).key, message, next_step)

    def at_value(self, path: tuple[str, ...], message: str, next_step: str) -> Mistake:
        """A mistake in a value."""
        return in_text(self.path, self.text, self._place(path).value, message, next_step)

    def line(self, path: tuple[str, ...]) -> int:
        """The line of a key, from 1."""
        return self._place(path).key.line

    def _place(self, path: tuple[str, ...]) -> Place:
        """The place of a key, or of the nearest one around it (`a.b` may exist only as part of `[a.b.c]`)."""
        for found, place in self.places.items():
            if found[: len(path)] == path:
                return place
        return self._place(path[:-1]) if path else Place(Span(1, 1), Span(1, 1))


def read(path: Path) -> Document:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read, is no UTF-8, or no TOML; with the place where that begins.
    """
    text = _text(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((_syntax_mistake(path, text, str(error)),)) from error
    return Document(path, text, values, locate(text))


def locate(text: str) -> dict[tuple[str, ...], Place]:
    """The places of all tables and keys of a valid TOML text."""
    lines = [0, *(match.end() for match in re.finditer("\n", text))]
    found: dict[tuple[str, ...], Place] = {}
    table: tuple[str, ...] = ()
    rows: Counter[tuple[str, ...]] = Counter()
    at = _skip(_BLANK, text, 0)
    while at < len(text):
        if text[at] == "[":
            table, end = _header(text, at)
            span = _span(lines, at, end)
            if text.startswith("[[", at):
                # As in the values: the rows of an array of tables are counted from 0.
                found.setdefault(table, Place(span, span))
                rows[table] += 1
                table = (*table, str(rows[table] - 1))
            found.setdefault(table, Place(span, span))
        else:
            path, key_end = _key(text, at)
            value = _skip(_SPACE, text, _skip(_SPACE, text, key_end) + 1)
            end = _value_end(text, value)
            found[table + path] = Place(_span(lines, at, key_end), _span(lines, value, end))
        at = _skip(_BLANK, text, end)
    return found


def _header(text: str, at: int) -> tuple[tuple[str, ...], int]:
    inside = _skip(re.compile(r"\[{1,2}[ \t]*"), text, at)
    path, end = _key(text, inside)
    return path, _skip(re.compile(r"[ \t]*\]{1,2}"), text, end)


def _key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """A dotted key from `at` on, and where it ends."""
    parts = []
    while True:
        match = _BARE_KEY.match(text, at) or _TOKEN.match(text, at)
        assert match, "tomllib accepted this text"
        part, at = match.group(), match.end()
        parts.append(tomllib.loads(f"key = {part}")["key"] if part[0] in "\"'" else part)
        dot = re.compile(r"[ \t]*\.[ \t]*").match(text, at)
        if not dot:
            return tuple(parts), at
        at = dot.end()


def _value_end(text: str, at: int) -> int:
    """Where the value that begins at `at` ends, without the space or comment behind it."""
    depth, end = 0, at
    while match := _TOKEN.match(text, at):
        piece, at = match.group(), match.end()
        if piece == "\n" and depth == 0:
            break
        depth += (piece in "[{") - (piece in "]}")
        if not piece.isspace() and piece[0] != "#":
            end = at
    return end


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _span(lines: list[int], start: int, end: int) -> Span:
    line = bisect_right(lines, start)
    return Span(line, start - lines[line - 1] + 1, max(1, end - start))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError((Mistake(str(path), f"cannot be read: {error.strerror}", _unreadable(error)),)) from error
    try:
        # Some editors begin a file with a byte order mark, which TOML does not know.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        span = Span(before.count("\n") + 1, len(before) - before.rfind("\n"))
        text = data.decode(errors="replace")
        raise ConfigError((in_text(path, text, span, "is not UTF-8 text", "save the file as UTF-8"),)) from error


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "give the path of an existing file, or write one with: fleetcast init"
    return "make the file readable for this user, or name another one with --config"


def _syntax_mistake(path: Path, text: str, message: str) -> Mistake:
    match = _AT.search(message)
    last = text.splitlines() or [""]
    span = Span(len(last), len(last[-1]) + 1)
    if match and match.group(1):
        span = Span(int(match.group(1)), int(match.group(2)))
    return in_text(path, text, span, _AT.sub("", message)[:1].lower() + _AT.sub("", message)[1:])
