"""`fleetcast fleet init|add|add-node|rotate|revoke|setup`: keys of a fleet are made, renewed and taken away."""

from collections.abc import Sequence
from pathlib import Path

from fleetcast.bus.streams import STREAMS, declare
from fleetcast.cli.call import Call
from fleetcast.cli.connection import absolute, connected, quiet_logs, target
from fleetcast.cli.problems import Exit, usage
from fleetcast.cli.running import run_async
from fleetcast.cli.security.told import told
from fleetcast.security import changing
from fleetcast.security.changing import Reload
from fleetcast.security.folder import Folder
from fleetcast.security.inventory import FIRST, Inventory, check_name
from fleetcast.security.roles import ABOUT, Role
from fleetcast.security.servers import CONFIGURATION

ALONE, TOGETHER = 1, 3


def init(
    call: Call,
    folder: Path,
    *,
    name: str,
    servers: int | None,
    hosts: Sequence[str],
    place: str,
    store: str,
    tls: str,
    reason: str | None,
    dry_run: bool,
) -> Exit:
    """Make a fleet's folder of keys."""
    path = absolute(folder)
    given = list(hosts) or _loopback(servers or ALONE)
    if len(given) not in {ALONE, TOGETHER} or (servers is not None and servers != len(given)):
        raise usage(
            f"{len(given)} --host for {servers or 'one or three'} servers",
            why="a fleet has one NATS server, or three that keep three copies of everything",
            next_step="--host A, or --host A --host B --host C",
        )
    with told():
        made = changing.places(given, folder=path, place=place, store=store, tls=tls)
        if dry_run:
            call.out.document(
                {"folder": str(path), "servers": [s.url for s in made], "keys": list(FIRST), "made": False}
            )
            call.out.text(f"would make {path} with keys for {', '.join(FIRST)} and {len(made)} server(s)")
            return Exit.OK
        inventory = changing.create(Folder(path), name, made, reason=reason)
    _show_new(call, Folder(path), inventory)
    return Exit.OK


def _loopback(count: int) -> list[str]:
    return [f"127.0.0.1:{changing.CLIENT_PORT + number}" for number in range(count)]


def _show_new(call: Call, folder: Folder, inventory: Inventory) -> None:
    call.out.document(
        {
            "folder": str(folder.path),
            "made": True,
            "root_key": inventory.root_key,
            "servers": [{"name": s.name, "url": s.url, "files": str(folder.server(s.name))} for s in inventory.servers],
            "keys": [
                {"name": i.name, "role": i.role.value, "files": str(folder.credentials(i.name))}
                for i in inventory.identities
            ],
        }
    )
    call.out.text(
        f"{folder.path} holds the keys of {inventory.fleet}. Whoever can read it is the fleet: back it up, offline."
    )
    for identity in inventory.identities:
        call.out.text(f"  credentials/{identity.name + '/':<12} {ABOUT[identity.role]}")
    call.out.text("next:")
    for server in inventory.servers:
        there = Path(server.place)
        if there != folder.server(server.name):
            call.out.text(f"  copy {folder.server(server.name)} to {server.host}    (docs/install.md, step 3)")
        call.out.text(f"  nats-server -c {there / CONFIGURATION}    (on {server.host}, as the owner of its files)")
    deploy = folder.credentials("deploy") / "fleetcast.toml"
    call.out.text(f"  fleetcast fleet setup --config {deploy}")
    call.out.text(f"  fleetcast keys add PUBLISHER --folder {folder.signing} --config {deploy}")
    add_node = "fleetcast fleet add-node NODE"
    call.out.text(f"  {add_node} --signs-as PUBLISHER --dir {folder.path}    (where things are published)")
    call.out.text(f"  {add_node} --dir {folder.path}    (all others)")
    call.out.text("Nodes install nothing that no publisher signed: docs/signing.md.")


def add(
    call: Call,
    folder: Path,
    name: str,
    role: str,
    *,
    used_by: str,
    reason: str | None,
    dry_run: bool,
    publisher: str | None = None,
) -> Exit:
    """Make a key of a role."""
    roles = [each.value for each in Role]
    if role not in roles:
        raise usage(f"no role is called {role!r}", why=f"there is {', '.join(roles)}")
    place = Folder(absolute(folder))
    with told():
        if dry_run:
            check_name(place.load(), name)
            return _would(call, name, f"would make a key for {name} as {role}")
        inventory = changing.add(place, name, Role(role), used_by=used_by, reason=reason, publisher=publisher)
    files = place.credentials(name)
    lines = [f"{files} has what {name} needs: copy it there, readable by its owner alone"]
    return _changed(call, {"name": name, "role": role, "files": str(files)}, lines, changing.tell(inventory))


def revoke(call: Call, folder: Path, name: str, *, old: bool, reason: str | None, dry_run: bool) -> Exit:
    """Let a key in no more."""
    place = Folder(absolute(folder))
    what = f"the former key of {name}" if old else name
    with told():
        if dry_run:
            place.load().find(name)
            return _would(call, name, f"would let {what} in no more")
        inventory = changing.revoke(place, name, only_former=old, reason=reason)
    lines = [f"{what} is let in no more, and is cut off where a server has read this"]
    return _changed(call, {"name": name, "old": old}, lines, changing.tell(inventory))


def rotate(call: Call, folder: Path, what: str, *, keep_old: bool, reason: str | None, dry_run: bool) -> Exit:
    """Renew the keys of a name or role, or the certificate of a server."""
    quiet_logs()
    place = Folder(absolute(folder))
    with told():
        inventory = place.load()
        if any(server.name == what for server in inventory.servers):
            return _rotate_server(call, place, what, reason=reason, dry_run=dry_run)
        names = [identity.name for identity in inventory.chosen(what)]
        if dry_run:
            return _would(call, what, f"would renew {', '.join(names)}")
        reloads = [run_async(changing.rotate(place, name, keep_old=keep_old, reason=reason)) for name in names]
        waiting = [i.name for i in place.load().identities if i.pending and i.name in names]
    lines = [_rotated(place, name, keep_old=keep_old, waits=name in waiting) for name in names]
    body = {"rotated": [n for n in names if n not in waiting], "waiting": waiting, "old_accepted": keep_old}
    return _changed(call, body, lines, reloads[-1])


def _rotated(folder: Folder, name: str, *, keep_old: bool, waits: bool) -> str:
    where = f"--dir {folder.path}"
    if waits:
        again = f"fleetcast fleet rotate {name} {'--keep-old ' if keep_old else ''}{where}"
        return f"{name}: a new key is ready and not tried yet; when the servers have it: {again}"
    copy = f"copy {folder.credentials(name)} to where it is used, restart the daemons there"
    if keep_old:
        revoke = f"fleetcast fleet revoke {name} --old {where}"
        return f"{name}: the new key works, and so does the old one: {copy}, then: {revoke}"
    return f"{name}: the new key works, the old one is let in no more: {copy}"


def _rotate_server(call: Call, folder: Folder, name: str, *, reason: str | None, dry_run: bool) -> Exit:
    if dry_run:
        return _would(call, name, f"would renew the certificate of {name}")
    reload = run_async(changing.rotate_server(folder, name, reason=reason))
    return _changed(call, {"rotated": [name], "waiting": []}, [f"{name} has a new certificate"], reload)


def setup(call: Call, *, reason: str | None, dry_run: bool) -> Exit:
    """Declare the streams of the fleet: what the deploy role is for."""
    aim = target(call)
    if dry_run:
        return _would(call, "streams", f"would declare {len(STREAMS)} streams on {aim.settings.bus.url}")

    async def run() -> list[dict[str, object]]:
        async with connected(aim) as bus:
            changes = await declare(bus, aim.settings.bus.replicas)
        return [{"stream": c.name, "action": c.action, "fields": list(c.fields), "detail": c.detail} for c in changes]

    changes = run_async(run())
    call.out.document({"changed": changes, "streams": len(STREAMS), "reason": reason or ""})
    for change in changes:
        call.out.text(f"{change['stream']} {change['action']}")
    call.out.text(f"{len(STREAMS)} streams are as declared")
    return Exit.OK


def _would(call: Call, name: str, sentence: str) -> Exit:
    call.out.document({"name": name, "changed": False, "would": sentence})
    call.out.text(sentence)
    return Exit.OK


def _changed(call: Call, body: dict[str, object], lines: Sequence[str], reload: Reload) -> Exit:
    call.out.document({**body, "changed": True, "servers_told": list(reload.told), "by_hand": list(reload.by_hand)})
    for line in lines:
        call.out.text(line)
    if reload.told:
        call.out.text(f"read again by {', '.join(reload.told)}")
    for line in reload.by_hand:
        call.out.text(line)
    return Exit.OK
