"""What is known of every secret: whose, how old, until when; what is due, and what is wrong with its file."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from fleetcast.config.settings import BusSettings
from fleetcast.events.signing import RingKey
from fleetcast.security import keys
from fleetcast.security.authority import validity
from fleetcast.security.errors import SecretDamaged, SecurityError
from fleetcast.security.folder import NKEY_FILE, Folder
from fleetcast.security.inventory import WARN_DAYS, Identity, Inventory
from fleetcast.security.publishers import folder as publishers
from fleetcast.security.publishers.folder import KeyFolder
from fleetcast.security.servers import CA_FILE, TLS_FILE

State = Literal["ok", "due", "overdue", "damaged", "rotating"]


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of a fleet.

    Attributes:
        kind: `nkey`, `certificate`, `authority`, `root key` or `publisher key`.
        owner: name of the key or server.
        due: when it should be, or must have been, replaced; None: never, or not known, because it is damaged.
        detail: what is wrong, or what is going on.
    """

    kind: str
    owner: str
    role: str
    used_by: str
    issued: datetime | None
    due: datetime | None
    state: State
    detail: str = ""
    fix: str = ""


def secrets_of(folder: Folder, inventory: Inventory, now: datetime) -> list[Secret]:
    """Every secret in a fleet's folder."""
    found = [_authority(folder, now)]
    for server in inventory.servers:
        path = folder.server(server.name) / TLS_FILE
        found.append(_certificate(path, server.name, "server", f"nats-server at {server.host}", now))
    for identity in inventory.identities:
        found.append(_nkey(folder, identity, now))
        path = folder.credentials(identity.name) / TLS_FILE
        found.append(_certificate(path, identity.name, identity.role.value, identity.used_by, now))
    return found + (_signing(folder, inventory, now) if inventory.root_key is not None else [])


def state_of(due: datetime, now: datetime) -> State:
    """Whether something is due."""
    if now >= due:
        return "overdue"
    return "due" if due - now <= timedelta(days=WARN_DAYS) else "ok"


def _authority(folder: Folder, now: datetime) -> Secret:
    try:
        folder.authority()
    except SecretDamaged as e:
        return Secret("authority", "ca", "signs", "fleetcast fleet", None, None, "damaged", str(e), e.next_step)
    held = validity(folder.ca / CA_FILE)
    state = state_of(held.ends, now)
    fix = "" if state == "ok" else "make a new fleet folder, and move the nodes to it one by one"
    return Secret("authority", "ca", "signs", "fleetcast fleet", held.begins, held.ends, state, fix=fix)


def _signing(folder: Folder, inventory: Inventory, now: datetime) -> list[Secret]:
    """The root key, and the newest key of every publisher that was not revoked."""
    used_by = "fleetcast keys"
    try:
        with publishers.opened(folder.signing) as signing:
            root = Secret("root key", "signing", "signs", used_by, inventory.created, None, "ok")
            newest = {key.owner: key for key in signing.ring.keys if key.revoked is None}
            return [root, *(_publisher(signing, key, now) for key in newest.values())]
    except SecurityError as e:
        return [Secret("root key", "signing", "signs", used_by, None, None, "damaged", str(e), e.next_step)]


def _publisher(signing: KeyFolder, key: RingKey, now: datetime) -> Secret:
    since, until = (datetime.fromisoformat(moment) for moment in (key.added_at, key.not_after))
    state, detail, path = state_of(until, now), "", signing.file_of(key.owner)
    fix = "" if state == "ok" else f"fleetcast keys rotate {key.owner} --folder {signing.path} --reason TEXT"
    # It need not lie here any more: nodes have it.
    if path.exists() and keys.others_may_read(path):
        state, detail, fix = "damaged", f"others may read {path}", f"chmod 600 {path}"
    used_by = f"nodes that publish {', '.join(key.models)}"
    return Secret("publisher key", key.owner, "signs", used_by, since, until, state, detail, fix)


def _certificate(path: Path, owner: str, role: str, used_by: str, now: datetime) -> Secret:
    fix = f"fleetcast fleet rotate {owner}"
    try:
        _whole(path)
        held = validity(path)
    except SecretDamaged as e:
        return Secret("certificate", owner, role, used_by, None, None, "damaged", str(e), e.next_step)
    state = state_of(held.ends, now)
    return Secret("certificate", owner, role, used_by, held.begins, held.ends, state, fix="" if state == "ok" else fix)


def _nkey(folder: Folder, identity: Identity, now: datetime) -> Secret:
    name, role = identity.name, identity.role.value
    fix = f"fleetcast fleet rotate {name}"
    path = folder.credentials(name) / NKEY_FILE
    try:
        public = keys.public_key(_whole(path), where=path)
    except SecretDamaged as e:
        return Secret(
            "nkey", name, role, identity.used_by, identity.issued, None, "damaged", str(e), e.next_step or fix
        )
    state, detail = state_of(identity.due, now), ""
    if public == identity.pending:
        state, detail = "rotating", "a rotation was interrupted after its new key was proven"
    elif public != identity.key:
        state, detail = "damaged", f"{path} is not the key that the servers let in"
    elif identity.pending or identity.former:
        state = "rotating"
        detail = "a new key waits to be proven" if identity.pending else "the former key is still accepted"
        fix = fix if identity.pending else f"fleetcast fleet revoke {name} --old"
    return Secret(
        "nkey", name, role, identity.used_by, identity.issued, identity.due, state, detail, "" if state == "ok" else fix
    )


def _whole(path: Path) -> str:
    try:
        if keys.others_may_read(path):
            raise SecretDamaged(f"others may read {path}", next_step=f"chmod 600 {path}")
        text = path.read_text()
    except OSError as e:
        raise SecretDamaged(f"{path}: {e.strerror}") from e
    if not text.endswith("\n"):
        raise SecretDamaged(f"{path} was not written to its end")
    return text


def own_certificate(settings: BusSettings, now: datetime) -> tuple[State, str] | None:
    """How long the certificate of these settings still holds; None: they have none.

    Raises:
        SecretDamaged: it is no certificate.
    """
    if settings.cert is None:
        return None
    held = validity(settings.cert)
    if now < held.begins:
        return (
            "damaged",
            f"{settings.cert} is valid from {held.begins:%Y-%m-%d %H:%M} UTC on: one of the clocks is wrong",
        )
    left = (held.ends - now).days
    said = f"expired on {held.ends:%Y-%m-%d}" if now >= held.ends else f"ends on {held.ends:%Y-%m-%d}, in {left} days"
    return state_of(held.ends, now), f"{settings.cert} {said}"
