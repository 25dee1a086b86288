"""What a version's two records, content and entry, say together, as the row and the tables that lists are made from.

Pure: the same two records give the same rows, whichever of them came first.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json

Document = Mapping[str, Any]
"""A stored value as JSON gives it; whoever wrote it had validated it."""

SHOWN_FACTS: Final = (
    "owner",
    "team",
    "framework",
    "model_type",
    "display_name",
    "license",
    "experiment_id",
    "git_commit",
)
_SERVED: Final = frozenset({"canary", "production"})
_DIGITS = re.compile(r"\d+")
_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z", re.ASCII)
"""A time as fleetcast writes it: nothing is to be done about it."""


@dataclass(frozen=True, slots=True)
class VersionRows:
    """All rows of one version; `version` and `listed` in the order of the tables' columns."""

    version: tuple[object, ...]
    listed: str
    tags: tuple[tuple[object, ...], ...]
    evaluations: tuple[tuple[object, ...], ...]
    flags: tuple[tuple[object, ...], ...]
    stages: tuple[tuple[object, ...], ...]


def moment(text: str) -> str:
    """A time as UTC to the millisecond, so that times compare as texts.

    Raises:
        ValueError: it is none.
    """
    if _OURS.match(text):
        return text
    return stamp(datetime.fromisoformat(text))


def stamp(time: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def version_key(version: str) -> str:
    """Sorts versions as people count: 9 before 10, 1.9 before 1.10."""
    return _DIGITS.sub(lambda found: _counted(found[0]), version)


def _counted(digits: str) -> str:
    plain = digits.lstrip("0") or "0"
    return f"{len(plain):02d}{plain}"


def flatten(key: tuple[str, str, str], state: Document | None, entry: Document | None) -> VersionRows:
    """The rows of a version (*key*: model, version, kind) of which the content, the entry or both are known."""
    shown = listed(key, state, entry)
    facts: Document = (entry or {}).get("facts", {})
    flags: Mapping[str, Document] = (entry or {}).get("flags", {})
    stages: list[Document] = (entry or {}).get("stages", [])
    return VersionRows(
        version=_row(shown, facts),
        listed=to_json(shown).decode(),
        tags=tuple((tag, key[0], version_key(key[1]), *key[1:]) for tag in shown["tags"]),
        evaluations=tuple((*key, opponent, *_counts(e)) for opponent, e in (facts.get("evaluations") or {}).items()),
        flags=tuple((*key, name, *_flag(flag)) for name, flag in flags.items()),
        stages=tuple(
            (*key, place, change["stage"], moment(change["at"]), change.get("n", 0))
            for place, change in enumerate(stages)
        ),
    )


def listed(key: tuple[str, str, str], state: Document | None, entry: Document | None) -> dict[str, Any]:
    """What a list shows of a version. Sizes in bytes."""
    model, version, kind = key
    either: Document = entry or state or {}
    facts: Document = (entry or {}).get("facts", {})
    rating: Document = facts.get("rating") or {}
    size, files, form = _content(state)
    registered = (entry or {}).get("registered_at") or either["at"]
    return {
        "model": model,
        "version": version,
        "kind": kind,
        "artifact": either["artifact"],
        "stage": _stage(kind, entry),
        "since": moment((entry or {}).get("since") or registered),
        "bytes": size or (entry or {}).get("bytes", 0),
        "files": files,
        "format": form or (entry or {}).get("format", ""),
        "origin": _origin(either),
        **{name: facts.get(name) for name in SHOWN_FACTS},
        "run_id": facts.get("run_id") or (state or {}).get("run_id"),
        "tags": sorted(set(facts.get("tags") or ())),
        "elo": rating.get("elo"),
        "elo_error": rating.get("error"),
        "games": rating.get("games") or _games(facts),
        "metrics": facts.get("evaluation_metrics") or (state or {}).get("metrics") or {},
        "quarantine": (entry or {}).get("quarantine"),
        "was_served": any(change["stage"] in _SERVED for change in (entry or {}).get("stages", ())),
        "archived_to": (entry or {}).get("archived_to"),
        "registered_at": moment(registered),
        "registered_by": (entry or {}).get("registered_by") or either["cause"]["by"],
    }


def _row(shown: Mapping[str, Any], facts: Document) -> tuple[object, ...]:
    return (
        shown["model"],
        version_key(shown["version"]),
        shown["version"],
        shown["kind"],
        shown["stage"],
        shown["owner"],
        shown["team"],
        shown["framework"],
        shown["model_type"],
        shown["format"],
        shown["origin"],
        shown["run_id"],
        shown["since"],
        shown["registered_at"],
        shown["elo"],
        shown["bytes"],
        shown["artifact"][:16],
        _search(shown, facts),
    )


def _search(shown: Mapping[str, Any], facts: Document) -> str:
    """The words that a text is looked for in."""
    names = ("model", "version", "display_name", "owner", "team", "framework", "model_type", "run_id")
    said = [shown[name] for name in names] + [facts.get("description"), *shown["tags"]]
    return "\n".join(dict.fromkeys(str(text).lower() for text in said if text))


def _content(state: Document | None) -> tuple[int, int, str]:
    """Bytes, number of files and format."""
    if state is None:
        return 0, 0, ""
    content, ref = state.get("content"), state.get("content_ref")
    if content:
        return sum(file["size"] for file in content["files"]), len(content["files"]), content["format"]
    # Only bundles have so many files that their content is kept by reference.
    return (ref["bytes"], ref["files"], "mixed") if ref else (0, 0, "")


def _stage(kind: str, entry: Document | None) -> str:
    if entry is not None:
        return str(entry.get("stage", "development"))
    # Data sets have no stages; a model's version from before there was a registry daemon stands at the beginning.
    return "development" if kind == "model" else ""


def _origin(either: Document) -> str:
    origin = either["origin"]
    return str(origin["node"] if isinstance(origin, Mapping) else origin)


def _games(facts: Document) -> int:
    evaluations: Iterable[Document] = (facts.get("evaluations") or {}).values()
    return sum(sum(_counts(each)) for each in evaluations)


def _counts(evaluation: Document) -> tuple[int, int, int]:
    return evaluation["wins"], evaluation["losses"], evaluation.get("draws", 0)


def _flag(flag: Document) -> tuple[object, ...]:
    report = flag.get("report")
    return (
        int(flag["value"]),
        flag["by"],
        moment(flag["at"]),
        flag.get("reason"),
        to_json(report).decode() if report else None,
    )
