"""`fleetcast history`, `registry at`, `explain`: what was decided, by whom, and from which numbers."""

from collections.abc import Mapping
from typing import Any

from fleetcast.cli.call import Call
from fleetcast.cli.problems import Exit, Problem
from fleetcast.cli.registry.asking import gate_table
from fleetcast.cli.registry.reading import asked, document
from fleetcast.cli.table import table
from fleetcast.events.decisions import GateVerdict
from fleetcast.registry.gates import rejudge
from fleetcast.registry.gates.results import Judgement

_MARK = "-"


def history(
    call: Call,
    model: str,
    *,
    consumption: bool,
    version: str | None,
    before: int | None,
    limit: int,
    min_seq: int | None,
) -> Exit:
    """Decisions about a model, newest first; or what nodes did with its versions."""
    if consumption:
        return _consumption(call, model, version, limit, min_seq)
    args = {"model": model, "version": version, "before": before, "limit": limit}
    answer = asked(call, "history", args, min_seq=min_seq)
    call.out.document(document(answer))
    rows = [
        (r["n"], r["at"], r["action"], r["version"] or _MARK, r["actor"], r["reason"] or _MARK)
        for r in answer.result["records"]
    ]
    call.out.show(table(("N", "AT", "DECISION", "VERSION", "BY", "WHY"), rows, right=(0,)))
    if answer.result["next"] is not None:
        call.out.say(f"older: fleetcast history {model} --before {answer.result['next']}")
    call.out.say(f"the numbers behind one: fleetcast explain {model} N")
    return Exit.OK


def _consumption(call: Call, model: str, version: str | None, limit: int, min_seq: int | None) -> Exit:
    args = {"model": model, "version": version, "limit": limit}
    answer = asked(call, "consumption", args, min_seq=min_seq)
    call.out.document(document(answer))
    rows = [(e["at"], e["node"], e["what"], e["version"], e.get("slot") or _MARK) for e in answer.result["events"]]
    call.out.show(table(("AT", "NODE", "DID", "VERSION", "SLOT"), rows))
    for name, counts in answer.result["nodes"].items():
        call.out.say(f"{model}@{name}: installed on {counts['installed']}, active on {counts['activated']}")
    return Exit.OK


def registry_at(call: Call, at: str, *, model: str | None, after: str | None, limit: int) -> Exit:
    """What was served of every model at a time."""
    answer = asked(call, "registry_at", {"at": at, "model": model, "after": after, "limit": limit})
    call.out.document(document(answer))
    rows = [
        (
            s["model"],
            s["production"] or _MARK,
            s["generation"],
            f"{s['canary']} ({s['percent']} %)" if s["canary"] else _MARK,
            s["previous"] or _MARK,
            s["since"],
            s["n"],
        )
        for s in answer.result["slots"]
    ]
    call.out.show(table(("MODEL", "PRODUCTION", "GEN", "CANARY", "PREVIOUS", "SINCE", "N"), rows, right=(2, 6)))
    call.out.say(f"as of {answer.result['at']}, from the audit records")
    return Exit.OK


def explain(call: Call, model: str, number: int) -> Exit:
    """One decision: what it was made from, and whether the same verdict comes out of it again.

    Raises:
        Problem: it does not.
    """
    answer = asked(call, "decision", {"model": model, "n": number})
    record = answer.result
    again, differences = judged_again(record)
    same = {"rejudged": bool(again), "same": not differences, "differences": differences}
    call.out.document({**document(answer), **same})
    for line in _told(record):
        call.out.text(line)
    for judgement in again:
        call.out.text(f"\ngates to {judgement.target}, judged again from the record:")
        call.out.show(gate_table([GateVerdict.model_validate(r.said().model_dump()) for r in judgement.results]))
    if differences:
        raise Problem(
            "verdict_differs",
            f"decision {number} about {model} does not come out the same",
            why="; ".join(differences[:5]),
            next_step=f"fleetcast audit verify {model}",
        )
    if again:
        call.out.say("the same verdict comes out of the recorded inputs, bit for bit")
    return Exit.OK


def judged_again(record: Mapping[str, Any]) -> tuple[list[Judgement], list[str]]:
    """The judgements of a decision, made again from what its record keeps, and where they differ from those kept.

    Raises:
        Problem: the record cannot be judged.
    """
    steps = (record.get("evidence") or {}).get("steps", [])
    try:
        again = [rejudge(step) for step in steps]
    except ValueError as error:
        raise Problem(
            "not_judged_again",
            f"decision {record['n']} about {record['model']}: {error}",
            next_step=f"fleetcast audit verify {record['model']}",
        ) from error
    return [judgement for judgement, _ in again], [line for _, lines in again for line in lines]


def _told(record: Mapping[str, Any]) -> list[str]:
    lines = [
        f"decision {record['n']} about {record['model']}: {record['action']}",
        f"  at    {record['at']}, sequence {record['sequence']}",
        f"  by    {record['actor']}, request {record['request']}",
    ]
    if record["reason"]:
        lines.append(f"  why   {record['reason']}")
    for when in ("before", "after"):
        if record[when]:
            shown = ", ".join(f"{k}={_short(v)}" for k, v in record[when].items() if v not in (None, [], {}))
            lines.append(f"  {when:<6}{shown}")
    return lines


def _short(value: object) -> str:
    if isinstance(value, dict) and "version" in value:
        return str(value["version"])
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
