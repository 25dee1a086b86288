"""`fleetcast archive` and `restore`: versions go to the archive, and come back from it."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleetcast.bus import Bus, InSync
from fleetcast.bus.streams import REGISTRY
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, Problem, timed_out, usage
from fleetcast.cli.registry.asking import ask, decide, parsed, show
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import parse_duration
from fleetcast.cli.waiting import split_target
from fleetcast.events.lifecycle import EntryState, entry_subject
from fleetcast.registry.archival.asking import ArchivalAnswer, ArchivalQuestion, Proposed, proposals
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, AnyCommand
from fleetcast.registry.errors import NoKeeper
from fleetcast.registry.ledger import read

if TYPE_CHECKING:
    from rich.console import RenderableType


def archive(
    call: Call, wanted: str | None, *, model: str | None, apply: bool, reason: str | None, dry_run: bool
) -> Exit:
    """One version; or without one what the rules propose, and with *apply* do that."""
    if wanted is not None:
        if apply or model:
            raise usage(
                "--apply and --model are for the rules, which choose versions themselves", next_step="leave out"
            )
        return decide(call, _move(wanted, "archived", reason), reason=reason, dry_run=dry_run)
    if apply and not reason:
        raise usage("why versions are archived must be said", next_step="fleetcast archive --apply --reason TEXT")
    return run_async(_by_rules(call, target(call), model, reason, apply=apply and not dry_run))


def _move(wanted: str, stage: str, reason: str | None) -> AnyCommand:
    model, version = split_target(wanted)
    if version is None:
        raise usage(f"{wanted!r} names no version", next_step=f"{model}@VERSION; fleetcast models {model} lists them")
    if not reason:
        raise usage(f"why {wanted} becomes {stage} must be said", next_step="--reason TEXT")
    return parsed({"do": "move", "model": model, "version": version, "stage": stage})


async def _by_rules(call: Call, aim: Target, model: str | None, reason: str | None, *, apply: bool) -> Exit:
    async with connected(aim) as bus:
        found = await _proposed(bus, model)
        done: list[Answer] = []
        if apply:
            client = RegistryClient(bus, actor=aim.source)
            done = [await ask(client, _by_rule(p), reason=f"{reason}: {p.reason}") for p in found.proposals]
    refused = [answer for answer in done if not answer.accepted and answer.code != "nothing"]
    call.out.document(
        {
            "proposals": [p.model_dump(mode="json") for p in found.proposals],
            "total": found.total,
            "archived": [f"{a.model}@{a.version}" for a in done if a.accepted],
            "refused": [a.model_dump(mode="json", exclude={"state"}) for a in refused],
        }
    )
    call.out.show(_table(found.proposals))
    _tell(call, found, done, refused, apply=apply)
    return Exit.FAILED if refused else Exit.OK


def _by_rule(proposal: Proposed) -> AnyCommand:
    fields = {"model": proposal.model, "version": proposal.version, "rule": proposal.rule}
    return parsed({"do": "move", "stage": "archived", **fields})


async def _proposed(bus: Bus, model: str | None) -> ArchivalAnswer:
    try:
        return await proposals(bus, ArchivalQuestion(model=model))
    except NoKeeper as error:
        raise Problem(
            "no_registry",
            "no registry daemon answers, so nothing was looked at",
            why=str(error),
            next_step="fleetcast run registry (on one or two nodes); fleetcast doctor says more",
        ) from error


def _table(rows: Sequence[Proposed]) -> "RenderableType":
    return table(
        ("VERSION", "RULE", "FOLDER", "WHY"),
        [(f"{p.model}@{p.version}", p.rule.value, p.rule.folder, p.reason) for p in rows],
    )


def _tell(call: Call, found: ArchivalAnswer, done: Sequence[Answer], refused: Sequence[Answer], *, apply: bool) -> None:
    for answer in refused:
        call.out.say(f"not archived: {answer.message}")
    if not found.proposals:
        call.out.text("the rules propose nothing")
    elif apply:
        call.out.text(f"{sum(a.accepted for a in done)} of {found.total} versions archived")
        if found.total > len(found.proposals):
            call.out.say("next: the same command again, for the others")
    else:
        call.out.text(f"{found.total} versions would be archived; nothing was done")
        call.out.say("next: fleetcast archive --apply --reason TEXT    (or one: fleetcast archive MODEL@VERSION …)")


def restore(call: Call, wanted: str, *, reason: str | None, wait: bool, timeout: str, dry_run: bool) -> Exit:
    """Have the archive proven again and the version put back; return when it is, or was refused."""
    seconds = parse_duration(timeout, option="--timeout")
    command = _move(wanted, "development", reason)
    return run_async(_restore(call, target(call), command, reason, seconds, wait=wait, dry_run=dry_run))


async def _restore(
    call: Call, aim: Target, command: AnyCommand, reason: str | None, seconds: float, *, wait: bool, dry_run: bool
) -> Exit:
    async with connected(aim) as bus:
        answer = await ask(RegistryClient(bus, actor=aim.source), command, reason=reason, dry_run=dry_run)
        assert answer.version is not None
        comes = answer.outcome == "started" or answer.code == "nothing"
        if not (comes and wait) or dry_run:
            return show(call, answer)
        call.out.say(answer.message)
        entry = await _settled(bus, answer.model, answer.version, seconds)
    call.out.document(
        {"answer": answer.model_dump(mode="json", exclude={"state"}), "stage": entry.stage.value, "restored": True}
    )
    call.out.text(f"{entry.model}@{entry.version} is back at {entry.stage}, and installed where it was kept")
    return Exit.OK


async def _settled(bus: Bus, model: str, version: str, seconds: float) -> EntryState:
    """The entry once the restore has come to its end.

    Raises:
        Problem: it was refused, or nobody answered in time.
    """
    entry: EntryState | None = None
    try:
        async with asyncio.timeout(seconds):
            async for item in bus.watch(REGISTRY, (entry_subject(model, version),)):
                if isinstance(item, InSync):
                    continue
                entry = read(EntryState, item)
                if entry.archive is None:
                    return entry
                if entry.archive.restore is None:
                    break
    except TimeoutError:
        raise _late(model, version, entry) from None
    assert entry is not None
    assert entry.archive is not None
    raise Problem(
        "archive_damaged",
        f"{model}@{version} stays archived: {entry.archive.fault}",
        next_step=f"look at {entry.archive.folder} below the archive folder of {entry.archive.node}, put the right "
        f"bytes there and restore again, or publish them under a new version",
    )


def _late(model: str, version: str, entry: EntryState | None) -> Problem:
    node = entry.archive.node if entry and entry.archive else "the node that keeps it"
    return timed_out(
        f"{model}@{version} is not back yet: {node} has not answered; it will, as soon as it can",
        next_step=f"fleetcast status, then fleetcast info {model}@{version}",
    )
