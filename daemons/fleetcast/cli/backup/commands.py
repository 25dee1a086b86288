"""What the commands of `fleetcast backup` say and ask for."""

import asyncio
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetcast.bus import Bus
from fleetcast.bus.errors import BusError
from fleetcast.cli.backup.archive import SUFFIX, Reader
from fleetcast.cli.backup.drilling import Drill, page, rehearse, report, write_report
from fleetcast.cli.backup.manifest import Manifest, Summary
from fleetcast.cli.backup.restoring import Restored, look, put_back
from fleetcast.cli.backup.rules import outlived
from fleetcast.cli.backup.sealing import PrivateKey, PublicKey, read_private, read_public
from fleetcast.cli.backup.taking import Taken, alone, take
from fleetcast.cli.call import Call
from fleetcast.cli.connection import Target, connected, quiet_logs, target
from fleetcast.cli.problems import Exit, Problem, not_found, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.table import table
from fleetcast.cli.units import duration, size
from fleetcast.config.settings import Settings
from fleetcast.events.backups import BackupTaken
from fleetcast.events.envelope import new_event
from fleetcast.registry.picture.amounts import ago
from fleetcast.security.keys import write

KEYS_STEP = "fleetcast backup keys FILE, then its public key into backup.recipients of the settings"


def keys(call: Call, file: Path) -> Exit:
    """Make a pair: the private key into *file*, the public one printed."""
    if file.exists():
        raise Problem("exists", f"{file} is there already", why="backups may be sealed to it", exit_code=Exit.REFUSED)
    key = PrivateKey.new()
    about = f"# Opens backups that are sealed to {key.public.text}\n# Keep it away from the machine that makes them.\n"
    write(file, f"{about}{key.text}\n")
    call.out.document({"private": str(file), "public": key.public.text, "id": key.public.id})
    call.out.text(key.public.text)
    call.out.say(f"{file} opens what is sealed to it: keep it, twice, off the machine that makes backups")
    return Exit.OK


def create(call: Call, *, folder: Path | None, to: tuple[str, ...]) -> Exit:
    """Back up, then remove what is older than the settings say."""
    aim = target(call)
    settings = aim.settings.backup
    place = folder or settings.folder
    recipients = _recipients(to or settings.recipients)
    with alone(place):
        taken, told = run_async(_create(call, aim, place, recipients))
        gone = outlived(_files(place), datetime.now(UTC), days=settings.keep_days, least=settings.keep_least)
        for path in gone:
            path.unlink()
    call.out.document(
        {
            "backup": str(taken.path),
            "size": taken.size,
            "seconds": round(taken.seconds, 3),
            "told": told,
            "removed": [path.name for path in gone],
            **taken.summary.model_dump(mode="json"),
        }
    )
    call.out.text(
        f"{taken.path}: {size(taken.size)}, {taken.summary.streams} streams, {taken.summary.messages} messages, "
        f"in {duration(taken.seconds)}"
    )
    if gone:
        call.out.say(f"removed: {', '.join(path.name for path in gone)}")
    return Exit.OK


async def _create(call: Call, aim: Target, folder: Path, recipients: tuple[PublicKey, ...]) -> tuple[Taken, bool]:
    async with connected(aim) as bus:
        taken = await take(bus, folder, recipients, say=call.out.say)
        return taken, await _tell(call, bus, aim, taken)


async def _tell(call: Call, bus: Bus, aim: Target, taken: Taken) -> bool:
    """Say in the event log that there is a backup: its age is a metric."""
    payload = BackupTaken(
        node=aim.node,
        backup=taken.path.name,
        taken_at=taken.summary.taken_at.isoformat(),
        size=taken.size,
        sha256=taken.summary.sha256,
        streams=taken.summary.streams,
        messages=taken.summary.messages,
        records=taken.summary.records,
        audit_head=taken.summary.audit_head,
        seconds=round(taken.seconds, 3),
    )
    try:
        await bus.publish(new_event(payload, source=aim.source))
    except BusError as untold:
        call.out.say(f"the backup is whole, but nobody was told of it: {untold}")
        return False
    return True


def _recipients(texts: tuple[str, ...]) -> tuple[PublicKey, ...]:
    if not texts:
        raise Problem(
            "no_recipient",
            "nobody could open the backup: backup.recipients names no public key",
            next_step=KEYS_STEP,
            exit_code=Exit.USAGE,
        )
    return tuple(read_public(text) for text in texts)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def show(call: Call, *, folder: Path | None) -> Exit:
    """List the backups of a folder, the newest first, by what they say of themselves."""
    place = folder or _settings(call).backup.folder
    rows: list[tuple[str, ...]] = []
    documents: list[dict[str, Any]] = []
    now = datetime.now(UTC)
    for path in reversed(_files(place)):
        try:
            summary = Reader(path).summary()
        except Problem as wrong:
            rows.append((path.name, "damaged", "", "", "", ""))
            documents.append({"backup": path.name, "damaged": wrong.what})
            continue
        rows.append(_row(path, summary, now))
        documents.append({"backup": path.name, "size": path.stat().st_size, **summary.model_dump(mode="json")})
    call.out.document({"folder": str(place), "backups": documents})
    if not rows:
        call.out.text(f"there is no backup in {place}")
        return Exit.OK
    call.out.show(table(("BACKUP", "TAKEN", "SIZE", "MESSAGES", "RECORDS", "BY"), rows, right=(2, 3, 4)))
    return Exit.OK


def _row(path: Path, summary: Summary, now: datetime) -> tuple[str, ...]:
    age = ago(max(0.0, (now - summary.taken_at).total_seconds()))
    by = f"{summary.node}, fleetcast {summary.fleetcast}"
    return (path.name, age, size(path.stat().st_size), str(summary.messages), str(summary.records), by)


def _settings(call: Call) -> Settings:
    return target(call).settings


def verify(call: Call, file: Path, *, identity: Path | None) -> Exit:
    """Whether a file is whole; with its private key, whether everything in it is what was sealed."""
    reader = Reader(file)
    if identity is None:
        summary = reader.check_bytes()
        call.out.document({"backup": str(file), "ok": True, "opened": False, **summary.model_dump(mode="json")})
        call.out.text(f"{file} is as it was written, by its SHA-256 {summary.sha256}")
        call.out.say("with --identity FILE everything in it is opened and compared as well")
        return Exit.OK
    manifest = reader.check(read_private(identity))
    call.out.document({"backup": str(file), "ok": True, "opened": True, **_document(manifest)})
    for part in manifest.parts:
        call.out.text(f"{part.stream}: {part.messages} messages up to {part.last_sequence}, {size(part.size)}")
    call.out.text(
        f"whole: {len(manifest.parts)} streams, {manifest.messages} messages, "
        f"{manifest.records} records of {len(manifest.audit)} models"
    )
    return Exit.OK


def _document(manifest: Manifest) -> dict[str, Any]:
    return {
        "taken_at": manifest.taken_at.isoformat(),
        "fleetcast": manifest.fleetcast,
        "node": manifest.node,
        "left_out": manifest.left_out,
        "messages": manifest.messages,
        "models": len(manifest.audit),
        "records": manifest.records,
        "audit_head": manifest.audit_head,
        "streams": [
            {
                "stream": part.stream,
                "messages": part.messages,
                "consumers": part.consumers,
                "last_sequence": part.last_sequence,
                "size": part.size,
                "sha256": part.sha256,
            }
            for part in manifest.parts
        ],
    }


def restore(
    call: Call,
    file: Path,
    *,
    identity: Path,
    reason: str | None,
    replicas: int | None,
    resume: bool,
    dry_run: bool,
) -> Exit:
    """Bring the streams of a backup into a cluster that has none."""
    if not reason and not dry_run:
        raise usage("a restore needs --reason TEXT", next_step="fleetcast backup restore --help")
    key, aim = read_private(identity), target(call)
    copies = replicas or aim.settings.bus.replicas
    if dry_run:
        manifest, kept = run_async(_look(aim, Reader(file), key, resume=resume))
        made = [part.stream for part in manifest.parts if part.stream not in kept]
        call.out.document({"backup": str(file), "done": False, "would_make": made, **_document(manifest)})
        call.out.text(f"would make {', '.join(made)} with {copies} copies on {aim.settings.bus.url}; nothing was done")
        return Exit.OK
    done = run_async(_restore(call, aim, Reader(file), key, replicas=copies, resume=resume))
    _show_restored(call, file, done, reason or "")
    return Exit.OK


async def _look(aim: Target, reader: Reader, key: PrivateKey, *, resume: bool) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest, and the streams that an earlier restore made."""
    manifest = await asyncio.to_thread(reader.check, key)
    async with connected(aim) as bus:
        found = await look(bus, manifest, resume=resume)
        return manifest, tuple(each.name for each in found if not each.unused)


async def _restore(
    call: Call, aim: Target, reader: Reader, key: PrivateKey, *, replicas: int, resume: bool
) -> Restored:
    async with connected(aim) as bus:
        return await put_back(bus, reader, key, replicas=replicas, resume=resume, say=call.out.say)


def _show_restored(call: Call, file: Path, done: Restored, reason: str) -> None:
    manifest = done.manifest
    call.out.document(
        {
            "backup": str(file),
            "done": True,
            "reason": reason,
            "made": list(done.made),
            "kept": list(done.kept),
            "seconds": round(done.seconds, 3),
            "chains_verified": len(done.checked),
            **_document(manifest),
        }
    )
    call.out.text(
        f"restored {len(done.made)} streams in {duration(done.seconds)}: {manifest.messages} messages as of "
        f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC; {len(done.checked)} audit chains with {manifest.records} records "
        "verified"
    )
    if done.kept:
        call.out.text(f"kept from the restore before: {', '.join(done.kept)}")
    call.out.say("what happened after that is not in it: docs/backup.md says what nodes know of it")


def drill(
    call: Call,
    file: Path | None,
    *,
    identity: Path,
    servers: int,
    reports: Path | None,
    folder: Path | None,
    notes: str | None,
) -> Exit:
    """Restore a backup beside the fleet, and write down how long it took."""
    if servers not in {1, 3}:
        raise usage("--servers is 1 or 3")
    key, settings = read_private(identity), _settings(call).backup
    reader = Reader(file or _newest(settings.folder))
    quiet_logs()
    with tempfile.TemporaryDirectory(prefix="fleetcast-drill-", dir=folder) as place:
        done = run_async(rehearse(reader, key, servers=servers, place=Path(place), say=call.out.say))
    return _reported(call, done, reports or settings.folder / "drills", notes)


def _reported(call: Call, done: Drill, folder: Path, notes: str | None) -> Exit:
    found = report(done, notes=notes, now=datetime.now(UTC))
    path = write_report(folder, found)
    if not found["accepted"]:
        raise Problem(
            "notes_missing",
            f"the drill took {duration(found['seconds'])}, more than {duration(found['limit_seconds'])}",
            why=f"{path} is not complete without a word on why, and what is done about it",
            next_step=f"fleetcast backup notes {path} 'TEXT'",
            exit_code=Exit.REFUSED,
            details={"report": str(path)},
        )
    call.out.document({**found, "report": str(path)})
    call.out.text(page(found).rstrip())
    call.out.say(f"written to {path} and {path.with_suffix('.md').name}")
    return Exit.OK


def add_notes(call: Call, file: Path, notes: str) -> Exit:
    """Say in a drill's report why it took so long."""
    try:
        found = json.loads(file.read_text())
        known = {"at", "seconds", "accepted", "within_limit", "steps"} <= set(found)
    except (OSError, ValueError) as e:
        raise not_found(f"{file} cannot be read: {e}", next_step="name the JSON file of a drill's report") from e
    if not known or not notes.strip():
        raise usage(f"{file} is no report of a drill" if not known else "the notes are empty")
    found |= {"notes": notes.strip(), "accepted": True}
    write_report(file.parent, found)
    call.out.document({**found, "report": str(file)})
    call.out.text(f"{file} is complete")
    return Exit.OK


def _newest(folder: Path) -> Path:
    found = _files(folder)
    if not found:
        raise not_found(f"there is no backup in {folder}", next_step="fleetcast backup create, or name a file")
    return found[-1]
