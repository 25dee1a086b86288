"""`fleetcast playbooks`, `playbook run`, `show`, `approve`, `cancel`."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from fleetcast.bus import Bus, patience
from fleetcast.bus.errors import BusTimeout, ConnectionLost, NoResponder, ServiceFailed
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, Problem, not_found, timed_out, usage
from fleetcast.cli.remedy.asking import DEADLINE_SECONDS, START_ONE
from fleetcast.cli.running import run_async
from fleetcast.cli.units import duration, parse_duration
from fleetcast.daemons.remedy.playbooks.commands import Decide, List, PlaybookAnswer, RunIt, Show
from fleetcast.events.incidents import named
from fleetcast.events.remedies import PLAYBOOKS_SUBJECT, RUN_ENDED, PlaybookRunState, RunPhase

LOOK_SECONDS = 0.2
WELL = frozenset({RunPhase.SUCCEEDED, RunPhase.NOTHING})


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, as typed."""

    playbook: str
    resource: str
    version: str | None = None
    to: str | None = None
    params: tuple[str, ...] = ()
    incident: str | None = None


def listed(call: Call, *, everything: bool, actions: bool, limit: int) -> Exit:
    """Playbooks and runs, or what steps may do."""
    said = _asked(call, List(ended=everything, limit=limit))
    if actions:
        call.out.document({"actions": [each.model_dump(mode="json") for each in said.actions]})
        _table(
            call, ("ACTION", "PARAMS", "WHAT IT DOES"), [(a.name, " ".join(a.params), a.summary) for a in said.actions]
        )
        return Exit.OK
    call.out.document(
        {
            "playbooks": [each.model_dump(mode="json") for each in said.playbooks],
            "runs": [document(run) for run in said.runs],
        }
    )
    rows = [(p.name, p.resource_type, " ".join(p.steps), p.description) for p in said.playbooks]
    _table(call, ("PLAYBOOK", "FOR", "STEPS", "DESCRIPTION"), rows)
    call.out.text("")
    if not said.runs:
        call.out.text("no run" if everything else "no run under way")
        return Exit.OK
    _table(call, ("RUN", "PLAYBOOK", "RESOURCE", "PHASE", "ASKED", "BY", "DETAIL"), [_row(run) for run in said.runs])
    return Exit.OK


def start(call: Call, order: Order, *, reason: str | None, wait: bool, timeout: str, dry_run: bool) -> Exit:
    """Run a playbook, or say what it would do."""
    if not reason and not dry_run:
        example = f"fleetcast playbook run {order.playbook} {order.resource} --reason TEXT"
        raise usage("a reason must be said; it stays with the run", next_step=example)
    aim = target(call)
    asked = request(aim, order, reason or "dry run", dry_run=dry_run)
    said = run_async(_start(aim, asked, parse_duration(timeout, option="--timeout") if wait else None))
    if dry_run:
        call.out.document({"dry_run": True, "plan": [each.model_dump(mode="json") for each in said.plan]})
        for number, step in enumerate(said.plan, 1):
            more = f", {step.attempts} attempts" if step.attempts > 1 else ""
            call.out.text(
                f"{number}. {step.name}: {step.plan}    ({step.timeout_seconds:g} s{more}; {step.on_failure})"
            )
        return Exit.OK
    (run,) = said.runs
    call.out.document({"message": said.message, "run": document(run)})
    if run.phase in RUN_ENDED:
        _say(call, run)
        return Exit.OK if run.phase in WELL else Exit.FAILED
    call.out.text(printable(said.message))
    call.out.say(f"next: {said.next_step}")
    return Exit.OK


def show(call: Call, name: str) -> Exit:
    """Everything about one run."""
    (run,) = _asked(call, Show(run=name)).runs
    call.out.document({"run": document(run)})
    _say(call, run)
    return Exit.OK


def decide(call: Call, ask: str, name: str, *, reason: str | None) -> Exit:
    """Agree to a run, or end it."""
    if not reason:
        raise usage(
            "a reason must be said; it stays with the run", next_step=f"fleetcast playbook {ask} {name} --reason TEXT"
        )
    said = _asked(call, _parsed(Decide, {"ask": ask, "run": name, "reason": reason, "by": target(call).source}))
    call.out.document({"message": said.message, "run": document(said.runs[0])})
    call.out.text(said.message)
    return Exit.OK


# -- asking


def request(aim: Target, order: Order, reason: str, *, dry_run: bool = False, drill: bool = False) -> RunIt:
    """The request of an order.

    Raises:
        Problem: something of it cannot be what it is meant to be.
    """
    params = {}
    for each in order.params:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise usage(f"--param {each!r} is not NAME=VALUE")
        params[name] = value
    fields: dict[str, Any] = {
        "playbook": order.playbook,
        "resource": order.resource,
        "version": order.version,
        "to": order.to,
        "params": params,
        "reason": reason,
        "by": aim.source,
        "incident": order.incident,
        "dry_run": dry_run,
        "drill": drill,
    }
    return cast("RunIt", _parsed(RunIt, fields))


async def until_ended(bus: Bus, run: str, timeout_seconds: float) -> PlaybookRunState:
    """A run at its end.

    Raises:
        Problem: it did not end in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        (state,) = (await answer(bus, Show(run=run))).runs
        if state.phase in RUN_ENDED:
            return state
        if time.monotonic() > deadline:
            raise timed_out(
                f"{run} has not ended within {timeout_seconds:g} s",
                why=f"it is {state.phase.value}",
                next_step=f"fleetcast playbook show {run}",
            )
        await asyncio.sleep(LOOK_SECONDS)


async def answer(bus: Bus, asked: List | Show | RunIt | Decide) -> PlaybookAnswer:
    """What the remedy daemon says.

    Raises:
        Problem: there is none, or it says no.
    """
    data = asked.model_dump_json().encode()
    try:
        reads = isinstance(asked, List | Show)
        said = await patience.ask(bus, PLAYBOOKS_SUBJECT, data, deadline_seconds=DEADLINE_SECONDS, reads=reads)
        return _accepted(PlaybookAnswer.model_validate_json(said))
    except (NoResponder, BusTimeout, ConnectionLost) as error:
        raise Problem(
            "no_remedy",
            "no remedy daemon answers",
            why=str(error),
            next_step=f"{START_ONE}; fleetcast doctor says more",
        ) from error
    except ServiceFailed as error:
        raise usage(str(error)) from error
    except ValidationError as error:
        raise Problem("answer", "the remedy daemon's answer cannot be read", why=error.errors()[0]["msg"]) from error


def _asked(call: Call, asked: List | Show | RunIt | Decide) -> PlaybookAnswer:
    aim = target(call)

    async def run() -> PlaybookAnswer:
        async with connected(aim) as bus:
            return await answer(bus, asked)

    return run_async(run())


async def _start(aim: Target, asked: RunIt, wait_seconds: float | None) -> PlaybookAnswer:
    async with connected(aim) as bus:
        said = await answer(bus, asked)
        if wait_seconds is None or not said.runs:
            return said
        ended = await until_ended(bus, said.runs[0].run, wait_seconds)
        return said.model_copy(update={"runs": (ended,)})


def _accepted(said: PlaybookAnswer) -> PlaybookAnswer:
    if said.outcome == "unknown":
        raise not_found(said.message, next_step=said.next_step)
    if said.outcome == "refused":
        raise Problem("refused", said.message, next_step=said.next_step, exit_code=Exit.REFUSED)
    return said


def _parsed(kind: type[Any], fields: dict[str, Any]) -> Any:
    try:
        return kind.model_validate({key: value for key, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        raise usage(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error


# -- showing


def document(run: PlaybookRunState) -> dict[str, Any]:
    """A run in JSON."""
    return run.model_dump(mode="json", by_alias=True)


def lines(run: PlaybookRunState) -> list[str]:
    """A run in words."""
    about = named(run.resource_type, run.resource_id, run.version)
    to = f" -> {run.to}" if run.to else ""
    told = [f"{run.run}  {run.playbook}  {about}{to}  {run.phase.value}{'  (drill)' if run.drill else ''}"]
    told += [f"  {run.phase_detail}"] if run.phase_detail else []
    told += [f"  asked {run.asked_at} by {run.by}: {'; '.join(run.reasons) or 'no reason said'}"]
    told += [f"  incident {run.incident}"] if run.incident else []
    told += [f"  approved {each.at} by {each.by}: {each.reason}" for each in run.approvals]
    width = max((len(step.name) for step in run.steps), default=0)
    for step in run.steps:
        took = duration(step.seconds) if step.seconds else ""
        again = f" (attempt {step.attempt} of {step.attempts_at_most})" if step.attempt > 1 else ""
        told.append(f"  {step.name:<{width}}  {step.outcome.value:<9}  {took:>8}  {step.detail}{again}".rstrip())
    return told


def _say(call: Call, run: PlaybookRunState) -> None:
    for line in lines(run):
        call.out.text(printable(line))


def _row(run: PlaybookRunState) -> tuple[str, ...]:
    about = named(run.resource_type, run.resource_id, run.version)
    return run.run, run.playbook, about, run.phase.value, run.asked_at, run.by, run.phase_detail


def _table(call: Call, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from fleetcast.cli.table import table

    call.out.show(table(columns, rows))
