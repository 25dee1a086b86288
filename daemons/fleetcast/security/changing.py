"""What is done to a fleet's keys: made, added, rotated, taken away. Every step leaves a folder that works, and servers
read it again at once where they run on this machine."""

import os
import shutil
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleetcast.config.settings import BusSettings
from fleetcast.security import keys, proving
from fleetcast.security.authority import issue, make_authority, utc_now
from fleetcast.security.errors import FolderRefused, NameRefused, ProofFailed
from fleetcast.security.folder import INVENTORY, SETTINGS_FILE, Folder
from fleetcast.security.inventory import FIRST, Identity, Inventory, ServerPlace, check_name
from fleetcast.security.publishers import folder as publishers
from fleetcast.security.publishers.changes import in_use
from fleetcast.security.roles import Role
from fleetcast.security.servers import CONFIGURATION

CLIENT_PORT, CLUSTER_OFFSET, MONITOR_OFFSET = 4222, 2000, 4000
"""Ports of NATS by its own habit: 4222 for clients, 6222 for the cluster, 8222 for figures."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of telling the servers.

    Attributes:
        told: names of the servers that read their configuration again.
        by_hand: what to do for the others, one line each.
    """

    told: tuple[str, ...]
    by_hand: tuple[str, ...]


def places(
    hosts: Sequence[str], *, folder: Path, place: str = "", store: str = "", tls: str = ""
) -> tuple[ServerPlace, ...]:
    """The servers at *hosts* (`HOST` or `HOST:PORT`); *place*, *store* and *tls* as of `ServerPlace`, the former two
    empty: below *folder*.

    Raises:
        NameRefused: a port is none, or two servers are one.
    """
    found = tuple(
        _place(f"n{number}", host, folder=folder, place=place, store=store).model_copy(update={"tls": tls})
        for number, host in enumerate(hosts, 1)
    )
    if len({(s.host, s.port) for s in found}) < len(found):
        raise NameRefused("two servers have the same address", next_step="--host A --host B --host C, all different")
    return found


def _place(name: str, host: str, *, folder: Path, place: str, store: str) -> ServerPlace:
    address, colon, text = host.rpartition(":") if host.count(":") == 1 else (host, "", "")
    port = int(text) if text.isdigit() else (CLIENT_PORT if not colon else 0)
    if not 0 < port <= 65535 - MONITOR_OFFSET or not address:
        raise NameRefused(f"{host!r} is no address", next_step="--host NAME, --host 10.0.0.1 or --host 10.0.0.1:4222")
    return ServerPlace(
        name=name,
        host=address,
        port=port,
        cluster_port=port + CLUSTER_OFFSET,
        http_port=port + MONITOR_OFFSET,
        place=place or str(folder / "servers" / name),
        store=store or str(folder / "servers" / name / "store"),
    )


def create(folder: Folder, fleet: str, servers: tuple[ServerPlace, ...], *, reason: str | None) -> Inventory:
    """Make a fleet's folder, whole or not at all.

    Raises:
        FolderRefused: there is something already.
    """
    _refuse_used(folder.path)
    building = Folder(folder.path.with_name(f".{folder.path.name}.making"))
    shutil.rmtree(building.path, ignore_errors=True)
    building.path.mkdir(mode=0o700, parents=True)
    try:
        inventory = _fill(building, Inventory(fleet=fleet, created=utc_now(), servers=servers))
        building.note("init", fleet, reason)
        with suppress(FileNotFoundError):
            folder.path.rmdir()
        building.path.rename(folder.path)
    except BaseException:
        shutil.rmtree(building.path, ignore_errors=True)
        raise
    return inventory


def _refuse_used(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        known = (path / INVENTORY).exists()
        what = "is a fleet's folder already" if known else "is not empty"
        raise FolderRefused(f"{path} {what}", next_step="fleetcast fleet init ANOTHER_DIR")


def _fill(folder: Folder, inventory: Inventory) -> Inventory:
    now = inventory.created
    authority = make_authority(inventory.fleet, now=now)
    folder.ca.mkdir(mode=0o700)
    keys.write(folder.ca / "ca.pem", authority.certificate, mode=keys.PUBLIC)
    keys.write(folder.ca / "ca.key", authority.key)
    root = publishers.create(folder.signing, now=now).root
    inventory = inventory.model_copy(update={"root_key": root.public})
    for server in inventory.servers:
        _certify_server(folder, inventory, server, now=now)
        if server.store.startswith(server.place):
            (folder.server(server.name) / "store").mkdir(mode=0o700)
    for name, (role, used_by) in FIRST.items():
        inventory = _added(folder, inventory, name, role, used_by=used_by, now=now)
    folder.save(inventory)
    return inventory


def _certify_server(folder: Folder, inventory: Inventory, server: ServerPlace, *, now: datetime) -> None:
    # Every server answers for the names of all: clients check one that was announced by address under a name they know.
    hosts = tuple(dict.fromkeys((server.host, *(s.host for s in inventory.servers))))
    issued = issue(folder.authority(), server.name, fleet=inventory.fleet, hosts=hosts, now=now)
    folder.write_server_tls(server, issued)


def _added(
    folder: Folder,
    inventory: Inventory,
    name: str,
    role: Role,
    *,
    used_by: str,
    now: datetime,
    publisher: str | None = None,
) -> Inventory:
    check_name(inventory, name)
    seed = keys.new_seed()
    key = keys.public_key(seed, where=folder.credentials(name))
    identity = Identity(name=name, role=role, key=key, issued=now, used_by=used_by, publisher=publisher)
    issued = issue(folder.authority(), name, fleet=inventory.fleet, now=now)
    folder.write_credentials(inventory, identity, seed=seed, issued=issued)
    return inventory.with_identity(identity)


def add(
    folder: Folder, name: str, role: Role, *, used_by: str, reason: str | None, publisher: str | None = None
) -> Inventory:
    """Make a key and let it in.

    Args:
        publisher: of a node: whose key it gets, to sign what is published there.

    Raises:
        SecurityError: the name is taken or none, or the folder cannot be used.
    """
    with folder.held():
        inventory = folder.load()
        if publisher is not None:
            _check_publisher(folder, publisher)
        inventory = _added(folder, inventory, name, role, used_by=used_by, now=utc_now(), publisher=publisher)
        folder.save(inventory)
        folder.note("add", name, reason)
    return inventory


def _check_publisher(folder: Folder, name: str) -> None:
    """Refuse a publisher whose key signs nothing, before anything is written."""
    with publishers.opened(folder.signing) as signing:
        if in_use(signing.ring, name, utc_now()) is None or not signing.file_of(name).is_file():
            deploy = folder.credentials("deploy") / SETTINGS_FILE
            raise NameRefused(
                f"no publisher called {name} has a key that signs",
                why=f"looked in {signing.path}",
                next_step=f"fleetcast keys add {name} --folder {signing.path} --config {deploy}",
            )


def revoke(folder: Folder, name: str, *, only_former: bool, reason: str | None) -> Inventory:
    """Let a key in no more; *only_former*: only the one before the last rotation. Raises SecurityError."""
    with folder.held():
        inventory = folder.load()
        identity = inventory.find(name)
        if only_former:
            if identity.former is None:
                raise NameRefused(f"{name} has no former key that is still accepted")
            inventory = inventory.with_identity(identity.model_copy(update={"former": None}))
        else:
            inventory = inventory.without(name, at=utc_now(), reason=reason or "")
        folder.save(inventory)
        if not only_former:
            folder.remove_credentials(name)
        folder.note("revoke former" if only_former else "revoke", name, reason)
    return inventory


async def rotate(
    folder: Folder, name: str, *, keep_old: bool, reason: str | None, seconds: float = proving.PROVE_SECONDS
) -> Reload:
    """Give *name* a new nkey and certificate, prove them, then let the old ones in no more (*keep_old*: later).

    Where the servers cannot be told from here, the new key waits for them: the same command again goes on.

    Raises:
        ProofFailed: the new key does not work; the old one is as it was.
        SecurityError: the folder cannot be used.
    """
    with folder.held():
        inventory = folder.load()
        if _was_proven(folder, inventory.find(name)):
            return _finished(folder, inventory, inventory.find(name), keep_old=keep_old, reason=reason)
        inventory = _begun(folder, inventory, name)
        reload = tell(inventory)
        if reload.by_hand and not _was_waiting(folder, name):
            return reload
        identity = inventory.find(name)
        trouble = await proving.trouble_with(
            folder.settings(inventory, name, fresh=True), identity.role, seconds=seconds
        )
        if trouble:
            _put_back(folder, inventory, identity)
            raise ProofFailed(
                f"the new key of {name} does not work, the old one holds",
                why=trouble,
                next_step="see that the servers run and have these files, then rotate again",
            )
        return _finished(folder, inventory, identity, keep_old=keep_old, reason=reason)


def _was_waiting(folder: Folder, name: str) -> bool:
    """Whether this key waited for servers that are told by hand, since an earlier command."""
    mark = folder.waiting(name)
    if mark.exists():
        return True
    keys.write(mark, "the servers have to read accounts.conf again\n")
    return False


def _was_proven(folder: Folder, identity: Identity) -> bool:
    """Whether an earlier command was interrupted while the new files took the place of the old ones: the old key is
    gone with them, and the servers must not forget the new one."""
    return identity.pending is not None and folder.is_adopting(identity.name, identity.pending)


def _begun(folder: Folder, inventory: Inventory, name: str) -> Inventory:
    """With a new key beside the old one, or with that of a rotation that was interrupted."""
    identity = inventory.find(name)
    if identity.pending is not None and folder.key_of(name, fresh=True) == identity.pending:
        return inventory
    folder.drop_fresh(name)
    seed = keys.new_seed()
    key = keys.public_key(seed, where=folder.credentials(name))
    issued = issue(folder.authority(), name, fleet=inventory.fleet, now=utc_now())
    folder.write_credentials(inventory, identity, seed=seed, issued=issued, fresh=True)
    begun = inventory.with_identity(identity.model_copy(update={"pending": key}))
    folder.save(begun)
    return begun


def _put_back(folder: Folder, inventory: Inventory, identity: Identity) -> None:
    folder.save(inventory.with_identity(identity.model_copy(update={"pending": None})))
    folder.drop_fresh(identity.name)
    tell(inventory)


def _finished(
    folder: Folder, inventory: Inventory, identity: Identity, *, keep_old: bool, reason: str | None
) -> Reload:
    renewed = {
        "key": identity.pending,
        "pending": None,
        "former": identity.key if keep_old else None,
        "issued": utc_now(),
    }
    inventory = inventory.with_identity(identity.model_copy(update=renewed))
    # The files first: daemons that read them here dial anew with them when the old key is refused.
    folder.adopt_fresh(identity.name)
    folder.save(inventory)
    folder.note("rotate", identity.name, reason)
    return tell(inventory)


async def rotate_server(
    folder: Folder, name: str, *, reason: str | None, seconds: float = proving.PROVE_SECONDS
) -> Reload:
    """Give a server a new certificate; the old one comes back when no connection can be made with the new one.

    Raises:
        ProofFailed: as said.
        SecurityError: there is no such server, or the folder cannot be used.
    """
    with folder.held():
        inventory = folder.load()
        server = next((s for s in inventory.servers if s.name == name), None)
        if server is None:
            raise NameRefused(f"no server is called {name!r}")
        place = folder.server(name) / "tls.pem"
        before = place.read_text()
        _certify_server(folder, inventory, server, now=utc_now())
        reload = tell(inventory, [name], certificate=True)
        if not reload.by_hand and (trouble := await _trouble_at(folder, inventory, server, seconds)):
            keys.write(place, before)
            tell(inventory, [name])
            raise ProofFailed(f"{name} does not work with its new certificate, the old one is back", why=trouble)
        folder.note("rotate server", name, reason)
    return reload


async def _trouble_at(folder: Folder, inventory: Inventory, server: ServerPlace, seconds: float) -> str:
    settings: BusSettings = folder.settings(inventory, "deploy").model_copy(update={"url": server.url})
    return await proving.trouble_with(settings, Role.DEPLOY, seconds=seconds)


# -- servers


def tell(inventory: Inventory, names: Iterable[str] | None = None, *, certificate: bool = False) -> Reload:
    """Have servers read their configuration again: those of this machine by SIGHUP. *certificate*: theirs is new."""
    told, by_hand = [], []
    for server in inventory.servers:
        if names is not None and server.name not in set(names):
            continue
        if _signal(server):
            told.append(server.name)
        else:
            by_hand.append(instruction(server, certificate=certificate))
    return Reload(tuple(told), tuple(by_hand))


def instruction(server: ServerPlace, *, certificate: bool = False) -> str:
    """What to do for a server that does not run here, or not with the files of this folder; *certificate*: with the new
    one of its own."""
    configuration = Path(server.place) / CONFIGURATION
    if configuration.exists():
        return f"{server.name} does not run: it reads this when it is started (nats-server -c {configuration})"
    away = f"{server.name} is not reached from here: copy servers/{server.name}"
    if certificate and server.tls:
        return (
            f"{away}/tls.pem to {server.host}, into the folder of its credentials (/etc/nats/credentials), then there: "
            "systemctl restart nats-server"
        )
    what = "*.conf" if server.tls else ""
    return (
        f"{away}/{what} to {server.host}:{server.place}/, then there: systemctl reload nats-server "
        f"(or nats-server --signal reload={server.pid_file})"
    )


def _signal(server: ServerPlace) -> bool:
    """Whether the server runs on this machine, with the files of this folder, and was told."""
    try:
        pid = int(Path(server.pid_file).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    if not any(Path(os.fsdecode(part)).name == "nats-server" for part in command[:1]):
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError:
        return False
    return True
