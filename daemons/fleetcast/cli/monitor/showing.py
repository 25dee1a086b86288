"""`fleetcast monitor` and `monitor show`: how models perform, and what they are judged by."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleetcast.bus import Bus
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import clock, counted, moment
from fleetcast.registry.errors import NoMonitor
from fleetcast.registry.monitoring import Answer, ask
from fleetcast.registry.readmodel.errors import BadQuery, NothingFound

_NONE = "-"
START_ONE = "fleetcast run monitor    (on one or two nodes)"


def fleet(call: Call, *, window: int | None) -> Exit:
    """All models; exit 1 when one is failing."""
    answer = run_async(_asked(target(call), ({"ask": "health", "window_minutes": window},)))[0]
    call.out.document(answer)
    parts = [f"{answer[word]} {word}" for word in ("healthy", "degraded", "failing", "unknown") if answer[word]]
    call.out.text(f"{counted(answer['total_models'], 'model')}: {', '.join(parts) or 'nothing is served'}")
    columns = ("MODEL", "HEALTH", "MODE", "REQUESTS", "ERRORS", "P95 MS", "OOD", "LAST SNAPSHOT", "REASONS")
    call.out.show(table(columns, [_line(each) for each in answer["models"]], right=(3, 4, 5, 6)))
    if answer["unanswered"]:
        call.out.say(f"nobody answered for {', '.join(answer['unanswered'])}: their monitor changes; ask again")
    return Exit.FAILED if answer["failing"] else Exit.OK


def _line(model: Mapping[str, Any]) -> tuple[object, ...]:
    numbers = model["metrics"]
    last = model["last_snapshot_at"]
    return (
        f"{model['model_id']}@{model['version']}",
        model["health_status"],
        model["mode"] or _NONE,
        _number(numbers.get("num_requests")),
        _percent(numbers.get("avg_error_rate")),
        _number(numbers.get("avg_latency_p95_ms")),
        _percent(numbers.get("avg_ood_rate")),
        clock(moment(last)) if last else _NONE,
        "; ".join(model["reasons"]) or _NONE,
    )


def show(call: Call, model: str, *, window: int | None) -> Exit:
    """One model: policy, numbers, triggers, what was said."""
    questions = ({"ask": "health", "model": model, "window_minutes": window}, {"ask": "policy", "model": model})
    health, policy = run_async(_asked(target(call), questions))
    call.out.document({**health, "policy": policy})
    call.out.text(_headline(health))
    call.out.show(table(("RULE", "VALUE", "UNIT", "FROM"), [_rule(each) for each in policy["values"]]))
    for version in health["versions"]:
        call.out.text("")
        call.out.text(_version(version, health["window_minutes"]))
        columns = ("TRIGGER", "NODE", "VERDICT", "REQUIRED", "ACTUAL", "DOES")
        call.out.show(table(columns, [_trigger(each) for each in version["triggers"]]))
    if health["not_counted"]:
        dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(health["not_counted"].items()))
        call.out.say(f"snapshots that were not counted: {dropped}")
    return Exit.OK


def _headline(health: Mapping[str, Any]) -> str:
    word = health["model_health"]
    advice = "should be rolled back" if health["should_rollback"] else "need not be rolled back"
    return f"{health['model_id']}: {word}, {advice}; mode {health['mode']}, slot generation {health['generation']}"


def _rule(value: Mapping[str, Any]) -> tuple[object, ...]:
    shown = value["value"]
    if isinstance(shown, list):
        shown = ", ".join(str(each.get("name") or each) if isinstance(each, dict) else str(each) for each in shown)
    return (value["name"], _NONE if shown in (None, "") else shown, value["unit"], value["origin"])


def _version(version: Mapping[str, Any], window: int) -> str:
    numbers = version["metrics"]
    nodes = counted(len(version["nodes"]), "node")
    said = [
        f"{_number(numbers.get('num_requests'))} requests",
        f"errors {_percent(numbers.get('avg_error_rate'))}",
        f"p95 {_number(numbers.get('avg_latency_p95_ms'))} ms",
        f"OOD {_percent(numbers.get('avg_ood_rate'))}",
    ]
    weights = ", ".join(f"{_number(count)} {name}" for name, count in version["weights"].items())
    counted_as = f" (counted as: {weights})" if weights else ""
    return (
        f"{version['version']} ({version['slot']}): {version['health']}; {nodes}, last {window} minutes: "
        f"{', '.join(said)}{counted_as}"
    )


def _trigger(trigger: Mapping[str, Any]) -> tuple[object, ...]:
    verdict = f"{trigger['verdict']} ({trigger['severity']})" if trigger["severity"] else trigger["verdict"]
    return (
        trigger["signal"],
        trigger["node"] or "all",
        verdict,
        trigger["required"],
        trigger["actual"],
        trigger["action"] if trigger["action"] != "none" else _NONE,
    )


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.2f} %"


async def _asked(aim: Target, questions: Sequence[Mapping[str, Any]]) -> list[Answer]:
    async with connected(aim) as bus:
        return [await asked(bus, question) for question in questions]


async def asked(bus: Bus, question: Mapping[str, Any]) -> Answer:
    """The monitors' answer.

    Raises:
        Problem: there is none; says why and what to do.
    """
    try:
        return await ask(bus, question)
    except NoMonitor as error:
        raise Problem(
            "no_monitor",
            "no monitor daemon answers, so nobody judges how models perform",
            why=str(error),
            next_step=START_ONE,
        ) from error
    except NothingFound as error:
        raise not_found(str(error), next_step="fleetcast models") from error
    except BadQuery as error:
        raise usage(str(error)) from error
