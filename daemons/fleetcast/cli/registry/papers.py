"""`fleetcast card`, `register export` and `import`: what the registry says, as files."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fleetcast.bus import Bus
from fleetcast.bus.streams import REGISTRY
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, target
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.registry.asking import ask
from fleetcast.cli.running import run_async
from fleetcast.events.lifecycle import EntryState, entry_subject
from fleetcast.events.state import VersionState, version_subject
from fleetcast.registry.cards import card as made_card
from fleetcast.registry.client import RegistryClient
from fleetcast.registry.commands import Answer, stamp
from fleetcast.registry.documents import DocumentUnreadable, form_of
from fleetcast.registry.exchange import ExchangeRefused, ExportedEntry, Plan, parse, plan
from fleetcast.registry.exchange import export as exported
from fleetcast.registry.ledger import Ledger, read


def card(call: Call, model: str, version: str, *, file: Path | None) -> Exit:
    """The model card of a version, on stdout or in a file."""
    entry, content = run_async(_entry(target(call), model, version))
    text = made_card(entry, content.content if content else None)
    if file is not None:
        file.write_text(text, encoding="utf-8")
        call.out.document({"model": model, "version": version, "file": str(file)})
        call.out.text(f"wrote {file}")
        return Exit.OK
    call.out.document({"model": model, "version": version, "card": text})
    call.out.text(text.rstrip("\n"))
    return Exit.OK


async def _entry(aim: Target, model: str, version: str) -> tuple[EntryState, VersionState | None]:
    async with connected(aim) as bus:
        ledger = Ledger(bus)
        entry = (await ledger.find(entry_subject(model, version), EntryState)).value
        if entry is None:
            raise not_found(f"{model}@{version} is not registered", next_step=f"fleetcast models {model}")
        return entry, (await ledger.find(version_subject(model, version), VersionState)).value


def export(call: Call, file: Path | None) -> Exit:
    """Write every entry as YAML or JSON (by the file's ending; stdout: YAML, with --json JSON)."""
    entries = run_async(_entries(target(call)))
    ordered = sorted(entries, key=lambda e: (e.model, e.registered_at, e.version))
    form = form_of(file.name) if file else ("json" if call.out.json_mode else "yaml")
    text = exported(ordered, form, at=stamp(datetime.now(UTC)))
    if file is None:
        call.out.record(text.rstrip("\n"), text.rstrip("\n"))
        return Exit.OK
    file.write_text(text, encoding="utf-8")
    call.out.document({"file": str(file), "entries": len(entries)})
    call.out.text(f"{len(entries)} entries in {file}")
    return Exit.OK


async def _entries(aim: Target) -> list[EntryState]:
    async with connected(aim) as bus:
        return await all_entries(bus)


async def all_entries(bus: Bus) -> list[EntryState]:
    """Every entry of the registry, read through the leader."""
    return [read(EntryState, e) for e in await bus.newest(REGISTRY, ("fc.reg.state.entry.*.*",))]


def import_(call: Call, file: Path, *, reason: str | None, dry_run: bool) -> Exit:
    """Say of the versions here what a file says of them; nothing is changed when the file is wrong anywhere.

    Raises:
        Problem: the file is wrong, or a statement was refused.
    """
    try:
        entries = parse(file.read_text(encoding="utf-8"), form_of(file.name))
    except FileNotFoundError as error:
        raise not_found(f"{file} does not exist") from error
    except (ExchangeRefused, DocumentUnreadable) as error:
        raise usage(f"{file}: {error}", next_step="correct it; nothing was changed") from error
    made, answers = run_async(_import(target(call), entries, reason, dry_run=dry_run))
    call.out.document(
        {
            "file": str(file),
            "dry_run": dry_run,
            "statements": len(made.statements),
            "unchanged": [_name(key) for key in made.unchanged],
            "missing": [_name(key) for key in made.missing],
            "other_content": [_name(key) for key in made.other_content],
            "refused": [a.message for a in answers if not a.accepted],
        }
    )
    done = sum(a.accepted for a in answers)
    verb = "would be made" if dry_run else "made"
    call.out.text(f"{done} of {len(made.statements)} statements {verb}")
    if made.missing:
        call.out.say(f"not registered here, register their files first: {', '.join(map(_name, made.missing))}")
    if made.other_content:
        call.out.say(f"other bytes here, nothing is said of them: {', '.join(map(_name, made.other_content))}")
    refused = [a for a in answers if not a.accepted]
    if refused:
        raise Problem("refused", refused[0].message, next_step=refused[0].next_step, exit_code=Exit.REFUSED)
    return Exit.OK


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}@{key[1]}"


async def _import(
    aim: Target, entries: Sequence[ExportedEntry], reason: str | None, *, dry_run: bool
) -> tuple[Plan, list[Answer]]:
    async with connected(aim) as bus:
        present = {(e.model, e.version): e for e in await all_entries(bus)}
        made = plan(entries, present)
        client = RegistryClient(bus, actor=aim.source)
        answers = []
        for statement in made.statements:
            why = reason or statement.reason
            answers.append(await ask(client, statement.command, reason=why, dry_run=dry_run))
        return made, answers
