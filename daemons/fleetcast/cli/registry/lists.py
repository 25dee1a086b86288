"""`fleetcast models`, `info`, `compare`: what there is, and what is known of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleetcast.cli.call import Call
from fleetcast.cli.problems import Exit, usage
from fleetcast.cli.registry.reading import asked, document
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
    """Everything about a version."""
    model, version = split_target(wanted)
    if version is None:
        raise usage(f"{wanted!r} names no version", next_step=f"fleetcast models {model}    (lists them)")
    answer = asked(call, "info", {"model": model, "version": version}, min_seq=min_seq)
    call.out.document(document(answer))
    call.out.show(table(("FACT", "VALUE"), list(_facts(answer.result))))
    _part(call, "FLAG", answer.result["flags"], lambda f: f"{str(f['value']).lower()}, by {f['by']} at {f['at']}")
    _part(
        call,
        "OPPONENT",
        answer.result["evaluations"],
        lambda e: f"{e['wins']} won, {e['losses']} lost, {e['draws']} drawn",
    )
    rows = [(s["stage"], s["at"], s["actor"] or _MARK, s["reason"] or _MARK) for s in answer.result["stages"]]
    call.out.text("")
    call.out.show(table(("STAGE", "SINCE", "BY", "WHY"), rows))
    return Exit.OK


def _part(call: Call, head: str, values: Mapping[str, Any], told: Any) -> None:
    if values:
        call.out.text("")
        call.out.show(table((head, "SAID"), [(name, told(value)) for name, value in values.items()]))


def _facts(result: Row) -> list[tuple[str, str]]:
    """What is known of a version, in the order in which people ask."""
    plain = ("stage", "since", "artifact", "bytes", "format", "origin", "registered_at", "registered_by")
    rows = [(name, str(result[name])) for name in plain if result.get(name) is not None]
    slots = ", ".join(result.get("slots") or ())
    facts = {k: v for k, v in result["facts"].items() if k not in {"evaluations", "rating"} and v is not None}
    rating = result.get("rating")
    said = [(name, str(value)) for name, value in facts.items()]
    if rating:
        error = f" ± {rating['error']:g}" if rating.get("error") else ""
        said.append(("rating", f"Elo {rating['elo']:g}{error} after {rating['games']} games"))
    used = result.get("consumption") or {}
    nodes = (
        [("nodes", f"installed on {used.get('installed', 0)}, active on {used.get('activated', 0)}")] if used else []
    )
    meta = [(f"metadata.{name}", str(value)) for name, value in (result.get("metadata") or {}).items()]
    return [*rows[:2], ("slots", slots or _MARK), *rows[2:], *nodes, *said, *meta]


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
