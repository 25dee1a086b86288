"""Writes what is generated from the catalogue under docs/: `python -m fleetcast.events.export docs [--check]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from fleetcast.events import asyncapi
from fleetcast.events.bundle import metadata_schema
from fleetcast.events.examples import EXAMPLES
from fleetcast.events.names import CATALOGUE, EventType

BEGIN: Final = "<!-- generated from the catalogue: begin -->"
END: Final = "<!-- generated from the catalogue: end -->"
_PAGE: Final = "events.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or with `--check` say which of them are not what the catalogue makes. Exit status: 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m fleetcast.events.export", description=__doc__)
    parser.add_argument("docs", type=Path, help="the folder docs of the repository")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")
    arguments = parser.parse_args(argv)
    drifted = _differing(arguments.docs)
    for path in drifted:
        print(f"{'differs from the catalogue' if arguments.check else 'written'}: {path}", file=sys.stderr)
    if arguments.check:
        if drifted:
            print(f"Next: python -m fleetcast.events.export {arguments.docs}", file=sys.stderr)
        return 1 if drifted else 0
    _write(arguments.docs, drifted)
    return 0


def files(docs: Path) -> dict[Path, str]:
    """Path and text of everything that is generated. The page of events keeps what is written around its middle."""
    made = {Path("schemas") / f"{entry.type}.json": _json(asyncapi.payload_schema(entry)) for entry in CATALOGUE}
    made[Path("schemas") / "bundle-metadata.v1.json"] = _json(metadata_schema())
    made[Path("schemas") / "envelope.json"] = _json(asyncapi.envelope_schema())
    made[Path("asyncapi.json")] = _json(asyncapi.document())
    made[Path(_PAGE)] = _page(docs / _PAGE)
    return made


def _differing(docs: Path) -> list[Path]:
    made = files(docs)
    differing = [path for path, text in made.items() if _present(docs / path) != text]
    stale = [path.relative_to(docs) for path in (docs / "schemas").glob("*.json") if path.relative_to(docs) not in made]
    return sorted(differing + stale)


def _write(docs: Path, paths: list[Path]) -> None:
    made = files(docs)
    for path in paths:
        if path not in made:
            (docs / path).unlink()
            continue
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(made[path], encoding="utf-8")


def _present(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _page(path: Path) -> str:
    around = _present(path) or f"# Events\n\n{BEGIN}\n{END}\n"
    before, _, rest = around.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{_table()}\n\n{_sections()}\n\n{END}{after or chr(10)}"


def _table() -> str:
    rows = [f"| {' | '.join(_row(entry))} |" for entry in CATALOGUE]
    return "\n".join(("| event | alias | type | subject | payload |", "|---|---|---|---|---|", *rows))


def _row(entry: EventType) -> tuple[str, ...]:
    key = entry.key_field.rpartition(".")[2] if entry.key_field else "model, lane or node"
    fields = ", ".join(_field(name, field) for name, field in entry.payload.model_fields.items())
    return (entry.name, f"`{entry.alias}`", f"`{entry.type}`", f"`{entry.subject(f'<{key}>')}`", fields)


def _field(name: str, field: FieldInfo) -> str:
    return name if field.is_required() else f"{name}?"


def _sections() -> str:
    return "\n\n".join(_section(entry) for entry in CATALOGUE)


def _section(entry: EventType) -> str:
    example = json.dumps(EXAMPLES[entry.name], indent=2)
    return (
        f"### {entry.name}\n\n{asyncapi.summary(entry.payload)}\n\n"
        f"Schema: [schemas/{entry.type}.json](schemas/{entry.type}.json)\n\n```json\n{example}\n```"
    )


if __name__ == "__main__":
    raise SystemExit(main())
