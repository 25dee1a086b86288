"""One decision asked for on the command line: the command, its answer in words, and the exit code that follows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, Problem, usage
from fleetcast.cli.running import run_async
from fleetcast.events.decisions import GateVerdict
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import COMMAND, Answer, AnyCommand
from fleetcast.registry.errors import NoKeeper, TransitionRefused
from fleetcast.registry.picture.keeping import START_ONE

if TYPE_CHECKING:
    from rich.console import RenderableType

ANSWER_SECONDS = 15.0
"""A person waits this long for a registry daemon that is just being restarted."""

SHOWN = 4
"""Gates in the line that says why; the table has all of them."""
_EXITS = {"unknown": Exit.NOT_FOUND, "reason": Exit.USAGE, "until": Exit.USAGE, "nothing": Exit.OK}


def parsed(fields: dict[str, object]) -> AnyCommand:
    """The command of *fields*, as typed.

    Raises:
        Problem: one of them cannot be what it is meant to be.
    """
    try:
        return COMMAND.validate_python({k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "the command"
        raise usage(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error


def decide(call: Call, command: AnyCommand, *, reason: str | None, dry_run: bool = False) -> Exit:
    """Ask, show the answer, and give the exit code."""
    answer = run_async(_ask(target(call), command, reason, dry_run=dry_run))
    return show(call, answer)


async def _ask(aim: Target, command: AnyCommand, reason: str | None, *, dry_run: bool) -> Answer:
    async with connected(aim) as bus:
        return await ask(RegistryClient(bus, actor=aim.source), command, reason=reason, dry_run=dry_run)


async def ask(client: RegistryClient, command: AnyCommand, *, reason: str | None, dry_run: bool = False) -> Answer:
    """The registry's answer.

    Raises:
        Problem: no registry daemon answers, or it does not understand the command.
    """
    try:
        return await client.transition(command, reason=reason, dry_run=dry_run, deadline_seconds=ANSWER_SECONDS)
    except NoKeeper as error:
        raise Problem(
            "no_registry",
            "no registry daemon answers, so nothing was decided",
            why=str(error),
            next_step=f"{START_ONE}; fleetcast doctor says more",
        ) from error
    except TransitionRefused as error:
        raise usage(str(error)) from error


def show(call: Call, answer: Answer) -> Exit:
    """Print an answer; a refusal ends as a problem with its exit code.

    Raises:
        Problem: refused, a conflict, or superseded.
    """
    document = answer.model_dump(mode="json", exclude={"state"})
    if answer.accepted or answer.code == "nothing":
        call.out.document({"answer": document})
        if answer.gates:
            call.out.show(gate_table(answer.gates))
        would = "would be done: " if answer.dry_run else "done before: " if answer.repeated else ""
        call.out.text(f"{would}{answer.message}")
        if answer.next_step:
            call.out.say(f"next: {answer.next_step}")
        return Exit.OK
    if answer.gates:
        call.out.show(gate_table(answer.gates))
    raise Problem(
        answer.code or answer.outcome,
        answer.message,
        why=f"winner: {answer.winner}" if answer.winner else reasons(answer.gates),
        next_step=answer.next_step,
        exit_code=_exit(answer),
        details={"answer": document},
    )


def _exit(answer: Answer) -> Exit:
    if answer.outcome in {"conflict", "superseded"}:
        return Exit.FAILED
    return _EXITS.get(answer.code, Exit.REFUSED)


def reasons(gates: Sequence[GateVerdict]) -> str:
    """The gates that do not pass, with what was required and what was there."""
    bad = sorted((g for g in gates if g.verdict != "pass"), key=lambda g: g.verdict != "fail")
    said = [f"{g.gate} {g.verdict}: {g.actual}, required {g.required}" for g in bad[:SHOWN]]
    return "; ".join([*said, *([f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else [])])


def gate_table(gates: Sequence[GateVerdict]) -> "RenderableType":
    """All gates with their numbers."""
    from fleetcast.cli.table import table

    return table(("GATE", "VERDICT", "REQUIRED", "ACTUAL"), [(g.gate, g.verdict, g.required, g.actual) for g in gates])
