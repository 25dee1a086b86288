"""`fleetcast keys`: init, add, rotate, revoke, list, publish."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from fleetcast.bus.errors import BusUnavailable
from fleetcast.cli.call import Call
from fleetcast.cli.connection import target
from fleetcast.cli.keys import publishing
from fleetcast.cli.narrate import printable
from fleetcast.cli.problems import Exit, not_found, usage
from fleetcast.cli.security.told import told
from fleetcast.cli.table import table
from fleetcast.events.signing import KeyRing, Revocation, RingKey
from fleetcast.security.publishers import changes
from fleetcast.security.publishers.folder import KeyFolder, create, made, opened
from fleetcast.transport.signing.keys import SigningKey


def init(call: Call, path: Path, *, edition: int, dry_run: bool) -> Exit:
    """Make the folder, its root key and an empty ring."""
    if dry_run:
        call.out.document({"folder": str(path), "dry_run": True})
        call.out.text(f"dry run: would make {path}/root.key (0600) and an empty key ring {path}/ring.json")
        return Exit.OK
    with told():
        folder = create(path, edition=edition, now=datetime.now(UTC))
    call.out.document({"folder": str(path), "root_key": folder.root.public, "number": edition})
    call.out.text(
        f"{path}/root.key made: keep this folder safe, and a copy of it.\n"
        "In the settings of every node:\n\n"
        f'  [signing]\n  root_keys = ["{folder.root.public}"]\n\n'
        f"Then a key for each publisher:  fleetcast keys add NAME --folder {path}"
    )
    return Exit.OK


def add(call: Call, path: Path, owner: str, *, models: tuple[str, ...], days: int, dry_run: bool) -> Exit:
    """Give a publisher a key, and tell the fleet."""
    return _with_key(call, path, owner, changes.add, models=models or ("*",), days=days, dry_run=dry_run)


def rotate(call: Call, path: Path, owner: str, *, days: int, reason: str | None, dry_run: bool) -> Exit:
    """Give a publisher a new key in place of the one that it has, and tell the fleet."""
    if not reason:
        raise usage("a reason must be said", next_step=f"fleetcast keys rotate {owner} --reason TEXT")
    with told(), opened(path) as folder:
        before = changes.latest(folder.ring, owner)
    if before is None:
        raise not_found(f"nobody in the key ring is called {owner}", next_step=f"fleetcast keys add {owner}")
    return _with_key(call, path, owner, changes.rotate, models=before.models, days=days, dry_run=dry_run)


def revoke(call: Call, path: Path, which: str, *, reason: str | None, dry_run: bool) -> Exit:
    """Let nothing count that a key signed, and tell the fleet."""
    if not reason:
        raise usage("a reason must be said", next_step=f"fleetcast keys revoke {which} --reason TEXT")
    now = datetime.now(UTC)
    revocation = Revocation(at=changes.text(now), reason=reason, by=target(call).source)
    with told(), opened(path) as folder:
        publishing.hold_against_fleet(call, folder.ring, (folder.root.public,))
        ring, gone = changes.revoke(folder.ring, which, revocation, now)
        names = ", ".join(f"{k.id} of {k.owner}" for k in gone)
        words = f"key {names}: revoked. What it signed is installed nowhere any more; what is served stays served"
        return _finish(call, folder, ring, words, {"revoked": [k.id for k in gone]}, dry_run=dry_run)


def publish(call: Call, path: Path, *, replace: bool) -> Exit:
    """Tell the fleet the ring of the folder."""
    with told(), opened(path) as folder:
        data = (path / "ring.json").read_bytes()
        is_new = publishing.publish(call, data, (folder.root.public,), replace=replace)
        number = folder.ring.number
    call.out.document({"number": number, "published": is_new})
    call.out.text(f"key ring {number}: {'published' if is_new else 'the fleet knows it already'}")
    return Exit.OK


def show(call: Call, path: Path | None) -> Exit:
    """List the keys: of the folder, or of the ring that the fleet was told, and who goes by it."""
    if path is not None:
        with told(), opened(path) as folder:
            _list(call, folder.ring, None)
        return Exit.OK
    roots = target(call).settings.signing.root_keys
    if not roots:
        raise usage("no root keys are set here", next_step="fleetcast keys list --folder FOLDER")
    ring = publishing.known_ring(call, roots)
    if ring is None:
        raise not_found("no key ring was published", next_step="fleetcast keys publish --folder FOLDER")
    nodes = publishing.followers(call)
    _list(call, ring, nodes)
    return Exit.OK if all(number == ring.number for number in nodes.values()) else Exit.FAILED


def _list(call: Call, ring: KeyRing, nodes: Mapping[str, int | None] | None) -> None:
    now = datetime.now(UTC)
    rows, listed = [_row(key, now) for key in ring.keys], [_document(key, now) for key in ring.keys]
    more = {} if nodes is None else {"nodes": dict(nodes)}
    call.out.document({"number": ring.number, "issued_at": ring.issued_at, "keys": listed, **more})
    call.out.text(f"key ring {ring.number} of {ring.issued_at}")
    if rows and not call.out.json_mode:
        call.out.show(table(("OWNER", "KEY", "STATE", "FROM", "UNTIL", "MODELS", "WHY"), rows))
    if nodes is not None:
        call.out.text(_followed(ring, nodes))


def _followed(ring: KeyRing, nodes: Mapping[str, int | None]) -> str:
    """Which nodes go by the newest edition, in one line."""
    behind = {node: number for node, number in sorted(nodes.items()) if number != ring.number}
    said = [f"{n} by {number}" if number else f"{n} checks no signatures" for n, number in behind.items()]
    rest = f"; {', '.join(said)}" if said else ""
    return f"{len(nodes) - len(behind)} of {len(nodes)} nodes go by it{rest}"


def _with_key(
    call: Call,
    path: Path,
    owner: str,
    change: Callable[[KeyRing, RingKey, datetime], KeyRing],
    *,
    models: tuple[str, ...],
    days: int,
    dry_run: bool,
) -> Exit:
    now = datetime.now(UTC)
    with told(), opened(path) as folder:
        # Asked before any file is made: a key that may not be added must not lie about.
        publishing.hold_against_fleet(call, folder.ring, (folder.root.public,))
        draft = _entry(owner, SigningKey.new(), models, now, days)
        change(folder.ring, draft, now)
        if dry_run:
            call.out.document({"owner": owner, "models": models, "not_after": draft.not_after, "dry_run": True})
            call.out.text(f"dry run: {owner} would get a key for {', '.join(models)} until {draft.not_after}")
            return Exit.OK
        entry = _entry(owner, made(folder, owner), models, now, days)
        words = (
            f"{folder.file_of(owner)}: key {entry.id} of {owner}, for {', '.join(models)}, until {entry.not_after}\n"
            "On the nodes that publish for it (mode 0600, or a credential of the service manager):\n\n"
            f'  [signing]\n  publisher_key = "/etc/fleetcast/{owner}.key"'
        )
        more = {"owner": owner, "key": entry.id, "file": str(folder.file_of(owner)), "not_after": entry.not_after}
        return _finish(call, folder, change(folder.ring, entry, now), words, more, dry_run=False)


def _finish(
    call: Call, folder: KeyFolder, ring: KeyRing, words: str, more: Mapping[str, object], *, dry_run: bool
) -> Exit:
    if dry_run:
        call.out.document({**more, "number": ring.number, "dry_run": True})
        call.out.text(f"dry run: {printable(words.splitlines()[0])}")
        return Exit.OK
    data, roots = folder.seal(ring), (folder.root.public,)
    folder.keep(data)
    call.out.text(words)
    try:
        publishing.publish(call, data, roots)
    except BusUnavailable as away:
        call.out.document({**more, "number": ring.number, "published": False})
        call.out.say(f"key ring {ring.number} is in {folder.path}, and the fleet was not told: {away}")
        call.out.say(f"  next: fleetcast keys publish --folder {folder.path}")
        return Exit.NO_NATS
    call.out.document({**more, "number": ring.number, "published": True})
    call.out.text(f"key ring {ring.number}: published")
    return Exit.OK


def _entry(owner: str, key: SigningKey, models: tuple[str, ...], now: datetime, days: int) -> RingKey:
    try:
        return RingKey(
            owner=owner,
            public=key.public,
            models=models,
            added_at=changes.text(now),
            not_after=changes.due(now, days),
        )
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise usage(
            f"{'.'.join(str(p) for p in first['loc'])}: {first['msg'].removeprefix('Value error, ')}"
        ) from wrong


def _row(key: RingKey, now: datetime) -> tuple[str, ...]:
    why = f"{key.revoked.reason} ({key.revoked.at})" if key.revoked else ""
    return (key.owner, key.id, changes.state(key, now), key.added_at, key.not_after, " ".join(key.models), why)


def _document(key: RingKey, now: datetime) -> dict[str, object]:
    return {**key.model_dump(mode="json"), "id": key.id, "state": changes.state(key, now)}
