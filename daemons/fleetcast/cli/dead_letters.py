"""`fleetcast dlq`: events that could not be handled, why, and what to do with them."""

import sys
from collections.abc import Sequence
from typing import Final

from fleetcast.bus import Bus, DeadLetter
from fleetcast.bus.errors import NotFound
from fleetcast.bus.settling import settle
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import clock
from fleetcast.events.letters import Settlement

_SAID: Final = {Settlement.RETRIED: ("retry", "published again"), Settlement.DROPPED: ("drop", "dropped")}


def list_all(call: Call) -> Exit:
    """List all dead letters."""
    letters = run_async(_read(target(call)))
    call.out.document({"dead_letters": [_document(letter) for letter in letters]})
    rows = [
        (each.sequence, clock(each.at), each.subject, each.consumer, each.attempts, each.reason) for each in letters
    ]
    call.out.show(table(("NUMBER", "SINCE", "SUBJECT", "CONSUMER", "TRIES", "REASON"), rows, right=(0, 4)))
    if letters:
        call.out.say("look: fleetcast dlq show NUMBER   send again: fleetcast dlq retry NUMBER")
    return Exit.OK


def show(call: Call, number: int) -> Exit:
    """Show one with its body."""
    letter = run_async(_show(target(call), number))
    call.out.document({"dead_letter": _document(letter) | {"body": letter.data.decode("utf-8", "replace")}})
    for name, value in _document(letter).items():
        call.out.text(f"{name:<10} {printable(str(value)) if value is not None else '-'}")
    call.out.text(printable(letter.data.decode("utf-8", "replace")))
    return Exit.OK


def retry(call: Call, numbers: Sequence[int], *, everything: bool, reason: str | None, dry_run: bool) -> Exit:
    """Publish letters again."""
    outcome = Settlement.RETRIED
    return run_async(_act(call, target(call), outcome, numbers, everything=everything, reason=reason, dry_run=dry_run))


def drop(call: Call, numbers: Sequence[int], *, everything: bool, reason: str | None, dry_run: bool, yes: bool) -> Exit:
    """Delete letters; asks first where somebody can answer."""
    if not yes and not dry_run:
        _confirm(numbers, everything=everything)
    outcome = Settlement.DROPPED
    return run_async(_act(call, target(call), outcome, numbers, everything=everything, reason=reason, dry_run=dry_run))


def _confirm(numbers: Sequence[int], *, everything: bool) -> None:
    if not sys.stdin.isatty():
        raise usage("dropping a dead letter cannot be undone", next_step="say --yes, or try --dry-run first")
    import typer

    what = "all dead letters" if everything else f"dead letters {', '.join(map(str, numbers))}"
    typer.confirm(f"drop {what} for good?", abort=True, err=True)


async def _read(aim: Target) -> list[DeadLetter]:
    async with connected(aim) as bus:
        return await bus.dead.list()


async def _show(aim: Target, number: int) -> DeadLetter:
    async with connected(aim) as bus:
        return await bus.dead.show(number)


async def _act(
    call: Call,
    aim: Target,
    outcome: Settlement,
    numbers: Sequence[int],
    *,
    everything: bool,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    async with connected(aim) as bus:
        chosen = await _chosen(bus, numbers, everything=everything)
        if not dry_run:
            for letter in chosen:
                await settle(bus, letter, outcome, by=aim.source, reason=reason)
    verb, done = _SAID[outcome]
    call.out.document(
        {"action": verb, "dry_run": dry_run, "reason": reason, "dead_letters": [_document(each) for each in chosen]}
    )
    for letter in chosen:
        call.out.text(f"{'would be ' if dry_run else ''}{done}: {letter.sequence} {letter.subject} {letter.event_id}")
    return Exit.OK


async def _chosen(bus: Bus, numbers: Sequence[int], *, everything: bool) -> list[DeadLetter]:
    if everything == bool(numbers):
        raise usage("say which dead letters: NUMBER… or --all", next_step="fleetcast dlq ls")
    if everything:
        return await bus.dead.list()
    try:
        return [await bus.dead.show(number) for number in numbers]
    except NotFound as error:
        raise not_found(str(error), next_step="fleetcast dlq ls") from error


def _document(letter: DeadLetter) -> dict[str, object]:
    return {
        "number": letter.sequence,
        "subject": letter.subject,
        "event": letter.event_id,
        "reason": letter.reason,
        "field": letter.field,
        "next_step": letter.next_step,
        "consumer": letter.consumer,
        "attempts": letter.attempts,
        "at": letter.at.isoformat(),
    }
