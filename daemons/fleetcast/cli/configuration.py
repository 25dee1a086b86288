"""`fleetcast config` and `fleetcast init`: what is set, where it comes from, and what is wrong with it."""

from pathlib import Path

from pydantic_core import to_jsonable_python

from fleetcast.bus import tracing
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, target
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.table import table
from fleetcast.config.loader import load
from fleetcast.config.template import literal, render


def show(call: Call, *, origin: bool) -> Exit:
    """Print every setting in force; secrets are hidden."""
    aim = target(call)
    rows = aim.loaded.rows()
    settings = [{"name": row.name, "value": to_jsonable_python(row.value), "origin": str(row.origin)} for row in rows]
    call.out.document({"file": _file(aim), "settings": settings})
    shown = [(row.name, "-" if row.value is None else literal(row.value), str(row.origin)) for row in rows]
    if origin:
        call.out.show(table(("SETTING", "VALUE", "FROM"), shown))
    else:
        call.out.show(table(("SETTING", "VALUE"), [each[:2] for each in shown]))
    return Exit.OK


def check(call: Call, file: Path | None) -> Exit:
    """Load a file the way a daemon does; mistakes, and what it wants and is not installed, end the command."""
    aim = Target(load(file)) if file else target(call)
    if untraceable := tracing.problem(aim.settings.tracing):
        raise untraceable
    call.out.document({"ok": True, "file": _file(aim)})
    call.out.text(f"ok: {_file(aim) or 'no file is used, every setting has its default or comes from the environment'}")
    return Exit.OK


def _file(aim: Target) -> str | None:
    return str(aim.loaded.file) if aim.loaded.file else None


def init(call: Call, file: Path, *, force: bool, dry_run: bool) -> Exit:
    """Write the commented settings file, or print it."""
    text = render()
    if dry_run:
        call.out.document({"file": str(file), "written": False, "text": text})
        call.out.text(text.rstrip("\n"))
        return Exit.OK
    try:
        with file.open("w" if force else "x", encoding="utf-8") as output:
            output.write(text)
    except FileExistsError as error:
        raise Problem(
            "exists", f"{file} exists", why="it is not overwritten", next_step=f"fleetcast init {file} --force"
        ) from error
    call.out.document({"file": str(file), "written": True})
    call.out.text(f"wrote {file}")
    call.out.say(f"edit it, then: fleetcast config check {file}   and: fleetcast doctor --config {file}")
    return Exit.OK
