"""`fleetcast models`, `info`, `compare`: what there is, and what is known of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleetcast.cli.call import Call
from fleetcast.cli.problems import Exit
from fleetcast.cli.registry.reading import asked, document
from fleetcast.cli.registry.trusting import Trusted, trusted
from fleetcast.cli.table import table
from fleetcast.cli.units import clock, moment, size
from fleetcast.cli.waiting import split_target

Row = Mapping[str, Any]
_MARK = "-"


def models(
    call: Call,
    model: str | None,
    *,
    stage: str | None,
    tags: tuple[str, ...],
    framework: str | None,
    owner: str | None,
    team: str | None,
    text: str | None,
    order: str | None,
    after: str | None,
    limit: int,
    min_seq: int | None,
) -> Exit:
    """All models, a line each; or versions, where one model is named or something of versions is asked for."""
    filters = {"stage": stage, "tags": tags, "framework": framework, "owner": owner, "team": team, "text": text}
    if model is None and order is None and not any(filters.values()):
        answer = asked(call, "models", {"after": after, "limit": limit}, min_seq=min_seq)
        call.out.document(document(answer))
        call.out.show(_model_table(answer.result["models"]))
    else:
        wanted = {"model": model, "order": order or "model", "after": after, "limit": limit, **filters}
        answer = asked(call, "versions", wanted, min_seq=min_seq)
        call.out.document(document(answer))
        call.out.show(_version_table(answer.result["versions"]))
    if answer.result["next"] is not None:
        call.out.say(f"more: the same with --after '{answer.result['next']}'")
    if answer.behind:
        call.out.say(f"the read model is {answer.behind} records behind; --min-seq N waits")
    return Exit.OK


def _model_table(rows: Sequence[Row]) -> Any:
    columns = ("MODEL", "PRODUCTION", "GEN", "PREVIOUS", "CANARY", "ROLLOUT", "VERSIONS", "SINCE")
    return table(columns, [_model_row(row) for row in rows], right=(2, 6))


def _model_row(row: Row) -> tuple[object, ...]:
    canary = f"{row['canary']} ({row['percent']} %)" if row["canary"] else _MARK
    since = row["served_since"]
    return (
        row["model"],
        row["production"] or _MARK,
        row["generation"],
        row["previous"] or _MARK,
        canary,
        row["rollout"] or _MARK,
        row["versions"],
        clock(moment(since)) if since else _MARK,
    )


def _version_table(rows: Sequence[Row]) -> Any:
    columns = ("VERSION", "STAGE", "SLOT", "ELO", "GAMES", "BYTES", "FORMAT", "OWNER", "ARTIFACT", "SINCE")
    lines = [
        (
            f"{row['model']}@{row['version']}",
            row["stage"],
            ", ".join(row.get("slots") or ()) or _MARK,
            f"{row['elo']:g}" if row.get("elo") is not None else _MARK,
            row.get("games") or _MARK,
            size(row["bytes"] or 0),
            row["format"],
            row.get("owner") or _MARK,
            str(row["artifact"])[:16],
            clock(moment(row["since"])) if row.get("since") else _MARK,
        )
        for row in rows
    ]
    return table(columns, lines, right=(3, 4, 5))


def info(call: Call, wanted: str, *, min_seq: int | None) -> Exit:
    """Everything about a version, or how far a model can be trusted."""
    model, version = split_target(wanted)
    if version is None:
        return _model(call, model, trusted(call, model))
    answer = asked(call, "info", {"model": model, "version": version}, min_seq=min_seq)
    known = trusted(call, model)
    call.out.document({**document(answer), "trust": known.document()})
    about = [*_state(answer.result), *_said(answer.result), ("trust in the model", known.sentence)]
    call.out.show(table(("FACT", "VALUE"), about))
    _parts(call, answer.result)
    rows = [(s["stage"], s["at"], s["actor"] or _MARK, s["reason"] or _MARK) for s in answer.result["stages"]]
    call.out.text("")
    call.out.show(table(("STAGE", "SINCE", "BY", "WHY"), rows))
    return Exit.OK


def _model(call: Call, model: str, known: Trusted) -> Exit:
    """What is served of a model, and how its promotions ended."""
    slot = known.slot
    served = {name: getattr(slot, name).version if slot and getattr(slot, name) else None for name in _SLOTS}
    call.out.document({"model": model, **served, "trust": known.document()})
    rows = [(name, version or _MARK) for name, version in served.items()]
    call.out.show(table(("FACT", "VALUE"), [("model", model), *rows, ("trust", known.sentence)]))
    call.out.say(f"next: fleetcast models {model}    (its versions; fleetcast info {model}@VERSION says more of one)")
    return Exit.OK


_SLOTS = ("production", "canary", "previous")


def evidence(call: Call, model: str, version: str, *, min_seq: int | None) -> Exit:
    """What was said about a version, and nothing else: what its gates look at."""
    answer = asked(call, "info", {"model": model, "version": version}, min_seq=min_seq)
    kept = {name: answer.result[name] for name in _EVIDENCE}
    call.out.document({**kept, "as_of_seq": answer.as_of_seq, "behind": answer.behind})
    said = _said(answer.result)
    if said:
        call.out.show(table(("FACT", "VALUE"), said))
    if not _parts(call, answer.result) and not said:
        call.out.text(f"nobody has said anything about {model}@{version}")
        call.out.say(f"next: fleetcast evidence set {model} {version} NAME=VALUE --reason TEXT")
    return Exit.OK


_EVIDENCE = ("model", "version", "stage", "facts", "metadata", "flags", "evaluations", "rating", "approvals")


def _parts(call: Call, result: Row) -> bool:
    """Tables of flags, games and approvals; whether there is any."""
    flags = [
        (name, str(f["value"]).lower(), f["by"], f["at"], f["reason"] or _MARK, _report(f["report"]))
        for name, f in result["flags"].items()
    ]
    games = [
        (name, e["wins"], e["losses"], e["draws"], f"{e['win_rate']:.1%}" if e["games"] else _MARK)
        for name, e in result["evaluations"].items()
    ]
    agreed = [(a["by"], a["stage"], a["at"], a["expires_at"], a.get("reason") or _MARK) for a in result["approvals"]]
    parts = (
        (("FLAG", "VALUE", "BY", "AT", "WHY", "REPORT"), flags),
        (("OPPONENT", "WON", "LOST", "DRAWN", "WIN RATE"), games),
        (("APPROVED BY", "FOR", "AT", "UNTIL", "WHY"), agreed),
    )
    for head, rows in parts:
        if rows:
            call.out.text("")
            call.out.show(table(head, rows))
    return bool(flags or games or agreed)


def _report(report: Row | None) -> str:
    return f"{report['name'].rpartition('/')[2]} (SHA-256 {report['sha256'][:16]}…)" if report else _MARK


def _state(result: Row) -> list[tuple[str, str]]:
    """Where a version stands, where it came from and where it is, in the order in which people ask."""
    plain = ("stage", "since", "archived_to", "artifact", "bytes", "format", "origin", "registered_at", "registered_by")
    rows = [(name, str(result[name])) for name in plain if result.get(name) is not None]
    slots = ", ".join(result.get("slots") or ())
    used = result.get("consumption") or {}
    nodes = (
        [("nodes", f"installed on {used.get('installed', 0)}, active on {used.get('activated', 0)}")] if used else []
    )
    name = ("version", f"{result['model']}@{result['version']}")
    return [name, *rows[:2], ("slots", slots or _MARK), *rows[2:], *nodes]


def _said(result: Row) -> list[tuple[str, str]]:
    """Facts, rating and metadata."""
    facts = {k: v for k, v in result["facts"].items() if k not in {"evaluations", "rating"} and v is not None}
    said = [(name, str(value)) for name, value in facts.items()]
    rating = result.get("rating")
    if rating:
        error = f" ± {rating['error']:g}" if rating.get("error") else ""
        lead = f", lead {rating['delta']:+g}" if rating.get("delta") is not None else ""
        said.append(("rating", f"Elo {rating['elo']:g}{error} after {rating['games']} games{lead}"))
    return said + [(f"metadata.{name}", str(value)) for name, value in (result.get("metadata") or {}).items()]


def compare(call: Call, a: str, b: str) -> Exit:
    """Two versions side by side: what differs, and every number."""
    answer = asked(call, "compare", {"a": a, "b": b})
    call.out.document(document(answer))
    result = answer.result
    differing = [
        (row["field"], _shown(row["a"]), _shown(row["b"]))
        for row in (*result["fields"], *result["flags"])
        if not row["same"]
    ]
    if result["same_content"]:
        call.out.text("the same content, byte for byte")
    call.out.show(table(("DIFFERS", result["a"], result["b"]), differing))
    metrics = [(m["metric"], _shown(m["a"]), _shown(m["b"]), _shown(m["difference"])) for m in result["metrics"]]
    if metrics:
        call.out.text("")
        call.out.show(table(("METRIC", result["a"], result["b"], "DIFFERENCE"), metrics, right=(1, 2, 3)))
    return Exit.OK


def _shown(value: object) -> str:
    if value is None:
        return _MARK
    return f"{value:g}" if isinstance(value, float) else str(value)
