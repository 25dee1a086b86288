"""The commented `fleetcast.toml`: what every setting means, its default, and why that default.

`python -m fleetcast.config.template > config/fleetcast.toml` renews the file that is shipped.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from fleetcast.config.group import Group
from fleetcast.config.settings import Settings

WIDTH = 110
HEADER = """
The settings of one node. A line such as `#key = value` shows a default: take the `#` away to change it. Any setting can
also be given as a variable (`url` in `[bus]` is FLEETCAST_BUS_URL; lists are separated by commas) and many as a flag; a
flag wins over a variable, a variable over this file. Relative paths are taken from the folder of this file.
`fleetcast config show --origin` shows what is in force and where it came from, `fleetcast config check` what is wrong.
"""


def render(settings: Settings | None = None, *, comments: bool = True) -> str:
    """The file for these settings: what differs from its default is set, all else is shown as a comment.

    Without `comments`, only what is set remains.
    """
    chosen = settings or Settings()
    tables = [_table(name, getattr(chosen, name), comments=comments) for name in Settings.model_fields]
    head = _comment(" ".join(HEADER.split())) if comments else []
    blocks = ["\n".join(block) for block in [head, *tables] if block]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _table(name: str, group: Group, *, comments: bool) -> list[str]:
    keys = list(_keys(group, comments=comments))
    if not comments and not keys:
        return []
    about = _comment(" ".join((group.__doc__ or "").split())) if comments else []
    return [*about, f"[{name}]", *keys]


def _keys(group: Group, *, comments: bool) -> Iterator[str]:
    for field, info in type(group).model_fields.items():
        value = getattr(group, field)
        if comments:
            yield from ["", *_comment(info.description or "")]
        if value != info.default:
            yield f"{field} = {literal(value)}"
        elif comments:
            yield f"#{field} = {literal(_example(info) if value is None else value)}"


def _example(info: FieldInfo) -> object:
    """What stands for a setting that has no default."""
    return (info.examples or [""])[0]


def _comment(text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 100_000:
        return f"{value:_}"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Group):
        return literal(value.model_dump(exclude_defaults=True))
    if isinstance(value, Group):
        value = value.model_dump()
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_quoted(key)} = {literal(part)}" for key, part in value.items())
        return f"{{{f' {pairs} ' if pairs else ''}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(part) for part in value)}]"
    assert isinstance(value, str | Path)
    return _quoted(str(value))


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped and JSON leaves alone.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


if __name__ == "__main__":
    print(render(), end="")
