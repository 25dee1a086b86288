"""`fleetcast replay-rules`: what changed limits would have said of the past, beside those in force."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleetcast.bus import Bus
from fleetcast.bus.streams import MINUTES, REGISTRY
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.translate import config_problem
from fleetcast.cli.units import clock, counted, duration, parse_duration
from fleetcast.config.errors import ConfigError
from fleetcast.daemons.monitor.loading import load
from fleetcast.daemons.monitor.policy import Policy
from fleetcast.daemons.monitor.trial import Trial, try_rules
from fleetcast.daemons.monitor.verdicts import Remedy
from fleetcast.events.ids import is_name
from fleetcast.events.lifecycle import EntryState, Facts, entry_subject
from fleetcast.events.performance import Minute, read_minute

MOST_SECONDS: Final = 90 * 86400.0
"""Minutes are kept for so long."""
FactsOf = Mapping[str, Facts | None]


@dataclass(frozen=True, slots=True)
class Tried:
    """One model under the rules that were tried, and under those in force; None: they are the same."""

    tried: Trial
    present: Trial | None


def run(call: Call, *, since: str, policy: Path | None, model: str | None) -> Exit:
    """Try rules on what was kept; changes nothing.

    Raises:
        Problem: there is nothing to try them on, or the rules cannot be read.
    """
    aim = target(call)
    seconds = parse_duration(since, option="--since")
    if not 0 < seconds <= MOST_SECONDS:
        raise usage(f"--since {since}: minutes are kept for 90 days")
    if model is not None and not is_name(model):
        raise usage(f"{model[:80]!r} is no model")
    present = _policy(aim.settings.monitor.policy)
    tried = _policy(policy) if policy is not None else present
    minutes, facts = run_async(_kept(aim, seconds, model))
    if not minutes:
        raise not_found(
            f"no minute of {model or 'any model'} was kept in the last {duration(seconds)}",
            why="a monitor writes them, of the snapshots that serving code sends",
            next_step="fleetcast monitor",
        )
    found = [_try(name, minutes[name], facts.get(name, {}), tried, present) for name in sorted(minutes)]
    call.out.document(
        {"since": since, "policy": str(policy) if policy else None, "models": [_document(f) for f in found]}
    )
    for each in found:
        _show(call, each)
    return Exit.OK


def _policy(path: Path | None) -> Policy:
    try:
        return load(path) if path is not None else Policy.default()
    except ConfigError as error:
        raise config_problem(error, "the monitor's policy cannot be used") from error


def _try(model: str, minutes: Sequence[Minute], facts: FactsOf, tried: Policy, present: Policy) -> Tried:
    new, old = tried.for_model(model), present.for_model(model)
    trial = try_rules(model, minutes, new, facts)
    return Tried(trial, None if new == old else try_rules(model, minutes, old, facts))


async def _kept(
    aim: Target, seconds: float, model: str | None
) -> tuple[dict[str, list[Minute]], dict[str, dict[str, Facts | None]]]:
    minutes: dict[str, list[Minute]] = defaultdict(list)
    facts: dict[str, dict[str, Facts | None]] = defaultdict(dict)
    async with connected(aim) as bus:
        async for minute in _minutes(bus, seconds, model):
            minutes[minute.model].append(minute)
        for name, kept in minutes.items():
            for version in {each.version for each in kept}:
                entry = await bus.last(REGISTRY, entry_subject(name, version))
                facts[name][version] = EntryState.model_validate_json(entry.data).facts if entry is not None else None
    return minutes, facts


async def _minutes(bus: Bus, seconds: float, model: str | None) -> AsyncIterator[Minute]:
    start = datetime.now(UTC) - timedelta(seconds=seconds)
    async for entry in bus.tail(MINUTES, (f"fc.min.{model or '*'}.*",), start_time=start):
        try:
            minute = read_minute(entry.data)
        except ValueError:
            continue
        yield minute


def _document(found: Tried) -> dict[str, Any]:
    return {
        "model": found.tried.model,
        "tried": _trial(found.tried),
        "present": _trial(found.present) if found.present is not None else None,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        **asdict(trial),
        "rollbacks": trial.count(Remedy.ROLL_BACK),
        "drains": trial.count(Remedy.DRAIN),
        "pages": trial.count(Remedy.PAGE),
        "retrainings": trial.count(Remedy.RETRAIN),
        "passing": trial.passing,
    }


def _show(call: Call, found: Tried) -> None:
    trial = found.tried
    span = duration(trial.last_at - trial.first_at)
    call.out.text(
        f"{trial.model}: {counted(trial.minutes, 'minute')} of {span}, {trial.requests:,.0f} requests: {_said(trial)}"
    )
    if found.present is not None:
        call.out.text(f"  the rules in force: {_said(found.present)}")
    if trial.happenings:
        columns = ("AT", "VERSION", "TRIGGER", "NODE", "CALLS FOR", "DOES", "OVER AFTER", "ACTUAL")
        call.out.show(table(columns, [_row(each) for each in trial.happenings]))


def _said(trial: Trial) -> str:
    words = {"rollback": Remedy.ROLL_BACK, "drain": Remedy.DRAIN, "page": Remedy.PAGE, "retraining": Remedy.RETRAIN}
    parts = [counted(trial.count(remedy), noun) for noun, remedy in words.items() if trial.count(remedy)]
    passing = f" ({trial.passing} of what passed by itself)" if trial.passing else ""
    return f"{', '.join(parts)}{passing}" if parts else "nothing would have been done"


def _row(each: Any) -> tuple[object, ...]:
    over = duration(each.ended_at - each.at) if each.ended_at is not None else "-"
    at = clock(datetime.fromtimestamp(each.at, UTC))
    return (at, each.version, each.signal, each.node or "all", each.remedy.value, each.action, over, each.actual)
