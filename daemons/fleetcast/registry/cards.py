"""Model cards: a version as a README.md that Hugging Face shows. Pure; the same version gives the same card.

Sections: Mitchell et al., Model Cards for Model Reporting (FAT* 2019). Front matter: the metadata of the Hugging Face
Hub (`license`, `datasets`, `metrics`, `model-index`). What nobody said is named as not stated, never left out: a
reader must see what is missing.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from fleetcast.events.content import Content
from fleetcast.events.lifecycle import EntryState, Evaluation, Facts, Rating
from fleetcast.registry.documents import write

NOT_STATED: Final = "_Not stated._"
# fmt: off
LICENSES: Final = frozenset(
    (
        "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigcode-openrail-m", "bigscience-openrail-m", "bsd",
        "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5",
        "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0",
        "cc-by-sa-4.0", "creativeml-openrail-m", "ecl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "gemma",
        "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "llama2", "llama3", "llama3.1",
        "llama3.2", "llama3.3", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail",
        "openrail++", "osl-3.0", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
    )
)
# fmt: on
"""Licences that the Hub knows by name; any other is `other`, with its own name besides."""
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>|#~])")


def card(entry: EntryState, content: Content | None = None) -> str:
    """The model card of a version; *content*: its files, where they are known."""
    front = write(_front_matter(entry), "yaml")
    sections = (
        _title(entry),
        _section("Model details", _details(entry)),
        _section("Intended use", _prose(entry, "intended_use", "out_of_scope_use")),
        _section("Factors", _prose(entry, "factors")),
        _section("Metrics", _metrics(entry.facts)),
        _section("Evaluation data", _evaluation_data(entry.facts)),
        _section("Training data", _training_data(entry.facts)),
        _section("Quantitative analyses", _analyses(entry.facts)),
        _section("Ethical considerations", [*_checks(entry), "", *_prose(entry, "ethical_considerations")]),
        _section("Caveats and recommendations", _prose(entry, "limitations", "caveats")),
        _section("Files", _files(entry, content)),
    )
    return f"---\n{front}---\n\n" + "\n".join(sections)


# -- front matter


def _front_matter(entry: EntryState) -> dict[str, Any]:
    facts = entry.facts
    front: dict[str, Any] = {**_license(facts.license), "library_name": _word(facts.framework)}
    front |= {
        "tags": list(dict.fromkeys(("fleetcast", *(facts.tags or ())))),
        "datasets": list(facts.data_sets or ()),
        "metrics": sorted(facts.evaluation_metrics or {}),
        "model_name": _name(entry),
        "version": entry.version,
        "model-index": [{"name": _name(entry), "results": [_result(facts)]}] if facts.evaluation_metrics else None,
    }
    return {key: value for key, value in front.items() if value not in (None, "", [])}


def _license(name: str | None) -> dict[str, str]:
    if name is None:
        return {"license": "unknown"}
    known = name.strip().lower().replace(" ", "-")
    return {"license": known} if known in LICENSES else {"license": "other", "license_name": name}


def _result(facts: Facts) -> dict[str, Any]:
    """One result of the model index; the Hub refuses one without a task and a data set."""
    numbers = facts.evaluation_metrics or {}
    return {
        "task": {"type": _word(facts.model_type) or "other"},
        "dataset": {"type": "not-stated", "name": "not stated"},
        "metrics": [{"type": name, "name": name, "value": numbers[name]} for name in sorted(numbers)],
    }


def _word(text: str | None) -> str:
    return re.sub(r"\s+", "-", text.strip().lower()) if text else ""


def _name(entry: EntryState) -> str:
    return entry.facts.display_name or entry.model


# -- sections


def _title(entry: EntryState) -> str:
    described = entry.facts.description
    return f"# {_plain(_name(entry))}\n\n{_plain(described) if described else 'A description was not stated.'}\n"


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join((f"## {title}", "", *lines, ""))


def _details(entry: EntryState) -> list[str]:
    f = entry.facts
    rows = {
        "Model": entry.model,
        "Version": entry.version,
        "Stage": f"{entry.stage} since {entry.since}",
        "Owner": f.owner,
        "Team": f.team,
        "Framework": f.framework,
        "Model type": f.model_type,
        "License": f.license,
        "Registered": f"{entry.registered_at} by {entry.registered_by}",
        "Trained": f.training_timestamp,
        "Run": f.run_id,
        "Experiment": f.experiment_id,
        "Code": f.git_commit,
        "Environment": f.environment,
        "Reproducibility hash": f.reproducibility_hash,
    }
    return _table(("", ""), [(name, _said(value)) for name, value in rows.items()])


def _prose(entry: EntryState, *keys: str) -> list[str]:
    """What only a person can write: taken from the version's metadata."""
    said = [_plain(str(entry.metadata[key])) for key in keys if entry.metadata.get(key)]
    return _spaced(said or [NOT_STATED])


def _metrics(facts: Facts) -> list[str]:
    latencies = {f"Latency p{p}, objective": getattr(facts, f"expected_latency_p{p}_ms") for p in (50, 95, 99)}
    rows = [(name, f"{value:g} ms" if value is not None else NOT_STATED) for name, value in latencies.items()]
    error = facts.calibration_error
    rows.append(("Expected calibration error", f"{error:g}" if error is not None else NOT_STATED))
    named = ", ".join(_plain(name) for name in sorted(facts.evaluation_metrics or {})) or NOT_STATED
    return [f"Measured: {named}", "", *_table(("", ""), rows)]


def _evaluation_data(facts: Facts) -> list[str]:
    if not facts.evaluations:
        return [NOT_STATED]
    return [f"Games against {', '.join(_plain(opponent) for opponent in sorted(facts.evaluations))}."]


def _training_data(facts: Facts) -> list[str]:
    rows = [
        ("Digest", _said(facts.training_data_hash)),
        ("Samples", _said(facts.training_dataset_size)),
        ("Data sets", ", ".join(f"`{each}`" for each in facts.data_sets or ()) or NOT_STATED),
    ]
    return _table(("", ""), rows)


def _analyses(facts: Facts) -> list[str]:
    numbers = facts.evaluation_metrics or {}
    lines = _table(("Metric", "Value"), [(_plain(name), f"{numbers[name]:g}") for name in sorted(numbers)])
    games = facts.evaluations or {}
    if games:
        rows = [_games(opponent, games[opponent]) for opponent in sorted(games)]
        lines += ["", *_table(("Opponent", "Games", "Wins", "Losses", "Draws", "Score"), rows)]
    if facts.rating:
        lines += ["", _rating(facts.rating)]
    return lines if numbers or games or facts.rating else [NOT_STATED]


def _games(opponent: str, games: Evaluation) -> tuple[str, ...]:
    score = f"{(games.wins + games.draws / 2) / games.games:.3f}" if games.games else "-"
    return (_plain(opponent), *(str(n) for n in (games.games, games.wins, games.losses, games.draws)), score)


def _rating(rating: Rating) -> str:
    error = f" ± {rating.error:g} (95 %)" if rating.error is not None else ", error not stated"
    return f"Elo {rating.elo:g}{error}, from {rating.games} games."


def _checks(entry: EntryState) -> list[str]:
    """The governance flags, with whoever answers for them."""
    names = sorted({"constitutional_compliance", "bias_check_passed", *entry.flags})
    return _table(("Check", "Result", "By"), [_check(entry, name) for name in names])


def _check(entry: EntryState, name: str) -> tuple[str, ...]:
    flag = entry.flags.get(name)
    if flag is None:
        return (f"`{name}`", NOT_STATED, "")
    reason = f": {_plain(flag.reason)}" if flag.reason else ""
    return (f"`{name}`", "yes" if flag.value else "no", f"{_plain(flag.by)}, {flag.at}{reason}")


def _files(entry: EntryState, content: Content | None) -> list[str]:
    lines = [f"Artifact `{entry.artifact}`, {entry.format or 'format not stated'}, {entry.bytes} bytes.", ""]
    files = content.files if content else ()
    return lines + _table(("File", "Bytes", "SHA-256"), [(_plain(f.path), str(f.size), f"`{f.sha256}`") for f in files])


# -- Markdown


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    if not body:
        return []
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body]


def _said(value: object) -> str:
    return NOT_STATED if value is None else _plain(str(value))


def _plain(text: str) -> str:
    """*text* on one line, as it is: what somebody wrote must not become markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _spaced(paragraphs: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += ([""] if lines else []) + [paragraph]
    return lines
